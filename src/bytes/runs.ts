/**
 * The allocation map of a source, in batches: runs of bytes that share a state. Typed arrays, so that a map of
 * a million runs costs no object per run.
 */

/** The layer does not hold these bytes; they read as zeros (or come from a backing file, resolved already). */
export const HOLE = 0;
/** The layer says explicitly that these bytes are zero. */
export const ZERO = 1;
/** Bytes are stored and may be anything. */
export const DATA = 2;
export type RunState = typeof HOLE | typeof ZERO | typeof DATA;

/** A plain host file (or device) that holds bytes of a source as they are: what bulk copies can work on. */
export interface HostFile {
  /** Path or name, for messages and identity. */
  readonly path: string;
  /** Open descriptor in this process, or -1 where the host has none (a Blob). */
  readonly fd: number;
  /** A target that is flushed to the disk before it is done. */
  readonly flushed?: boolean;
}

/** Ascending, disjoint runs. Neighbours with the same state, depth and contiguous host bytes are merged. */
export class MapRuns {
  count = 0;
  /** First byte of each run. */
  at = new Float64Array(64);
  /** Length of each run, bytes. */
  length = new Float64Array(64);
  state = new Uint8Array(64);
  /** Layer that decided the state: 0 the image itself, 1 its backing file, ... */
  depth = new Uint16Array(64);
  /** Offset of the run's bytes in `files[file]`, or -1 where they are not stored as plain bytes. */
  host = new Float64Array(64);
  /** Index into `files`, or -1. */
  file = new Int32Array(64);
  readonly files: HostFile[] = [];
  /** Where the batch ends: pass it as `from` to get the next one. */
  end: number;

  constructor(from: number) {
    this.end = from;
  }

  /** Appends a run starting at `this.end`. */
  push(length: number, state: RunState, depth = 0, host = -1, file: HostFile | null = null): void {
    if (length <= 0) return;
    let f = -1;
    if (file !== null) {
      f = this.files.indexOf(file);
      if (f < 0) f = this.files.push(file) - 1;
    }
    const p = this.count - 1;
    if (
      p >= 0 &&
      this.state[p] === state &&
      this.depth[p] === depth &&
      this.file[p] === f &&
      (host < 0 ? this.host[p] < 0 : this.host[p] >= 0 && this.host[p] + this.length[p] === host)
    ) {
      this.length[p] += length;
    } else {
      if (this.count === this.at.length) this.grow();
      const i = this.count++;
      this.at[i] = this.end;
      this.length[i] = length;
      this.state[i] = state;
      this.depth[i] = depth;
      this.host[i] = host;
      this.file[i] = f;
    }
    this.end += length;
  }

  private grow(): void {
    const n = this.at.length * 2;
    const wider = <T extends Float64Array | Uint8Array | Uint16Array | Int32Array>(a: T): T => {
      const b = new (a.constructor as new (n: number) => T)(n);
      b.set(a);
      return b;
    };
    this.at = wider(this.at);
    this.length = wider(this.length);
    this.state = wider(this.state);
    this.depth = wider(this.depth);
    this.host = wider(this.host);
    this.file = wider(this.file);
  }
}
