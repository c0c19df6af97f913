import type { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { ReadError } from "../../errors.ts";
import type { NameScrambler } from "../../fs/ext/name-scrambler.ts";
import type { DurableFile } from "../../io/durable.ts";
import type { BlockRange } from "./plan.ts";

/** The blocks of one step of a move, side by side in memory. */
export class StepBuffer {
  /** Runs of the step's blocks. */
  readonly runs = new ExtentList();
  /** Their bytes, one after the other. */
  data = new Uint8Array(0);
  private room = new Uint8Array(0);
  private old = new Uint8Array(0);
  private readonly blockSize: number;

  constructor(blockSize: number) {
    this.blockSize = blockSize;
  }

  /** Blocks of the step. */
  get blocks(): number {
    return this.runs.total();
  }

  /** Takes the members of `set` in a range. */
  choose(set: BlockSet, { first, last }: BlockRange): void {
    this.runs.clear();
    set.runs(first, last, this.runs);
    const length = this.runs.total() * this.blockSize;
    if (this.room.length < length) this.room = new Uint8Array(length);
    this.data = this.room.subarray(0, length);
  }

  /** Reads them from a volume that starts at byte `from` of the file. */
  load(file: DurableFile, from: number): void {
    this.each((at, length, offset) => {
      const n = file.read(this.data.subarray(offset, offset + length), from + at);
      if (n < length)
        throw new ReadError(
          "ESHORT",
          `${file.label}: ends at byte ${from + at + n}, amid the filesystem`,
          from + at + n,
        );
    });
  }

  /** Scrambles the names in those of a range that are in `set`. */
  scramble(names: NameScrambler, set: BlockSet, part: BlockRange): void {
    const list = new ExtentList();
    set.runs(part.first, part.last, list);
    const bs = this.blockSize;
    let k = 0;
    let offset = 0;
    for (let i = 0; i < list.count; i++)
      for (let block = list.start(i); block < list.end(i); ) {
        while (k < this.runs.count && this.runs.end(k) <= block) {
          offset += (this.runs.end(k) - this.runs.start(k)) * bs;
          k++;
        }
        if (k === this.runs.count) return;
        const first = Math.max(block, this.runs.start(k));
        const last = Math.min(list.end(i), this.runs.end(k));
        if (last > first) {
          const at = offset + (first - this.runs.start(k)) * bs;
          names.scramble(this.data.subarray(at, at + (last - first) * bs), first);
        }
        block = Math.max(last, first);
      }
  }

  /** Takes bytes that were kept, in place of reading them. */
  fill(data: Uint8Array): boolean {
    if (data.length !== this.data.length) return false;
    this.data.set(data);
    return true;
  }

  /** Writes them to a volume that starts at byte `to`. */
  store(file: DurableFile, to: number): void {
    this.each((at, length, offset) => file.write(this.data.subarray(offset, offset + length), to + at));
  }

  /**
   * As `store`, leaving out blocks that are there already; returns how many. `write` gets the first block of
   * each run of others, with their bytes.
   */
  storeDifferent(file: DurableFile, to: number, write: (block: number, bytes: Uint8Array) => void): number {
    const bs = this.blockSize;
    let same = 0;
    this.each((at, length, offset) => {
      if (this.old.length < length) this.old = new Uint8Array(length);
      const held = file.read(this.old.subarray(0, length), to + at);
      let from = 0;
      const flush = (end: number) => {
        if (end > from) write((at + from) / bs, this.data.subarray(offset + from, offset + end));
      };
      for (let b = 0; b < length; b += bs) {
        if (b + bs > held || !equal(this.data, offset + b, this.old, b, bs)) continue;
        same++;
        flush(b);
        from = b + bs;
      }
      flush(length);
    });
    return same;
  }

  /** Whether a volume that starts at byte `to` holds bytes of this CRC there. */
  crcAt(file: DurableFile, to: number, crc: (bytes: Uint8Array, from?: number) => number): number {
    let value = 0xffffffff;
    this.each((at, length, offset) => {
      const bytes = this.data.subarray(offset, offset + length);
      const n = file.read(bytes, to + at);
      value = crc(bytes.subarray(0, n), value);
    });
    return value;
  }

  /** Each run: its offset in the volume, its length, its offset in `data`; all in bytes. */
  private each(use: (at: number, length: number, offset: number) => void): void {
    const bs = this.blockSize;
    let offset = 0;
    for (let i = 0; i < this.runs.count; i++) {
      const length = (this.runs.end(i) - this.runs.start(i)) * bs;
      use(this.runs.start(i) * bs, length, offset);
      offset += length;
    }
  }
}

function equal(a: Uint8Array, ao: number, b: Uint8Array, bo: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[ao + i] !== b[bo + i]) return false;
  return true;
}
