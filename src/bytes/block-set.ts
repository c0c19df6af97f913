import { ExtentList } from "./extents.ts";

const PAGE_BITS = 32768;
const PAGE_WORDS = PAGE_BITS / 32;
/** Bitmap pages kept as they are before idle ones are packed into runs (4 KiB each: 32 MiB). */
const LIVE_PAGES = 8192;

type Page = Uint32Array | Uint16Array;
const FULL = new Uint32Array(0);

/**
 * A set of block numbers of a volume of up to 2^53 blocks. Sparse: pages of 32768 blocks are absent, full, a bitmap, or
 * (where many are in use) a packed list of run bounds, so that memory follows what is set and not the volume's size.
 */
export class BlockSet {
  /** Blocks the set ranges over: members are in [0, limit). */
  readonly limit: number;
  private readonly pages = new Map<number, Page>();
  private sorted: number[] | null = null;
  private live = 0;
  private size = 0;
  private lastIndex = -1;
  private lastPage: Uint32Array | null = null;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Members, in blocks. */
  get count(): number {
    return this.size;
  }

  /** Adds [from, to), clipped to the limit; returns how many blocks were new. */
  add(from: number, to: number = from + 1): number {
    if (from < 0) from = 0;
    if (to > this.limit) to = this.limit;
    let added = 0;
    while (from < to) {
      const index = Math.floor(from / PAGE_BITS);
      const base = index * PAGE_BITS;
      const end = Math.min(to, base + PAGE_BITS);
      if (end - from === PAGE_BITS) {
        const page = this.pages.get(index);
        const before = page === undefined ? 0 : pageCount(page);
        if (page instanceof Uint32Array && page !== FULL) this.live--;
        if (page === undefined) this.sorted = null;
        if (this.lastIndex === index) this.lastIndex = -1;
        this.pages.set(index, FULL);
        added += PAGE_BITS - before;
      } else {
        const words = this.writable(index);
        if (words !== null) added += setBits(words, from - base, end - base);
      }
      from = end;
    }
    this.size += added;
    return added;
  }

  /** Removes [from, to); returns how many blocks were members. */
  remove(from: number, to: number = from + 1): number {
    if (from < 0) from = 0;
    if (to > this.limit) to = this.limit;
    let removed = 0;
    while (from < to) {
      const index = Math.floor(from / PAGE_BITS);
      const base = index * PAGE_BITS;
      const end = Math.min(to, base + PAGE_BITS);
      let page = this.pages.get(index);
      if (page !== undefined) {
        if (page === FULL) {
          page = new Uint32Array(PAGE_WORDS).fill(0xffffffff);
          this.pages.set(index, page);
          this.live++;
          this.lastIndex = -1;
        }
        const words = this.writable(index);
        if (words !== null) removed += clearBits(words, from - base, end - base);
      }
      from = end;
    }
    this.size -= removed;
    return removed;
  }

  has(block: number): boolean {
    const index = Math.floor(block / PAGE_BITS);
    const page = this.pages.get(index);
    if (page === undefined) return false;
    if (page === FULL) return true;
    const bit = block - index * PAGE_BITS;
    if (page instanceof Uint32Array) return ((page[bit >>> 5] >>> (bit & 31)) & 1) === 1;
    for (let i = 0; i < page.length; i += 2) {
      if (bit < page[i]) return false;
      if (bit <= page[i + 1]) return true;
    }
    return false;
  }

  /** Adds every member of `other`. */
  union(other: BlockSet): void {
    const runs = new ExtentList();
    for (let from = 0; from < other.limit; ) {
      runs.clear();
      from = other.runs(from, other.limit, runs, 65536);
      for (let i = 0; i < runs.count; i++) this.add(runs.start(i), runs.end(i));
    }
  }

  /**
   * Appends runs of members in [from, to) to `into`, ascending and merged, until about `most` runs are in it; returns
   * where to go on (`to` when done).
   */
  runs(from: number, to: number, into: ExtentList, most = Number.POSITIVE_INFINITY): number {
    if (to > this.limit) to = this.limit;
    const keys = this.keys();
    let k = lowerBound(keys, Math.floor(from / PAGE_BITS));
    for (; k < keys.length; k++) {
      const base = keys[k] * PAGE_BITS;
      if (base >= to) return to;
      if (into.count >= most) return base;
      const page = this.pages.get(keys[k])!;
      const first = Math.max(from - base, 0);
      const last = Math.min(to - base, PAGE_BITS);
      if (page === FULL) into.push(base + first, base + last);
      else if (page instanceof Uint32Array) bitmapRuns(page, first, last, base, into);
      else
        for (let i = 0; i < page.length; i += 2) {
          const s = Math.max(page[i], first);
          const e = Math.min(page[i + 1] + 1, last);
          if (s < e) into.push(base + s, base + e);
        }
    }
    return to;
  }

