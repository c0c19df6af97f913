import { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { DATA, MapRuns } from "../../bytes/runs.ts";
import { IoError, ReadError } from "../../errors.ts";
import type { Source } from "../../io/source.ts";
import { BAD, DomainMap, FINISHED, UNTRIED, UNTRIMMED } from "./domain-map.ts";
import { markLost } from "./marker.ts";
import { SkipAhead } from "./skip-ahead.ts";

/** Bytes read at once where a longer read has failed. */
const BLOCK_BYTES = 64 * 1024;
/** Failures in a row after which the rest of a bad stretch is left for later. */
const MOST_FAILURES = 4;
/** The end of a stretch is found to within this part of the bytes that were skipped at first. */
const NEAR = 128;

export interface RescueSourceOptions {
  /** Bytes a sector: what is lost where a read fails. */
  readonly sectorSize: number;
  /** What is known of the source; kept up to date. Sectors that are bad in it are not tried again by `read`. */
  readonly domain?: DomainMap;
  /** How often a sector that fails is tried again at once. Default 0. */
  readonly retries?: number;
  /**
   * Called once `startCopying` was, for each sector that fails for good, once: by `read`, or with `defer` by `settle`.
   */
  readonly onLost?: (at: number) => void;
  /** Milliseconds that went by. Default: the host's clock. */
  readonly now?: () => number;
}

/** How a copy is made. */
export interface CopyRules {
  /** What the domain map calls finished is in the copy already. Default: nothing is, whatever the map says. */
  readonly resume?: boolean;
  /**
   * Leave what follows several failures in a row for later (`settle`): it reads as lost for now. For targets
   * that can be written again.
   */
  readonly defer?: boolean;
  /**
   * Milliseconds that failing reads of one bad stretch may take. Then `read`, without `defer`, looks for the end of the
   * stretch, and what lies before it is lost. `settle` leaves out what is left of a stretch. Default: no limit.
   */
  readonly patience?: number;
}

/**
 * A source that goes on where the base has read errors (EIO): a sector that cannot be read holds ntfsclone's marker.
 * Anything else that goes wrong is thrown. Not `plain`, so that every byte comes through here.
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
  private deferring = false;
  private patience = Number.POSITIVE_INFINITY;
  private skip = new SkipAhead({});
  /** Milliseconds that the last failing read took. */
  private took = 0;
  private readonly now: () => number;

  constructor(base: Source, options: RescueSourceOptions) {
    this.base = base;
    this.label = base.label;
    this.options = options;
    this.sectorSize = options.sectorSize;
    this.domain = options.domain ?? new DomainMap(base.size);
    this.now = options.now ?? (() => performance.now());
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

  /** Those of the lost ranges that were left out, and not tried. */
  skippedRanges(): [from: number, to: number][] {
    const ranges: [number, number][] = [];
    for (const [from, to] of this.lostRanges())
      for (const run of this.domain.runs(from, to))
        if (run.status === UNTRIMMED) ranges.push([run.from, run.to]);
    return ranges;
  }

  /** The same bytes, but that what cannot be read is an error (EIO), also where a copy replaces it. */
  get strict(): Source {
    const check = (at: number, n: number): number => {
      if (n > 0 && !this.clean(at, at + n))
        throw new ReadError("EIO", `${this.label}: read error in the ${n} bytes at ${at}`, at);
      return n;
    };
    return {
      label: this.label,
      size: this.size,
      read: (into, at) => {
        const r = this.read(into, at);
        return r instanceof Promise ? r.then((n) => check(at, n)) : check(at, r);
      },
      map: (from, to) => this.map(from, to),
      close: () => {},
    };
  }

  /**
   * From now on what is read counts as finished, what cannot be read is reported, and bad stretches
   * are left as the rules say.
   */
  startCopying(rules: CopyRules = {}): void {
    this.lost = new BlockSet(Math.ceil(this.size / this.sectorSize));
    this.deferring = rules.defer === true;
    this.patience = rules.patience ?? Number.POSITIVE_INFINITY;
    this.skip = new SkipAhead(this.deferring ? { failures: MOST_FAILURES } : { patience: this.patience });
    if (rules.resume === true) return;
    for (const r of [...this.domain.runs()])
      if (r.status === FINISHED) this.domain.set(r.from, r.to, UNTRIED);
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
    if (this.skip.over(at) || !this.clean(at, at + n)) return this.readSlowly(piece, at);
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
   * Tries again what reads have left for later since copying began, then, `retries` times, all they have
   * lost; what can be read goes to `write`. What stays lost is handed to `onLost`, in ascending order.
   * `check` is called between sectors.
   */
  async settle(
    write: (bytes: Uint8Array, at: number) => void | Promise<void>,
    retries: number,
    check: () => void | Promise<void>,
  ): Promise<void> {
    const { lost, sectorSize: size } = this;
    if (lost === null) return;
    this.skip = new SkipAhead({});
    this.deferring = false;
    const sector = new Uint8Array(size);
    const told = new BlockSet(lost.limit);
    for (let pass = 0; pass <= retries && lost.count > 0; pass++) {
      let spent = 0;
      let last = -1;
      for (const at of sectorsOf(lost, size)) {
        const end = Math.min(at + size, this.size);
        if (last !== at) spent = 0;
        last = end;
        if (pass === 0 && this.domain.statusAt(at) === BAD) {
          told.add(at / size);
          continue;
        }
        if (spent >= this.patience) continue;
        const piece = sector.subarray(0, end - at);
        const got = await this.try(piece, at);
        if (got) {
          spent = 0;
          this.applyPatches(piece, at);
          const r = write(piece, at);
          if (r instanceof Promise) await r;
          lost.remove(at / size);
        } else {
          spent += this.took;
          told.add(at / size);
        }
        this.domain.set(at, end, got ? FINISHED : BAD);
        const wait = check();
        if (wait instanceof Promise) await wait;
      }
    }
    for (const at of sectorsOf(lost, size)) if (told.has(at / size)) this.options.onLost?.(at);
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
    this.skip.recovered();
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
      if (!this.skip.over(p) && this.clean(p, to) && (await this.try(piece.subarray(p - at, to - at), p))) {
        this.skip.recovered();
        this.finished(p, to);
      } else await this.readSectors(piece, at, p, to);
      p = to;
    }
    this.applyPatches(piece, at);
    return piece.length;
  }

  /** Sectors in [from, to) of a piece that begins at `at`. */
  private async readSectors(piece: Uint8Array, at: number, from: number, to: number): Promise<void> {
    const size = this.sectorSize;
    for (let p = from; p < to; ) {
      const end = Math.min(to, p - (p % size) + size);
      const sector = piece.subarray(p - at, end - at);
      const status = this.domain.statusAt(p);
      const later = this.skip.over(p) || (this.deferring && status === UNTRIMMED);
      if (status === BAD) this.lose(sector, p, true);
      else if (later) {
        this.domain.set(p, end, UNTRIMMED);
        this.lose(sector, p, false);
      } else if (await this.tryOften(sector, p)) {
        this.skip.read();
        this.finished(p, end);
      } else {
        this.domain.set(p, end, BAD);
        const skip = this.lost === null ? 0 : this.skip.failed(this.took);
        if (skip > 0) this.skip.leave(end, this.deferring ? end + skip : await this.endOfStretch(end, skip));
        this.lose(sector, p, true);
      }
      p = end;
    }
  }

  /**
   * Looks for the end of a bad stretch from byte `bad` on: at growing distances, `first` and more, for a sector that
   * can be read, then between that and the last one that cannot.
   */
  private async endOfStretch(bad: number, first: number): Promise<number> {
    const size = this.sectorSize;
    const sector = new Uint8Array(size);
    const readable = (at: number): Promise<boolean> =>
      this.try(sector.subarray(0, Math.min(size, this.size - at)), at);
    const aligned = (at: number): number => at - (at % size);
    let good = this.size;
    for (let step = first; bad + step < this.size; step *= 2) {
      const at = aligned(bad + step);
      if (await readable(at)) {
        good = at;
        break;
      }
      bad = at + size;
    }
    const near = Math.max(size, Math.floor(first / NEAR));
    while (good - bad >= near) {
      const at = aligned((bad + good) / 2);
      if (await readable(at)) good = at;
      else bad = at + size;
    }
    return good;
  }

  /** What was only looked at is not in any clone yet: a later run would leave it out. */
  private finished(from: number, to: number): void {
    if (this.lost !== null) this.domain.set(from, to, FINISHED);
  }

  private lose(sector: Uint8Array, at: number, tried: boolean): void {
    markLost(sector);
    if (this.lost === null) {
      this.lostWhileOpen++;
      return;
    }
    const isNew = this.lost.add(Math.floor(at / this.sectorSize)) > 0;
    if (isNew && tried && !this.deferring) this.options.onLost?.(at - (at % this.sectorSize));
  }

  private async tryOften(sector: Uint8Array, at: number): Promise<boolean> {
    const retries = this.deferring ? 0 : (this.options.retries ?? 0);
    for (let i = 0; i <= retries; i++) if (await this.try(sector, at)) return true;
    return false;
  }

  /** Reads all of `piece`; false for a read error. A source that ends there is an error. */
  private async try(piece: Uint8Array, at: number): Promise<boolean> {
    const from = this.now();
    try {
      const r = this.base.read(piece, at);
      const got = r instanceof Promise ? await r : r;
      if (got < piece.length)
        throw new IoError("ESHORT", `${this.label}: ends at byte ${at + got}`, at + got);
      return true;
    } catch (error) {
      if (!(error instanceof IoError) || error.code !== "EIO") throw error;
      this.took = this.now() - from;
      return false;
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
