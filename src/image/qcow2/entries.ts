import type { WriteList } from "../packer.ts";
import { COPIED_HIGH } from "./layout.ts";

const PIECE = 65536;

/**
 * Collects the entries of one L2 table that one chunk touches and hands them on as one segment: the first
 * touched entry to the last. Entries in between that were not set are zero.
 */
export class L2Segment {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  /** Bytes of an entry: 8, or 16 where they are extended. */
  private readonly size: number;
  private first = 0;
  private end = 0;

  /** `entries`: entries of one L2 table; `extended`: of 16 bytes, with a word of subclusters. */
  constructor(entries: number, extended = false) {
    this.size = extended ? 16 : 8;
    this.bytes = new Uint8Array(entries * this.size);
    this.view = new DataView(this.bytes.buffer);
  }

  /**
   * Sets `count` entries from `index` to clusters of `step` bytes from `offset`, flagged as copied.
   * Ascending.
   */
  set(index: number, count: number, offset: number, step: number): void {
    this.reach(index);
    const { view, size } = this;
    let high = Math.floor(offset / 0x100000000);
    let low = offset - high * 0x100000000;
    for (let p = index * size, last = p + count * size; p < last; p += size) {
      view.setUint32(p, high | COPIED_HIGH);
      view.setUint32(p + 4, low);
      if (size === 16) this.setSubclusters(p, 0, 0xffffffff);
      low += step;
      if (low >= 0x100000000) {
        low -= 0x100000000;
        high++;
      }
    }
    this.end = Math.max(this.end, index + count);
  }

  /** Sets `count` entries from `index` to two words each, high first, and both subcluster words where there are any. */
  setWords(index: number, count: number, high: number, low: number, zeros = 0, used = 0): void {
    this.reach(index);
    const { view, size } = this;
    for (let p = index * size, last = p + count * size; p < last; p += size) {
      view.setUint32(p, high);
      view.setUint32(p + 4, low);
      if (size === 16) this.setSubclusters(p, zeros, used);
    }
    this.end = Math.max(this.end, index + count);
  }

  /** Sets the subclusters of an entry that was set before: which read as zeros, which are stored. */
  subclusters(index: number, zeros: number, used: number): void {
    this.setSubclusters(index * 16, zeros, used);
  }

  private setSubclusters(p: number, zeros: number, used: number): void {
    this.view.setUint32(p + 8, zeros);
    this.view.setUint32(p + 12, used);
  }

  private reach(index: number): void {
    if (this.end === this.first) this.first = this.end = index;
    if (index > this.end) this.bytes.fill(0, this.end * this.size, index * this.size);
  }

  /** Writes the segment of the table at `table` and forgets it. */
  flush(table: number, out: WriteList): void {
    if (this.end > this.first)
      out.meta(
        table + this.first * this.size,
        this.bytes.subarray(this.first * this.size, this.end * this.size),
      );
    this.first = this.end = 0;
  }
}

/**
 * Writes `count` table entries taken from `values` (offsets; 0 stays 0, others get `flags` in the high word)
 * at `target`.
 */
export function writeTable(
  values: Float64Array,
  from: number,
  count: number,
  flags: number,
  target: number,
  out: WriteList,
): void {
  const bytes = new Uint8Array(Math.min(count * 8, PIECE));
  const view = new DataView(bytes.buffer);
  for (let done = 0; done < count; ) {
    const n = Math.min(count - done, PIECE / 8);
    for (let i = 0; i < n; i++) {
      const v = values[from + done + i];
      const high = Math.floor(v / 0x100000000);
      view.setUint32(i * 8, v === 0 ? 0 : high | flags);
      view.setUint32(i * 8 + 4, v - high * 0x100000000);
    }
    out.meta(target + done * 8, bytes.subarray(0, n * 8));
    done += n;
  }
}
