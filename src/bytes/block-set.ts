import { bitmapRuns, clearBits, countBits, firstBit, setBits } from "./bitmap.ts";
import { ExtentList } from "./extents.ts";

const PAGE_BITS = 32768;
const PAGE_WORDS = PAGE_BITS / 32;
/** Bitmap pages kept as they are before idle ones are packed into runs (4 KiB each: 32 MiB). */
const LIVE_PAGES = 8192;
/** A page of fewer runs than this is smaller as a list of runs. */
const PACKED_RUNS = 768;

/** A bitmap, or a packed list of runs as pairs (first, last). */
type Page = Uint32Array | Uint16Array;

/**
 * A set of block numbers of a volume of up to 2^53 blocks. Sparse: pages of 32768 blocks are absent, full (members of a
 * set of page numbers, which is sparse in turn), a bitmap, or, where many are in use, a packed list of run bounds; so
 * memory follows what is set and not the volume's size.
 */
export class BlockSet {
  /** Blocks the set ranges over: members are in [0, limit). */
  readonly limit: number;
  /** Pages that hold something and aren't in `full`. */
  private readonly pages = new Map<number, Page>();
  /** Numbers of the full pages; null as long as there are none. */
  private full: BlockSet | null = null;
  private readonly scratch = new ExtentList();
  private sorted: number[] | null = null;
  private live = 0;
  private size = 0;
  private lastIndex = -1;
  private lastPage: Uint32Array | null = null;
  private readonly livePages: number;
  private packAt: number;