  private keys(): number[] {
    if (this.sorted === null) this.sorted = [...this.pages.keys()].sort((a, b) => a - b);
    return this.sorted;
  }

  /** The page as a bitmap that may be changed, or null where it is full. */
  private writable(index: number): Uint32Array | null {
    if (index === this.lastIndex) return this.lastPage;
    const page = this.pages.get(index);
    if (page === FULL) return null;
    let words: Uint32Array;
    if (page instanceof Uint32Array) words = page;
    else {
      if (this.live >= LIVE_PAGES) this.pack();
      words = new Uint32Array(PAGE_WORDS);
      if (page === undefined) this.sorted = null;
      else for (let i = 0; i < page.length; i += 2) setBits(words, page[i], page[i + 1] + 1);
      this.pages.set(index, words);
      this.live++;
    }
    this.lastIndex = index;
    this.lastPage = words;
    return words;
  }

  /** Turns bitmap pages into packed runs (or full, or nothing) where that is smaller. */
  private pack(): void {
    this.lastIndex = -1;
    const runs = new ExtentList();
    for (const [index, page] of this.pages) {
      if (!(page instanceof Uint32Array) || page === FULL) continue;
      runs.clear();
      bitmapRuns(page, 0, PAGE_BITS, 0, runs);
      if (runs.count === 0) {
        this.pages.delete(index);
        this.sorted = null;
        this.live--;
      } else if (runs.count === 1 && runs.end(0) - runs.start(0) === PAGE_BITS) {
        this.pages.set(index, FULL);
        this.live--;
      } else if (runs.count < 768) {
        const packed = new Uint16Array(runs.count * 2);
        for (let i = 0; i < runs.count; i++) {
          packed[2 * i] = runs.start(i);
          packed[2 * i + 1] = runs.end(i) - 1;
        }
        this.pages.set(index, packed);
        this.live--;
      }
    }
  }
}

function lowerBound(keys: number[], key: number): number {
  let lo = 0;
  let hi = keys.length;
  while (lo < hi) {
    const mid = (lo + hi) >>> 1;
    if (keys[mid] < key) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

function popcount32(v: number): number {
  v -= (v >>> 1) & 0x55555555;
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return (((v + (v >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

function pageCount(page: Page): number {
  if (page === FULL) return PAGE_BITS;
  let n = 0;
  if (page instanceof Uint32Array) for (let i = 0; i < PAGE_WORDS; i++) n += popcount32(page[i]);
  else for (let i = 0; i < page.length; i += 2) n += page[i + 1] + 1 - page[i];
  return n;
}

/** Mask of bits [from, to) of one word, 0 <= from < to <= 32. */
function mask(from: number, to: number): number {
  return ((0xffffffff >>> (32 - (to - from))) << from) >>> 0;
}

function setBits(words: Uint32Array, from: number, to: number): number {
  let added = 0;
  while (from < to) {
    const w = from >>> 5;
    const end = Math.min(to, (w + 1) << 5);
    const m = mask(from & 31, end - (w << 5));
    const old = words[w];
    if ((old & m) >>> 0 !== m) {
      added += popcount32(m & ~old);
      words[w] = old | m;
    }
    from = end;
  }
  return added;
}

function clearBits(words: Uint32Array, from: number, to: number): number {
  let removed = 0;
  while (from < to) {
    const w = from >>> 5;
    const end = Math.min(to, (w + 1) << 5);
    const m = mask(from & 31, end - (w << 5));
    removed += popcount32(words[w] & m);
    words[w] &= ~m;
    from = end;
  }
  return removed;
}

function bitmapRuns(words: Uint32Array, from: number, to: number, base: number, into: ExtentList): void {
  let bit = from;
  while (bit < to) {
    let w = bit >>> 5;
    let v = (words[w] >>> (bit & 31)) << (bit & 31);
    while (v === 0 && ++w < PAGE_WORDS) v = words[w];
    if (v === 0) return;
    const start = (w << 5) + (31 - Math.clz32(v & -v));
    if (start >= to) return;
    let inv = ~words[w] & (0xffffffff << (start & 31));
    while (inv === 0 && ++w < PAGE_WORDS) inv = ~words[w];
    const end = inv === 0 ? PAGE_BITS : (w << 5) + (31 - Math.clz32(inv & -inv));
    into.push(base + start, base + Math.min(end, to));
    bit = end;
  }
}
