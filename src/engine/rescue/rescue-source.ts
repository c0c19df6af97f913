import { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { DATA, MapRuns } from "../../bytes/runs.ts";
import { IoError } from "../../errors.ts";
import type { Source } from "../../io/source.ts";
import { BAD, DomainMap, FINISHED, UNTRIED, UNTRIMMED } from "./domain-map.ts";
import { markLost } from "./marker.ts";

/** Bytes read at once where a longer read has failed. */
const BLOCK_BYTES = 64 * 1024;
/** Failures in a row after which the rest of a block, and more each time, is left for later. */
const MOST_FAILURES = 4;
/** Bytes left for later the first time, and the most. */
const FIRST_SKIP = 64 * 1024;
const MOST_SKIP = 256 * 1024 * 1024;

export interface RescueSourceOptions {
  /** Bytes a sector: what is lost where a read fails. */
  readonly sectorSize: number;
  /** What is known of the source; kept up to date. Sectors that are bad in it are not tried again by `read`. */
  readonly domain?: DomainMap;
  /** How often a sector that fails is tried again at once. Default 0. */
  readonly retries?: number;
  /**
   * Leave what follows several failures in a row for later (`settle`): it reads as lost for now. For targets that can be
   * written again.
   */
  readonly defer?: boolean;
  /** Called once `startCopying` was, for each sector that is given up, once: by `read`, or with `defer` by `settle`. */
  readonly onLost?: (at: number) => void;
}

/**
 * A source that goes on where the base has read errors (EIO): a sector that cannot be read holds ntfsclone's marker. Anything
 * else that goes wrong is thrown. Not `plain`, so that every byte comes through here.
 */
export class RescueSource implements Source {
  readonly label: string;
  /** Status of every byte asked for so far. */
  readonly domain: DomainMap;
  /** May be set once the volume's sector size is known. */
  sectorSize: number;
  private readonly base: Source;
  private readonly options: RescueSourceOptions;
  private readonly patches: { readonly at: number; readonly bytes: Uint8Array }[] = [];
  /** Sectors that reads have lost since copying began; null before. */
  private lost: BlockSet | null = null;
  /** Sectors that reads have lost before copying began: of metadata. */
  lostWhileOpen = 0;
  private failures = 0;
  private skip = FIRST_SKIP;
  /** Up to here everything is left for later. */
  private skipTo = 0;

  constructor(base: Source, options: RescueSourceOptions) {
    this.base = base;
    this.label = base.label;
    this.options = options;
    this.sectorSize = options.sectorSize;
    this.domain = options.domain ?? new DomainMap(base.size);
  }

  get size(): number {
    return this.base.size;
  }

  /** Byte ranges that reads have lost since copying began, ascending. */
  lostRanges(): [from: number, to: number][] {
    const ranges: [number, number][] = [];
    if (this.lost === null) return ranges;
    const list = new ExtentList();
    this.lost.runs(0, this.lost.limit, list);
    for (let i = 0; i < list.count; i++)
      ranges.push([list.start(i) * this.sectorSize, Math.min(list.end(i) * this.sectorSize, this.size)]);
    return ranges;
  }

  /**
   * From now on what is read counts as finished, what cannot be read is reported, and what follows failures left for later, where
   * the options say so. Without `resume` nothing is finished yet, whatever the map said.
   */
  startCopying(resume = false): void {
    this.lost = new BlockSet(Math.ceil(this.size / this.sectorSize));
    if (resume) return;
    for (const r of [...this.domain.runs()])
      if (r.status === FINISHED) this.domain.set(r.from, r.to, UNTRIED);
  }

  private get deferring(): boolean {
    return this.lost !== null && this.options.defer === true;
  }

  /** Makes bytes from `at` on read as `bytes`, whatever the base holds: a copy found elsewhere. */
  patch(at: number, bytes: Uint8Array): void {
    this.patches.push({ at, bytes });
  }

  /** Everything counts as data: nothing may be left out for what a map says of a failing disk. */
  map(from: number, to: number): MapRuns {
    const runs = new MapRuns(from);
    runs.push(to - from, DATA);
    return runs;
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const n = Math.max(0, Math.min(into.length, this.size - at));
    if (n === 0) return 0;
    const piece = into.subarray(0, n);
    if (this.skipTo > at || !this.clean(at, at + n)) return this.readSlowly(piece, at);
    try {
      const r = this.base.read(piece, at);
      if (r instanceof Promise)
        return r.then(
          (got) => this.finish(piece, at, got),
          (error: unknown) => this.afterError(piece, at, error),
        );
      return this.finish(piece, at, r);
    } catch (error) {
      return this.afterError(piece, at, error);
    }
  }

  close(): void | Promise<void> {
    return this.base.close();
  }

  /**
   * Tries again what reads have left for later since copying began, then, `retries` times, all they have lost; what can be read
   * goes to `write`. What stays lost is handed to `onLost`, in ascending order. `check` is called between sectors.
   */
  async settle(
    write: (bytes: Uint8Array, at: number) => void | Promise<void>,
    retries: number,
    check: () => void | Promise<void>,
  ): Promise<void> {
    const { lost, sectorSize: size } = this;
    if (lost === null) return;
    this.skipTo = 0;
    const sector = new Uint8Array(size);
    for (let pass = 0; pass <= retries && lost.count > 0; pass++) {
      for (const at of sectorsOf(lost, size)) {
        const end = Math.min(at + size, this.size);
        if (pass === 0 && this.domain.statusAt(at) === BAD) continue;
        const piece = sector.subarray(0, end - at);
        const got = await this.try(piece, at);
        if (got) {
          this.applyPatches(piece, at);
          const r = write(piece, at);
          if (r instanceof Promise) await r;
          lost.remove(at / size);
        }
        this.domain.set(at, end, got ? FINISHED : BAD);
        const wait = check();
        if (wait instanceof Promise) await wait;
      }
    }
    for (const at of sectorsOf(lost, size)) this.options.onLost?.(at);
  }

  /** Whether nothing in [from, to) is known to be unreadable, or to be left for later. */
  private clean(from: number, to: number): boolean {
    const run = this.domain.runAt(from);
    if (run.to >= to) return run.status === FINISHED || run.status === UNTRIED;
    for (const r of this.domain.runs(from, to))
      if (r.status !== FINISHED && r.status !== UNTRIED) return false;
    return true;
  }

  private finish(piece: Uint8Array, at: number, got: number): number {
    if (got > 0) this.finished(at, at + got);
    this.failures = 0;
    this.skip = FIRST_SKIP;
    this.applyPatches(piece.subarray(0, got), at);
    return got;
  }

  private afterError(piece: Uint8Array, at: number, error: unknown): Promise<number> {
    if (!(error instanceof IoError) || error.code !== "EIO") throw error;
    return this.readSlowly(piece, at);
  }

  /** Block by block, and where a block fails, sector by sector. */
  private async readSlowly(piece: Uint8Array, at: number): Promise<number> {
    const end = at + piece.length;
    for (let p = at; p < end; ) {
      const to = Math.min(end, p - (p % BLOCK_BYTES) + BLOCK_BYTES);
      const block = piece.subarray(p - at, to - at);
      if (this.skipTo <= p && this.clean(p, to) && (await this.try(block, p))) {
        this.failures = 0;
        this.skip = FIRST_SKIP;
        this.finished(p, to);
      } else await this.readSectors(block, p);
      p = to;
    }
    this.applyPatches(piece, at);
    return piece.length;
  }

  private async readSectors(block: Uint8Array, at: number): Promise<void> {
    const size = this.sectorSize;
    for (let p = at; p < at + block.length; ) {
      const to = Math.min(at + block.length, p - (p % size) + size);
      const sector = block.subarray(p - at, to - at);
      const status = this.domain.statusAt(p);
      const later = this.deferring && (this.skipTo > p || status === UNTRIMMED);
      if (status !== BAD && !later && (await this.tryOften(sector, p))) {
        this.failures = 0;
        this.finished(p, to);
      } else {
        if (status !== BAD) this.domain.set(p, to, later ? UNTRIMMED : BAD);
        if (status !== BAD && !later) this.failed(to);
        this.lose(sector, p);
      }
      p = to;
    }
  }

  /** What was only looked at is not in any clone yet: a later run would leave it out. */
  private finished(from: number, to: number): void {
    if (this.lost !== null) this.domain.set(from, to, FINISHED);
  }

  private lose(sector: Uint8Array, at: number): void {
    markLost(sector);
    if (this.lost === null) {
      this.lostWhileOpen++;
      return;
    }
    const isNew = this.lost.add(Math.floor(at / this.sectorSize)) > 0;
    if (isNew && this.options.defer !== true) this.options.onLost?.(at - (at % this.sectorSize));
  }

  private failed(to: number): void {
    if (!this.deferring || ++this.failures < MOST_FAILURES) return;
    this.failures = 0;
    this.skipTo = to + this.skip;
    this.skip = Math.min(this.skip * 2, MOST_SKIP);
  }

  private async tryOften(sector: Uint8Array, at: number): Promise<boolean> {
    const retries = this.options.defer === true ? 0 : (this.options.retries ?? 0);
    for (let i = 0; i <= retries; i++) if (await this.try(sector, at)) return true;
    return false;
  }

  /** Reads all of `piece`; false for a read error. A source that ends there is an error. */
  private async try(piece: Uint8Array, at: number): Promise<boolean> {
    try {
      const r = this.base.read(piece, at);
      const got = r instanceof Promise ? await r : r;
      if (got < piece.length)
        throw new IoError("ESHORT", `${this.label}: ends at byte ${at + got}`, at + got);
      return true;
    } catch (error) {
      if (error instanceof IoError && error.code === "EIO") return false;
      throw error;
    }
  }

  private applyPatches(piece: Uint8Array, at: number): void {
    for (const p of this.patches) {
      const from = Math.max(p.at, at);
      const to = Math.min(p.at + p.bytes.length, at + piece.length);
      if (from < to) piece.set(p.bytes.subarray(from - p.at, to - p.at), from - at);
    }
  }
}

/** Where the sectors of a set begin, bytes, ascending. The set may lose members meanwhile. */
function* sectorsOf(set: BlockSet, size: number): IterableIterator<number> {
  const list = new ExtentList();
  for (let from = 0; from < set.limit; ) {
    list.clear();
    from = set.runs(from, set.limit, list, 4096);
    for (let i = 0; i < list.count; i++) for (let k = list.start(i); k < list.end(i); k++) yield k * size;
  }
}
