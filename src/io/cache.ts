import type { MapRuns } from "../bytes/runs.ts";
import type { Source } from "./source.ts";

/** Options of `cached`. */
export interface CacheOptions {
  /** Bytes a page, a power of two. Default 256 KiB. */
  readonly page?: number;
  /** Pages kept. Default 64 (16 MiB with pages of 256 KiB). */
  readonly pages?: number;
  /** Most pages read in one go when reads are sequential. Default 8. */
  readonly ahead?: number;
}

/**
 * A page cache with read-ahead over a source where each read is expensive (a Blob, the network). Answers synchronously
 * when the pages are there. Reads of half the cache or more go past it. Maps and `plain` are the source's own.
 */
export function cached(source: Source, options: CacheOptions = {}): Source {
  return new CachedSource(source, options);
}

/** A page in the map: its bytes (short at the source's end), or the read that will bring them. */
type Entry = Uint8Array | Promise<void>;

class CachedSource implements Source {
  readonly size: number;
  readonly label: string;
  readonly plain?: NonNullable<Source["plain"]>;
  private readonly source: Source;
  private readonly page: number;
  private readonly most: number;
  private readonly ahead: number;
  /** Least recently used first (insertion order). */
  private readonly entries = new Map<number, Entry>();
  private lastPage = -1;
  private lastBytes: Uint8Array | null = null;
  /** Page after the last one fetched, and how many to fetch next when that one is wanted. */
  private expected = -1;
  private window = 1;

  constructor(source: Source, options: CacheOptions) {
    this.source = source;
    this.size = source.size;
    this.label = source.label;
    this.page = options.page ?? 256 * 1024;
    this.most = Math.max(options.pages ?? 64, 2);
    this.ahead = Math.max(1, Math.min(options.ahead ?? 8, this.most >>> 1));
    if (source.plain !== undefined) this.plain = source.plain;
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const length = Math.min(into.length, this.size - at);
    if (length <= 0) return 0;
    if (length >= this.page * (this.most >>> 1))
      return this.source.read(length < into.length ? into.subarray(0, length) : into, at);
    return this.fill(into, at, 0, length);
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    return this.source.map(from, to);
  }

  close(): void | Promise<void> {
    this.entries.clear();
    this.lastPage = -1;
    this.lastBytes = null;
    return this.source.close();
  }

  /** Copies bytes [done, length) of the request; goes asynchronous at the first page that has to be waited for. */
  private fill(into: Uint8Array, at: number, done: number, length: number): number | Promise<number> {
    while (done < length) {
      const position = at + done;
      const index = Math.floor(position / this.page);
      const bytes = this.look(index);
      if (bytes === null) {
        const wait = this.fetch(index, Math.floor((at + length - 1) / this.page));
        if (wait instanceof Promise) return wait.then(() => this.fill(into, at, done, length));
        continue;
      }
      const offset = position - index * this.page;
      const n = Math.min(length - done, bytes.length - offset);
      if (n <= 0) return done;
      into.set(offset === 0 && n === bytes.length ? bytes : bytes.subarray(offset, offset + n), done);
      done += n;
    }
    return done;
  }

  /** The page's bytes when they are there. */
  private look(index: number): Uint8Array | null {
    if (index === this.lastPage) return this.lastBytes;
    const entry = this.entries.get(index);
    if (!(entry instanceof Uint8Array)) return null;
    this.entries.delete(index);
    this.entries.set(index, entry);
    this.lastPage = index;
    this.lastBytes = entry;
    return entry;
  }

  /** Brings page `index` (and, when wanted or likely to be, those after it). */
  private fetch(index: number, last: number): void | Promise<void> {
    const pending = this.entries.get(index);
    if (pending instanceof Promise) return pending;
    this.window = index === this.expected ? Math.min(this.window * 2, this.ahead) : 1;
    const want = Math.max(this.window, Math.min(last - index + 1, this.most >>> 1));
    const wait = this.load(index, want);
    if (!(wait instanceof Promise)) return;
    if (this.window > 1) {
      const next = this.load(this.expected, this.window);
      if (next instanceof Promise) next.catch(() => {});
    }
    return wait;
  }

  /** Reads up to `count` missing neighbours from page `index` in one go. */
  private load(index: number, count: number): void | Promise<void> {
    const end = Math.ceil(this.size / this.page);
    let to = index;
    while (to < end && to - index < count && !this.entries.has(to)) to++;
    this.expected = Math.max(to, index);
    if (to === index) return;
    const from = index * this.page;
    const bytes = new Uint8Array(Math.min(to * this.page, this.size) - from);
    const r = this.source.read(bytes, from);
    if (!(r instanceof Promise)) {
      this.keep(index, to, bytes.subarray(0, r));
      return;
    }
    const wait = r.then(
      (n) => this.keep(index, to, bytes.subarray(0, n)),
      (error: unknown) => {
        for (let i = index; i < to; i++) if (this.entries.get(i) === wait) this.entries.delete(i);
        throw error;
      },
    );
    for (let i = index; i < to; i++) this.entries.set(i, wait);
    return wait;
  }

  private keep(from: number, to: number, bytes: Uint8Array): void {
    for (let i = from; i < to; i++) {
      const at = (i - from) * this.page;
      // A page of its own, so that dropping one frees it whatever its neighbours do.
      const page = to - from === 1 ? bytes : bytes.slice(at, at + this.page);
      this.entries.delete(i);
      this.entries.set(i, page);
      if (this.lastPage === i) this.lastBytes = page;
    }
    for (const [index, entry] of this.entries) {
      if (this.entries.size <= this.most) break;
      if (entry instanceof Promise) continue;
      this.entries.delete(index);
      if (this.lastPage === index) this.lastPage = -1;
    }
  }
}
