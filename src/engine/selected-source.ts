import type { BlockSet } from "../bytes/block-set.ts";
import { ExtentList } from "../bytes/extents.ts";
import { DATA, HOLE, MapRuns } from "../bytes/runs.ts";
import { ReadError } from "../errors.ts";
import type { Source } from "../io/source.ts";

/** Runs in one batch of the map. */
const BATCH = 16384;

/**
 * A volume restricted to some of its blocks: the same size, a smaller map, zeros where nothing was selected. Selected
 * blocks past the end of the base source are a ReadError.
 */
export class SelectedSource implements Source {
  readonly size: number;
  readonly label: string;
  private readonly base: Source;
  private readonly blocks: BlockSet;
  private readonly blockSize: number;

  /** `size` in bytes: what the volume says of itself, which may be more than the base holds. */
  constructor(base: Source, blocks: BlockSet, blockSize: number, size: number) {
    this.base = base;
    this.blocks = blocks;
    this.blockSize = blockSize;
    this.size = size;
    this.label = base.label;
  }

  /** Bytes that the map says are stored, and whether all of them are plain bytes of a host file. */
  measure(): { readonly stored: number; readonly plain: boolean } {
    const { blocks, blockSize, size } = this;
    const last = Math.ceil(size / blockSize) - 1;
    const short = last >= 0 && blocks.has(last) ? (last + 1) * blockSize - size : 0;
    const { plain, size: held } = this.base;
    const beyond = new ExtentList();
    blocks.runs(Math.floor(held / blockSize), blocks.limit, beyond, 1);
    const whole = held >= size || beyond.count === 0;
    return {
      stored: blocks.count * blockSize - short,
      plain: whole && plain !== undefined && plain.file.fd >= 0,
    };
  }

  map(from: number, to: number): MapRuns {
    const bs = this.blockSize;
    const list = new ExtentList();
    const lastBlock = Math.ceil(to / bs);
    const reached = this.blocks.runs(Math.floor(from / bs), lastBlock, list, BATCH);
    const end = reached >= lastBlock || reached >= this.blocks.limit ? to : Math.min(to, reached * bs);
    const plain = this.base.plain ?? this.base.underlying;
    const runs = new MapRuns(from);
    for (let i = 0; i < list.count; i++) {
      const s = Math.max(list.start(i) * bs, from);
      const e = Math.min(list.end(i) * bs, end);
      if (s >= e) continue;
      runs.push(s - runs.end, HOLE);
      // Past the base's end there is nothing to be read, even where its host file goes on (a partition).
      if (plain === undefined || e > this.base.size) runs.push(e - s, DATA);
      else runs.push(e - s, DATA, 0, s + plain.base, plain.file);
    }
    runs.push(end - runs.end, HOLE);
    return runs;
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const bs = this.blockSize;
    const length = Math.max(0, Math.min(into.length, this.size - at));
    const list = new ExtentList();
    this.blocks.runs(Math.floor(at / bs), Math.ceil((at + length) / bs), list);
    if (list.count === 1 && list.start(0) * bs <= at && list.end(0) * bs >= at + length)
      return this.fill(into.subarray(0, length), at);
    let pending: Promise<number> | null = null;
    let done = 0;
    for (let i = 0; i < list.count; i++) {
      const s = Math.max(list.start(i) * bs - at, 0);
      const e = Math.min(list.end(i) * bs - at, length);
      into.fill(0, done, s);
      done = e;
      if (pending !== null) pending = pending.then(async () => this.fill(into.subarray(s, e), at + s));
      else {
        const r = this.fill(into.subarray(s, e), at + s);
        if (r instanceof Promise) pending = r;
      }
    }
    into.fill(0, done, length);
    return pending === null ? length : pending.then(() => length);
  }

  close(): void | Promise<void> {
    return this.base.close();
  }

  private fill(into: Uint8Array, at: number): number | Promise<number> {
    const check = (n: number): number => {
      if (n === into.length) return n;
      throw new ReadError(
        "ESHORT",
        `${this.label}: source ends at byte ${at + n}, ${into.length - n} bytes missing`,
        at + n,
      );
    };
    const r = this.base.read(into, at);
    return r instanceof Promise ? r.then(check) : check(r);
  }
}
