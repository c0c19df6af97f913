import { Kernel } from "../../../kernel/kernel.ts";
import type { WordKind } from "./report.ts";

export const WORD_KINDS: readonly WordKind[] = ["name", "target", "attribute name", "value", "label", "path"];
export const LEAST_WORD = 4;
/** Of longer words only so many bytes are looked for. */
export const MOST_WORD = 4096;

const NONE = 0xffffffff;

/**
 * The original words that must not turn up in the result. Kept as 64-bit hashes: 20 bytes a word. A word is
 * looked for by a window of four of its bytes, then by its hash; words that share window, place of the
 * window and length share a shape.
 */
export class Words {
  /** Different words. */
  count = 0;
  /** Words that were refused because all their bytes are the same. */
  uniform = 0;
  /** Open addressing by hash: index of a word + 1. */
  private table = new Uint32Array(1 << 12);
  private hashLow = new Uint32Array(1 << 11);
  private hashHigh = new Uint32Array(1 << 11);
  private kinds = new Uint8Array(1 << 11);

  /** Shapes: chains of those whose window falls into the same bucket. */
  shapes = 0;
  private buckets = new Uint32Array(1 << 12).fill(NONE);
  private windows = new Uint32Array(1 << 10);
  private places = new Uint32Array(1 << 10);
  private lengths = new Uint32Array(1 << 10);
  private next = new Uint32Array(1 << 10);
  private readonly kernel = Kernel.get();

  /** Takes the words that listNames left in the out area: `n` groups of six from word 4 on. */
  addListed(n: number): void {
    const { out } = this.kernel;
    for (let i = 4; n > 0; n--, i += 6) {
      if (out[i + 1] < LEAST_WORD) continue;
      this.insert(out[i + 2], out[i + 3], out[i + 4], out[i + 5], out[i + 1], 0);
    }
  }

  /** Takes one word, of which at most MOST_WORD bytes count. */
  add(word: Uint8Array, kind: WordKind): void {
    const length = Math.min(word.length, MOST_WORD);
    if (length < LEAST_WORD) return;
    const { kernel } = this;
    kernel.borrow(length, (slot) => {
      slot.bytes.set(word.subarray(0, length));
      kernel.raw.describeWord(slot.at, length);
    });
    const { out } = kernel;
    this.insert(out[0], out[1], out[2], out[3], length, WORD_KINDS.indexOf(kind));
  }

  /** A text field or path: the whole and its components. */
  addPath(path: Uint8Array, kind: WordKind): void {
    this.add(path, kind);
    for (let from = 0; from < path.length; ) {
      let to = path.indexOf(0x2f, from);
      if (to < 0) to = path.length;
      if (to - from < path.length) this.add(path.subarray(from, to), kind);
      from = to + 1;
    }
  }

  /** Index of the word with this hash, or -1. */
  find(low: number, high: number): number {
    const mask = this.table.length - 1;
    for (let i = low & mask; ; i = (i + 1) & mask) {
      const at = this.table[i];
      if (at === 0) return -1;
      if (this.hashLow[at - 1] === low && this.hashHigh[at - 1] === high) return at - 1;
    }
  }

  kindOf(word: number): WordKind {
    return WORD_KINDS[this.kinds[word]];
  }

  /** Calls `use` with every shape of a window: where it lies in the word, and the word's length. */
  eachShape(window: number, use: (place: number, length: number) => void): void {
    for (let s = this.buckets[this.bucketOf(window)]; s !== NONE; s = this.next[s])
      if (this.windows[s] === window) use(this.places[s], this.lengths[s]);
  }

  /** Sets the bits of all windows in a filter that scanWords reads. */
  fillFilter(filter: Uint8Array, shift: number): void {
    filter.fill(0);
    for (let s = 0; s < this.shapes; s++) {
      const h = Math.imul(this.windows[s], 0x9e3779b1) >>> shift;
      filter[h >>> 3] |= 1 << (h & 7);
    }
  }

  private insert(
    window: number,
    low: number,
    high: number,
    place: number,
    length: number,
    kind: number,
  ): void {
    if (place === NONE) {
      this.uniform++;
      return;
    }
    const { table } = this;
    const mask = table.length - 1;
    let i = low & mask;
    for (; table[i] !== 0; i = (i + 1) & mask) {
      const at = table[i] - 1;
      if (this.hashLow[at] === low && this.hashHigh[at] === high) return;
    }
    const at = this.count;
    if (at === this.hashLow.length) this.growWords();
    this.hashLow[at] = low;
    this.hashHigh[at] = high;
    this.kinds[at] = kind;
    this.count = at + 1;
    table[i] = this.count;
    if (this.count * 2 > table.length) this.growTable();
    this.insertShape(window, place, length);
  }

  private insertShape(window: number, place: number, length: number): void {
    const bucket = this.bucketOf(window);
    for (let s = this.buckets[bucket]; s !== NONE; s = this.next[s])
      if (this.windows[s] === window && this.places[s] === place && this.lengths[s] === length) return;
    const s = this.shapes++;
    if (s === this.windows.length) {
      this.windows = wider(this.windows);
      this.places = wider(this.places);
      this.lengths = wider(this.lengths);
      this.next = wider(this.next);
    }
    this.windows[s] = window;
    this.places[s] = place;
    this.lengths[s] = length;
    this.next[s] = this.buckets[bucket];
    this.buckets[bucket] = s;
    if (this.shapes > this.buckets.length) this.growBuckets();
  }

  private bucketOf(window: number): number {
    return (Math.imul(window, 0x9e3779b1) >>> 8) & (this.buckets.length - 1);
  }

  private growWords(): void {
    this.hashLow = wider(this.hashLow);
    this.hashHigh = wider(this.hashHigh);
    const kinds = new Uint8Array(this.kinds.length * 2);
    kinds.set(this.kinds);
    this.kinds = kinds;
  }

  private growTable(): void {
    const table = new Uint32Array(this.table.length * 2);
    const mask = table.length - 1;
    for (let at = 0; at < this.count; at++) {
      let i = this.hashLow[at] & mask;
      while (table[i] !== 0) i = (i + 1) & mask;
      table[i] = at + 1;
    }
    this.table = table;
  }

  private growBuckets(): void {
    this.buckets = new Uint32Array(this.buckets.length * 2).fill(NONE);
    for (let s = 0; s < this.shapes; s++) {
      const bucket = this.bucketOf(this.windows[s]);
      this.next[s] = this.buckets[bucket];
      this.buckets[bucket] = s;
    }
  }
}

function wider(a: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const b = new Uint32Array(a.length * 2);
  b.set(a);
  return b;
}
