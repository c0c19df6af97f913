import { DATA, type MapRuns } from "../../bytes/runs.ts";
import { ImprintError } from "../../errors.ts";
import type { Source } from "../../io/source.ts";

/** Extents a window holds at most. */
export const EXTENTS = 32768;
/** Chunks a window holds at most. */
export const CHUNKS = 4096;
/** Extents after which a chunk ends at the next cluster. */
export const CHUNK_EXTENTS = 1024;
/** Extents one cluster may have: 2 MiB in sectors of 512 bytes, twice. */
const CLUSTER_EXTENTS = 8192;

/** Extents one chunk can have. */
export const CHUNK_EXTENTS_MAX = CHUNK_EXTENTS + CLUSTER_EXTENTS;

const HEADER = 2;

/**
 * A stretch of a copy, cut into chunks: what threads take turns on. One flat buffer, which may be shared memory. A
 * chunk is a list of extents of stored bytes; no cluster is in two chunks.
 */
export class Window {
  static readonly bytes = 8 * (HEADER + EXTENTS * 4) + 4 * (CHUNKS + 1);

  readonly buffer: ArrayBufferLike;
  private readonly head: Float64Array;
  /** Guest offset of each extent, bytes. */
  readonly guest: Float64Array;
  readonly length: Float64Array;
  /** Offset in the plain host file `fd`, or -1. */
  readonly host: Float64Array;
  readonly fd: Float64Array;
  /** Index of the first extent of chunk i; entry `chunks` is one past the last extent. */
  readonly first: Uint32Array;

  constructor(buffer: ArrayBufferLike = new ArrayBuffer(Window.bytes)) {
    this.buffer = buffer;
    this.head = new Float64Array(buffer, 0, HEADER);
    const column = (k: number) => new Float64Array(buffer, 8 * (HEADER + EXTENTS * k), EXTENTS);
    this.guest = column(0);
    this.length = column(1);
    this.host = column(2);
    this.fd = column(3);
    this.first = new Uint32Array(buffer, 8 * (HEADER + EXTENTS * 4), CHUNKS + 1);
  }

  /** Chunks in the window. */
  get chunks(): number {
    return this.head[0];
  }
  set chunks(n: number) {
    this.head[0] = n;
  }
  /** Extents in the window. */
  get extents(): number {
    return this.head[1];
  }
  set extents(n: number) {
    this.head[1] = n;
  }

  /** Bytes of stored data in the window. */
  total(): number {
    let t = 0;
    for (let i = 0; i < this.extents; i++) t += this.length[i];
    return t;
  }
}

/** Walks a source's map and cuts its stored bytes into windows of chunks. */
export class Planner {
  private readonly source: Source;
  private readonly clusterSize: number;
  private readonly chunkClusters: number;
  private batch: MapRuns | null = null;
  private run = 0;
  private position = 0;
  private lastCluster = -1;
  private readonly cut: number;

  /**
   * All in bytes: a chunk covers at most `chunkBytes` of whole units, and no unit is in two chunks. With a `cut`
   * larger than the unit, a chunk is what lies between two multiples of it.
   */
  constructor(source: Source, unit: number, chunkBytes: number, cut = unit) {
    this.source = source;
    this.clusterSize = unit;
    this.cut = cut > unit ? cut : Number.POSITIVE_INFINITY;
    this.chunkClusters = Math.max(1, Math.floor(Math.max(chunkBytes, cut) / unit));
  }

  /** Fills `w` with the next chunks; false when nothing is left. */
  async fill(w: Window): Promise<boolean> {
    const cs = this.clusterSize;
    let n = 0;
    let chunks = 0;
    let used = 0;
    w.first[0] = 0;
    const close = () => {
      if (n > w.first[chunks]) w.first[++chunks] = n;
      used = 0;
      this.lastCluster = -1;
    };
    outer: while (this.position < this.source.size) {
      if (this.batch === null || this.run >= this.batch.count) {
        if (this.batch !== null && this.batch.end >= this.source.size) break;
        const r = this.source.map(this.batch === null ? 0 : this.batch.end, this.source.size);
        this.batch = r instanceof Promise ? await r : r;
        this.run = 0;
        continue;
      }
      const b = this.batch;
      const k = this.run;
      if (b.state[k] !== DATA) {
        this.run++;
        continue;
      }
      const end = b.at[k] + b.length[k];
      let s = Math.max(b.at[k], this.position);
      while (s < end) {
        const cluster = Math.floor(s / cs);
        const fresh = cluster === this.lastCluster ? cluster + 1 : cluster;
        const crossed =
          n > w.first[chunks] && Math.floor(s / this.cut) > Math.floor(w.guest[n - 1] / this.cut);
        const full = this.cut === Number.POSITIVE_INFINITY && n - w.first[chunks] >= CHUNK_EXTENTS;
        if (fresh === cluster && (crossed || full || used >= this.chunkClusters)) {
          close();
          if (chunks === CHUNKS || n + CHUNK_EXTENTS_MAX > EXTENTS) {
            this.position = s;
            break outer;
          }
        }
        const bound = this.cut === Number.POSITIVE_INFINITY ? end : (Math.floor(s / this.cut) + 1) * this.cut;
        const stop = Math.min(end, bound, (fresh + this.chunkClusters - used) * cs);
        w.guest[n] = s;
        w.length[n] = stop - s;
        w.host[n] = b.host[k] < 0 ? -1 : b.host[k] + (s - b.at[k]);
        w.fd[n] = b.file[k] < 0 ? -1 : b.files[b.file[k]].fd;
        n++;
        this.lastCluster = Math.floor((stop - 1) / cs);
        used += this.lastCluster - fresh + 1;
        s = stop;
        if (n - w.first[chunks] >= CHUNK_EXTENTS_MAX)
          throw new ImprintError("ELIMIT", `${this.source.label}: map too fine to copy at ${s}`);
      }
      this.position = end;
      this.run++;
    }
    close();
    w.chunks = chunks;
    w.extents = n;
    return chunks > 0;
  }
}