  /**
   * An empty set of blocks in [0, limit). `livePages` is how many bitmap pages (4 KiB each) may be live before they are
   * packed into runs.
   */
  constructor(limit: number, livePages = LIVE_PAGES) {
    this.limit = limit;
    this.livePages = livePages;
    this.packAt = livePages;
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
      const pages = from === base ? Math.floor((to - from) / PAGE_BITS) : 0;
      if (pages > 0) {
        const dropped = this.drop(index, index + pages);
        this.full ??= new BlockSet(Math.ceil(this.limit / PAGE_BITS), this.livePages);
        added += this.full.add(index, index + pages) * PAGE_BITS - dropped;
        from += pages * PAGE_BITS;
      } else {
        const end = Math.min(to, base + PAGE_BITS);
        const words = this.writable(index);
        if (words !== null) added += setBits(words, from - base, end - base);
        from = end;
      }
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
      const pages = from === base ? Math.floor((to - from) / PAGE_BITS) : 0;
      if (pages > 0) {
        removed += this.drop(index, index + pages);
        if (this.full !== null) removed += this.full.remove(index, index + pages) * PAGE_BITS;
        from += pages * PAGE_BITS;
      } else {
        const end = Math.min(to, base + PAGE_BITS);
        if (this.pages.has(index) || this.isFull(index)) {
          const words = this.writable(index) ?? this.spread(index);
          removed += clearBits(words, from - base, end - base);
        }
        from = end;
      }
    }
    this.size -= removed;
    return removed;
  }

  has(block: number): boolean {
    if (!(block >= 0 && block < this.limit)) return false;
    const index = Math.floor(block / PAGE_BITS);
    const page = index === this.lastIndex ? this.lastPage! : this.pages.get(index);
    if (page === undefined) return this.isFull(index);
    const bit = block - index * PAGE_BITS;
    if (page instanceof Uint32Array) return ((page[bit >>> 5] >>> (bit & 31)) & 1) === 1;
    return inPacked(page, bit);
  }

  /** The first member in [from, to), or `to`. */
  firstMember(from: number, to: number): number {
    const end = Math.min(to, this.limit);
    let block = Math.max(from, 0);
    while (block < end) {
      const index = Math.floor(block / PAGE_BITS);
      const base = index * PAGE_BITS;
      const page = index === this.lastIndex ? this.lastPage! : this.pages.get(index);
      if (page === undefined) {
        if (this.isFull(index)) return block;
      } else {
        const last = Math.min(end - base, PAGE_BITS);
        const bit = firstInPage(page, block - base, last);
        if (bit < last) return base + bit;
      }
      block = base + PAGE_BITS;
    }
    return to;
  }

  /** The first block in [from, to) that is no member, or `to`. */
  firstMissing(from: number, to: number): number {
    const runs = new ExtentList();
    let at = Math.max(from, 0);
    // Runs end where pages do.
    while (at < to && this.has(at)) {
      runs.clear();
      this.runs(at, to, runs, 1);
      at = Math.min(runs.end(0), to);
    }
    return Math.min(at, to);
  }

  /** Writes the members of [from, from + 8 * into.length) as a little-endian bitmap. `from` must be a multiple of 8. */
  bits(from: number, into: Uint8Array): void {
    into.fill(0);
    const end = Math.min(from + into.length * 8, this.limit);
    const runs = new ExtentList();
    for (let at = from; at < end; ) {
      runs.clear();
      at = this.runs(at, end, runs, 4096);
      for (let i = 0; i < runs.count; i++) {
        let bit = runs.start(i) - from;
        const last = runs.end(i) - from;
        while (bit < last && (bit & 7) !== 0) into[bit >>> 3] |= 1 << (bit++ & 7);
        if (last - bit >= 8) {
          into.fill(255, bit >>> 3, last >>> 3);
          bit = (last >>> 3) << 3;
        }
        while (bit < last) into[bit >>> 3] |= 1 << (bit++ & 7);
      }
    }
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
   * where to go on (`to`, or the limit where that is lower, when done).
   */
  runs(from: number, to: number, into: ExtentList, most = Number.POSITIVE_INFINITY): number {
    if (from < 0) from = 0;
    if (to > this.limit) to = this.limit;
    if (from >= to) return to;
    const keys = this.keys();
    const lastIndex = Math.ceil(to / PAGE_BITS);
    let index = Math.floor(from / PAGE_BITS);
    for (let k = lowerBound(keys, index); ; k++) {
      const next = k < keys.length ? Math.min(keys[k], lastIndex) : lastIndex;
      if (index < next && this.full !== null && this.full.size > 0) {
        this.scratch.clear();
        const stop = this.full.runs(index, next, this.scratch, most - into.count);
        for (let i = 0; i < this.scratch.count; i++) {
          const start = Math.max(this.scratch.start(i) * PAGE_BITS, from);
          into.push(start, Math.min(this.scratch.end(i) * PAGE_BITS, to));
        }
        if (stop < next) return Math.max(stop * PAGE_BITS, from);
      }
      if (next === lastIndex) return to;
      const base = next * PAGE_BITS;
      if (into.count >= most) return Math.max(base, from);
      pageRuns(this.pages.get(next)!, Math.max(from - base, 0), Math.min(to - base, PAGE_BITS), base, into);
      index = next + 1;
    }
  }

  private keys(): number[] {
    if (this.sorted === null) this.sorted = [...this.pages.keys()].sort((a, b) => a - b);
    return this.sorted;
  }

  private isFull(index: number): boolean {
    return this.full?.has(index) ?? false;
  }

  /** Makes the pages [from, to) absent, but for those that are full; returns how many members they had. */
  private drop(from: number, to: number): number {
    if (this.pages.size === 0) return 0;
    let members = 0;
    const forget = (index: number) => {
      const page = this.pages.get(index);
      if (page === undefined) return;
      members += pageCount(page);
      if (page instanceof Uint32Array) this.live--;
      this.pages.delete(index);
      this.sorted = null;
    };
    if (to - from <= this.pages.size) for (let i = from; i < to; i++) forget(i);
    else for (const index of this.pages.keys()) if (index >= from && index < to) forget(index);
    if (this.lastIndex >= from && this.lastIndex < to) this.lastIndex = -1;
    return members;
  }

  /** The page as a bitmap that may be changed, or null where it is full. */
  private writable(index: number): Uint32Array | null {
    if (index === this.lastIndex) return this.lastPage;
    const page = this.pages.get(index);
    if (page === undefined && this.isFull(index)) return null;
    if (!(page instanceof Uint32Array)) return this.spread(index);
    this.lastIndex = index;
    this.lastPage = page;
    return page;
  }

  /** Makes a page that is absent, packed or full a bitmap. */
  private spread(index: number): Uint32Array {
    if (this.live >= this.packAt) this.pack();
    const page = this.pages.get(index);
    const words = new Uint32Array(PAGE_WORDS);
    if (page === undefined) {
      this.sorted = null;
      if (this.full?.remove(index) === 1) words.fill(0xffffffff);
    } else {
      for (let i = 0; i < page.length; i += 2) setBits(words, page[i], page[i + 1] + 1);
    }
    this.pages.set(index, words);
    this.live++;
    this.lastIndex = index;
    this.lastPage = words;
    return words;
  }

  /** Turns bitmap pages into packed runs (or full, or nothing) where that is smaller. */
  private pack(): void {
    this.lastIndex = -1;
    const runs = new ExtentList();
    for (const [index, page] of this.pages) {
      if (!(page instanceof Uint32Array)) continue;
      runs.clear();
      bitmapRuns(page, 0, PAGE_BITS, 0, runs);
      if (runs.count >= PACKED_RUNS) continue;
      this.live--;
      if (runs.count === 0 || runs.end(0) - runs.start(0) === PAGE_BITS) {
        this.pages.delete(index);
        this.sorted = null;
        if (runs.count === 0) continue;
        this.full ??= new BlockSet(Math.ceil(this.limit / PAGE_BITS), this.livePages);
        this.full.add(index);
      } else {
        const packed = new Uint16Array(runs.count * 2);
        for (let i = 0; i < runs.count; i++) {
          packed[2 * i] = runs.start(i);
          packed[2 * i + 1] = runs.end(i) - 1;
        }
        this.pages.set(index, packed);
      }
    }
    // Pages too dense to pack stay live: the next attempt waits for as many new ones again, so that
    // packing stays cheap.
    this.packAt = Math.max(this.livePages, this.live + Math.max(this.livePages >>> 1, 1));
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

function pageCount(page: Page): number {
  if (page instanceof Uint32Array) return countBits(page);
  let n = 0;
  for (let i = 0; i < page.length; i += 2) n += page[i + 1] + 1 - page[i];
  return n;
}

/** True where one of a packed page's runs covers `bit`. */
function inPacked(page: Uint16Array, bit: number): boolean {
  let lo = 0;
  let hi = page.length >>> 1;
  while (lo < hi) {
    const mid = (lo + hi) >>> 1;
    if (page[2 * mid + 1] < bit) lo = mid + 1;
    else hi = mid;
  }
  return 2 * lo < page.length && page[2 * lo] <= bit;
}

/** First member in [first, last) of a page, or `last`. */
function firstInPage(page: Page, first: number, last: number): number {
  if (page instanceof Uint32Array) return firstBit(page, first, last);
  let lo = 0;
  let hi = page.length >>> 1;
  while (lo < hi) {
    const mid = (lo + hi) >>> 1;
    if (page[2 * mid + 1] < first) lo = mid + 1;
    else hi = mid;
  }
  return 2 * lo < page.length ? Math.min(Math.max(page[2 * lo], first), last) : last;
}

function pageRuns(page: Page, first: number, last: number, base: number, into: ExtentList): void {
  if (page instanceof Uint32Array) {
    bitmapRuns(page, first, last, base, into);
    return;
  }
  for (let i = 0; i < page.length; i += 2) {
    into.push(base + Math.max(page[i], first), base + Math.min(page[i + 1] + 1, last));
  }
}
