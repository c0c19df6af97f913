import type { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { type HOLE, MapRuns } from "../../bytes/runs.ts";
import type { Source } from "../../io/source.ts";
import { NAME_LENGTHS, NameScrambler } from "./name-scrambler.ts";

/** Directory bytes replayed at once. */
const PIECE = 256 * 1024;
/** Directory blocks between two checkpoints, as long as there are few of these. */
const SPACING = 1024;
/** Checkpoints kept: 1 KiB each. */
const MOST_CHECKPOINTS = 4096;

interface Checkpoint {
  readonly block: number;
  readonly counters: Uint32Array;
}

/**
 * An ext volume with its names scrambled as `e2image -s` does (see NameScrambler): directory blocks are rewritten as
 * they are read. What a name becomes depends on every directory block before it: reads in ascending order cost nothing
 * extra, others go back to a checkpoint and count from there. Reads answer synchronously where the base does.
 */
export class ScrambledSource implements Source {
  readonly size: number;
  readonly label: string;
  private readonly base: Source;
  private readonly directories: BlockSet;
  private readonly blockSize: number;
  private readonly names: NameScrambler;
  /** Every directory block before this one is counted. */
  private cursor = 0;
  private readonly checkpoints: Checkpoint[] = [{ block: 0, counters: new Uint32Array(NAME_LENGTHS) }];
  private spacing = SPACING;
  private sinceCheckpoint = 0;
  /** Corrupt entries of blocks before this one were told. */
  private told = 0;
  private busy: Promise<unknown> | null = null;

  /**
   * `directories`: the blocks to rewrite, as selected. `onCorrupt` is told of each corrupt entry once: its block, and
   * native's line without its end.
   */
  constructor(
    base: Source,
    directories: BlockSet,
    blockSize: number,
    onCorrupt: (block: number, line: string) => void = () => {},
  ) {
    this.base = base;
    this.size = base.size;
    this.label = base.label;
    this.directories = directories;
    this.blockSize = blockSize;
    this.names = new NameScrambler(blockSize, (block, line) => {
      if (block >= this.told) onCorrupt(block, line);
    });
  }

  /** The base's map, without host files: their bytes are not these. */
  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    const r = this.base.map(from, to);
    return r instanceof Promise ? r.then(withoutHost) : withoutHost(r);
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    if (this.busy === null) {
      const r = run(this.steps(into, at));
      return r instanceof Promise ? this.queue(r) : r;
    }
    return this.queue(this.busy.then(() => run(this.steps(into, at))));
  }

  close(): void | Promise<void> {
    return this.base.close();
  }

  private queue(job: Promise<number>): Promise<number> {
    const settled = job
      .catch(() => {})
      .finally(() => {
        if (this.busy === settled) this.busy = null;
      });
    this.busy = settled;
    return job;
  }

  private *steps(into: Uint8Array, at: number): Steps<number> {
    const bs = this.blockSize;
    const n = yield this.base.read(into, at);
    const end = at + n;
    const runs = new ExtentList();
    this.directories.runs(Math.floor(at / bs), Math.ceil(end / bs), runs);
    for (let i = 0; i < runs.count; i++) {
      let block = runs.start(i);
      yield* this.advance(block);
      while (block < runs.end(i)) {
        const from = block * bs;
        const whole = from < at ? 0 : Math.min(Math.floor((end - from) / bs), runs.end(i) - block);
        if (whole > 0) {
          this.rewrite(into.subarray(from - at, from - at + whole * bs), block);
          block += whole;
          continue;
        }
        const part = new Uint8Array(bs);
        yield this.base.read(part, from);
        this.rewrite(part, block++);
        const first = Math.max(from, at);
        into.set(part.subarray(first - from, Math.min(from + bs, end) - from), first - at);
      }
    }
    return n;
  }

  /** Brings the counters to where every directory block before `block` is counted, and no other. */
  private *advance(block: number): Steps<void> {
    if (block < this.cursor) this.rewind(block);
    const bs = this.blockSize;
    const runs = new ExtentList();
    while (this.cursor < block) {
      runs.clear();
      const reached = this.directories.runs(this.cursor, block, runs, 1024);
      for (let i = 0; i < runs.count; i++)
        for (let b = runs.start(i); b < runs.end(i); ) {
          const count = Math.min(runs.end(i) - b, Math.floor(PIECE / bs));
          const bytes = new Uint8Array(count * bs);
          yield this.base.read(bytes, b * bs);
          this.rewrite(bytes, b);
          b += count;
        }
      this.cursor = Math.max(this.cursor, Math.min(reached, block));
    }
  }

  private rewrite(bytes: Uint8Array, block: number): void {
    this.names.scramble(bytes, block);
    const blocks = bytes.length / this.blockSize;
    this.cursor = block + blocks;
    this.told = Math.max(this.told, this.cursor);
    this.sinceCheckpoint += blocks;
    const { checkpoints } = this;
    if (this.sinceCheckpoint < this.spacing || this.cursor <= checkpoints[checkpoints.length - 1].block)
      return;
    checkpoints.push({ block: this.cursor, counters: this.names.counters.slice() });
    this.sinceCheckpoint = 0;
    if (checkpoints.length < MOST_CHECKPOINTS) return;
    checkpoints.splice(0, checkpoints.length, ...checkpoints.filter((_, i) => i % 2 === 0));
    this.spacing *= 2;
  }

  private rewind(block: number): void {
    let lo = 0;
    let hi = this.checkpoints.length;
    while (hi - lo > 1) {
      const mid = (lo + hi) >>> 1;
      if (this.checkpoints[mid].block <= block) lo = mid;
      else hi = mid;
    }
    const from = this.checkpoints[lo];
    this.names.counters.set(from.counters);
    this.cursor = from.block;
    this.sinceCheckpoint = 0;
  }
}

/** Work that reads: yields what `read` answers, gets the count back. */
type Steps<T> = Generator<number | Promise<number>, T, number>;

/** Runs steps to their end, synchronously as long as reads answer so. */
function run<T>(steps: Steps<T>): T | Promise<T> {
  let r = steps.next();
  while (!r.done) {
    if (r.value instanceof Promise) return runSlowly(steps, r.value);
    r = steps.next(r.value);
  }
  return r.value;
}

async function runSlowly<T>(steps: Steps<T>, first: Promise<number>): Promise<T> {
  let r = steps.next(await first);
  while (!r.done) r = steps.next(await r.value);
  return r.value;
}

function withoutHost(runs: MapRuns): MapRuns {
  const out = new MapRuns(runs.count > 0 ? runs.at[0] : runs.end);
  for (let i = 0; i < runs.count; i++) out.push(runs.length[i], runs.state[i] as typeof HOLE, runs.depth[i]);
  return out;
}
