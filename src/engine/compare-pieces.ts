import { DATA, type MapRuns } from "../bytes/runs.ts";
import { ImprintError } from "../errors.ts";
import type { Pace } from "../io/pace.ts";
import type { Source } from "../io/source.ts";

/**
 * Bytes of one piece at most, and of one read where threads are not at work: qemu-img's (its errors name the piece).
 */
export const PIECE = 2 * 1024 * 1024;
/** Pieces in one list at most, and bytes after which a list ends. */
const PIECES = 32768;
const LIST_BYTES = 1024 * 1024 * 1024;

/** `fd` of a side whose bytes are known to be zero. */
export const ZEROS = -1;
/** `fd` of a side that only its source can read. */
export const BY_SOURCE = -2;

/** Pieces of two sources that are to be compared, ascending. Offsets and lengths in bytes. */
export class Pieces {
  count = 0;
  /** Bytes of the pieces that lie as they are in host files (or are zeros). */
  plainBytes = 0;
  readonly guest = new Float64Array(PIECES);
  readonly length = new Float64Array(PIECES);
  /** Descriptor of each side's host file, ZEROS or BY_SOURCE. */
  readonly fdA = new Float64Array(PIECES);
  readonly fdB = new Float64Array(PIECES);
  /** Offset in that file. */
  readonly hostA = new Float64Array(PIECES);
  readonly hostB = new Float64Array(PIECES);
  /** 1 where both sides have been read and hold the same bytes. */
  readonly same = new Uint8Array(PIECES);
}

/** A host's fast comparer. */
export interface BulkComparer {
  /** Plain bytes in a list from which it is worth its start. */
  readonly worthFrom: number;
  /**
   * Marks pieces whose sides it found to hold the same bytes. It may leave out any: those that differ or cannot
   * be read, and those behind them. `onSame` is told how many pieces from the first are known to be the same;
   * what it throws ends the work.
   */
  run(pieces: Pieces, onSame: (count: number) => void): Promise<void>;
  /** Lets helpers go. */
  close(): Promise<void>;
}

/** Where a source stores something, walked in step with another. */
class Cursor {
  data = false;
  /** End of the run at the byte last looked at; infinity past the source's end. */
  end = 0;
  fd = ZEROS;
  private readonly source: Source;
  private batch: MapRuns | null = null;
  private run = 0;
  /** Host offset of guest byte 0, were the run at hand that long. */
  private shift = 0;

  constructor(source: Source) {
    this.source = source;
  }

  /** Looks at byte `at`, never less than the last time. A promise where the map is not there yet. */
  look(at: number): Promise<void> | null {
    if (at < this.end) return null;
    if (at >= this.source.size) {
      this.data = false;
      this.fd = ZEROS;
      this.end = Number.POSITIVE_INFINITY;
      return null;
    }
    if (this.batch === null || at >= this.batch.end) {
      const r = this.source.map(at, this.source.size);
      if (r instanceof Promise) return r.then((batch) => this.begin(batch, at));
      this.begin(r, at);
    } else this.find(at);
    return null;
  }

  host(at: number): number {
    return this.fd < 0 ? 0 : this.shift + at;
  }

  private begin(batch: MapRuns, at: number): void {
    if (batch.end <= at)
      throw new ImprintError("EINTERNAL", `${this.source.label}: its map says nothing of byte ${at}`);
    this.batch = batch;
    this.run = 0;
    this.find(at);
  }

  private find(at: number): void {
    const b = this.batch!;
    while (this.run < b.count - 1 && at >= b.at[this.run] + b.length[this.run]) this.run++;
    const k = this.run;
    this.end = b.at[k] + b.length[k];
    this.data = b.state[k] === DATA;
    if (!this.data) {
      this.fd = ZEROS;
      return;
    }
    const fd = b.file[k] < 0 || b.host[k] < 0 ? -1 : b.files[b.file[k]].fd;
    this.fd = fd < 0 ? BY_SOURCE : fd;
    this.shift = b.host[k] - b.at[k];
  }
}

/** Walks two maps and lists what must be compared: all but what both know to be zero. */
export class ComparePlan {
  /** Byte up to which the maps have been walked. */
  at = 0;
  private readonly a: Cursor;
  private readonly b: Cursor;
  private readonly size: number;
  private readonly storedOnly: boolean;

  /** `size`: bytes to compare. `storedOnly`: what `a` does not store is left out. */
  constructor(a: Source, b: Source, size: number, storedOnly: boolean) {
    this.a = new Cursor(a);
    this.b = new Cursor(b);
    this.size = size;
    this.storedOnly = storedOnly;
  }

  /**
   * Lists the next pieces; false when nothing is left. A map that cannot be read ends the list before it, and throws
   * when nothing comes before it.
   */
  async fill(p: Pieces, pace: Pace): Promise<boolean> {
    p.count = 0;
    p.plainBytes = 0;
    const { a, b } = this;
    let bytes = 0;
    while (this.at < this.size && p.count < PIECES && bytes < LIST_BYTES) {
      const { at } = this;
      try {
        const left = a.look(at);
        if (left !== null) await left;
        const right = b.look(at);
        if (right !== null) await right;
      } catch (error) {
        if (p.count > 0) return true;
        throw error;
      }
      let end = Math.min(a.end, b.end, this.size);
      if (a.data || (b.data && !this.storedOnly)) {
        end = Math.min(end, at + PIECE);
        const i = p.count++;
        p.guest[i] = at;
        p.length[i] = end - at;
        p.fdA[i] = a.fd;
        p.fdB[i] = b.fd;
        p.hostA[i] = a.host(at);
        p.hostB[i] = b.host(at);
        p.same[i] = 0;
        bytes += end - at;
        if (a.fd !== BY_SOURCE && b.fd !== BY_SOURCE) p.plainBytes += end - at;
      }
      this.at = end;
      const wait = pace.step();
      if (wait !== undefined) await wait;
    }
    return p.count > 0;
  }
}
