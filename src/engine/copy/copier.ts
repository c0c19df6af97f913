import { AbortError, ImprintError, ReadError } from "../../errors.ts";
import type { ByteRequests, ExactRules, Packer } from "../../image/packer.ts";
import { Kernel, type Slot } from "../../kernel/kernel.ts";
import { ChunkWrites } from "./chunk-writes.ts";
import { ITERATION_BYTES } from "./exact-planner.ts";
import { SECTOR } from "./iterations.ts";
import { CHUNK_EXTENTS_MAX, type Window } from "./window.ts";

/** How a copier reaches its bytes. Synchronous answers are used without awaiting. Offsets in bytes. */
export interface CopyIo {
  /**
   * Fills `length` bytes of `bytes` from index `from` with what is at guest byte `guest` (byte `host` of descriptor
   * `fd`, where known); returns the count.
   */
  read(
    bytes: Uint8Array,
    from: number,
    length: number,
    guest: number,
    fd: number,
    host: number,
  ): number | Promise<number>;
  /** Writes `length` bytes of `bytes` from index `from` at target byte `at`. */
  write(bytes: Uint8Array, from: number, length: number, at: number): void | Promise<void>;
  /** Makes target bytes share the source's extents; returns how many bytes from the start it could (0: none). */
  share?(fd: number, host: number, at: number, length: number): number;
}

/** Order in which threads take chunks, and take turns placing them. */
export interface Turns {
  /** Index of the next chunk to work on in this window, or one past the last. */
  take(): number;
  /** Waits until every chunk before `chunk` has been placed; throws AbortError when the job has failed. */
  await(chunk: number): void | Promise<void>;
  /** Says that `chunk` has been placed. */
  done(chunk: number): void;
}

/** One thread: chunks in order, nothing to wait for. */
export class OwnTurns implements Turns {
  private next = 0;
  take(): number {
    return this.next++;
  }
  await(): void {}
  done(): void {}
  restart(): void {
    this.next = 0;
  }
}

export interface CopyRules {
  /** Leave out clusters that are all zero. */
  readonly skipZero: boolean;
  /** Packers decide in guest order; raw outputs need no order. */
  readonly ordered: boolean;
  /**
   * Pieces of at least this many bytes are shared through `io.share` instead of written; 0 never. Only for a fresh
   * target. Without `skipZero` what is shared is not read either.
   */
  readonly shareFrom: number;
  /** Bytes of a chunk that the copier reads at once. */
  readonly chunkBytes: number;
}

/** Bytes a copier has dealt with. */
export interface CopyCounts {
  /** Stored source bytes walked. */
  walked: number;
  /** Data bytes written or shared. */
  written: number;
}

/** Bytes of clusters in one chunk. */
export const CHUNK_BYTES = 512 * 1024;
/**
 * The same where two threads take turns: each turn costs a switch, and what was read is to be in a cache when written.
 */
export const THREADED_CHUNK_BYTES = 2 * 1024 * 1024;
/** The same where extents are shared without being read. */
export const SHARED_CHUNK_BYTES = 64 * 1024 * 1024;

const PAGE = 4096;

/**
 * The single place where bytes move: takes chunks of a window, reads them into wasm memory, finds what is not zero,
 * lets the packer place it, writes it. Runs the same on one thread, on several, and over asynchronous sources.
 */
export class Copier {
  private readonly packer: Packer;
  private readonly io: CopyIo;
  private readonly rules: CopyRules;
  private readonly kernel = Kernel.get();
  private readonly slot: Slot;
  private readonly writes = new ChunkWrites();
  /** Bytes in which zeros are looked for: the cluster, or the packer's zero unit. */
  private readonly unit: number;
  /** First unit, unit count, and the range of `runs` of each span of the chunk at hand. */
  private readonly spans: { cluster: number; clusters: number; from: number; pairs: number }[] = [];
  private runs = new Uint32Array(4096);
  /** Offset in the slot of each extent of the chunk at hand. */
  private readonly extentAt = new Float64Array(CHUNK_EXTENTS_MAX);
  readonly counts: CopyCounts = { walked: 0, written: 0 };

  constructor(packer: Packer, io: CopyIo, rules: CopyRules) {
    this.packer = packer;
    this.io = io;
    this.rules = rules;
    this.unit = unitOf(packer);
    const most = packer.exact === undefined ? 0 : ITERATION_BYTES;
    // Some hosts want what they write to be aligned to a page.
    this.slot = this.kernel.take(
      Math.max(rules.chunkBytes, packer.clusterSize, packer.chunkUnit ?? 0, most),
      PAGE,
    );
  }

  dispose(): void {
    this.kernel.give(this.slot);
  }

  /** Copies chunks of `w` until none is left or `pause` says stop; true while chunks are left. */
  async run(w: Window, turns: Turns, pause: () => boolean): Promise<boolean> {
    for (;;) {
      const chunk = turns.take();
      if (chunk >= w.chunks) return false;
      const { exact } = this.packer;
      const loading = exact === undefined ? this.load(w, chunk) : this.loadExact(w, chunk);
      if (loading !== null) await loading;
      if (exact === undefined) this.scan();
      else this.scanExact(exact.rules);
      if (this.rules.ordered) {
        const waiting = turns.await(chunk);
        if (waiting !== undefined) await waiting;
      }
      if (exact === undefined) this.place();
      else this.placeExact(exact);
      if (this.rules.ordered) turns.done(chunk);
      const storing = this.rules.shareFrom > 0 ? this.storeShared(w, chunk) : this.store();
      if (storing !== null) await storing;
      for (let i = w.first[chunk]; i < w.first[chunk + 1]; i++) this.counts.walked += w.length[i];
      if (pause()) return true;
    }
  }

  /** Reads a chunk into the slot, whole units side by side, bytes outside its extents zero. */
  private load(w: Window, chunk: number): Promise<void> | null {
    const cs = this.unit;
    const deferred = this.rules.shareFrom > 0 && !this.rules.skipZero;
    const { bytes } = this.slot;
    this.spans.length = 0;
    let filled = 0;
    let used = 0;
    let lastCluster = -1;
    let pending: Promise<void> | null = null;
    for (let i = w.first[chunk]; i < w.first[chunk + 1]; i++) {
      const g = w.guest[i];
      const n = w.length[i];
      const c0 = Math.floor(g / cs);
      const c1 = Math.floor((g + n - 1) / cs);
      let span = this.spans[this.spans.length - 1];
      if (span === undefined || c0 > lastCluster + 1) {
        span = { cluster: c0, clusters: 0, from: used * cs, pairs: 0 };
        this.spans.push(span);
      }
      used += c1 - Math.max(lastCluster, c0 - 1);
      span.clusters = c1 - span.cluster + 1;
      lastCluster = c1;
      const at = span.from + (g - span.cluster * cs);
      this.extentAt[i - w.first[chunk]] = at;
      if (deferred) continue;
      if (at + n > bytes.length) throw new ImprintError("EINTERNAL", "copy chunk larger than its buffer");
      if (at > filled) bytes.fill(0, filled, at);
      if (pending === null) {
        const r = this.io.read(bytes, at, n, g, w.fd[i], w.host[i]);
        if (typeof r === "number") checkRead(r, n, g);
        else pending = r.then((got) => checkRead(got, n, g));
      } else {
        pending = pending.then(async () =>
          checkRead(await this.io.read(bytes, at, n, g, w.fd[i], w.host[i]), n, g),
        );
      }
      filled = at + n;
    }
    if (!deferred && filled < used * cs) bytes.fill(0, filled, used * cs);
    return pending;
  }

  /** As `load` for exact copies: every extent is a span of its own, in sectors. */
  private loadExact(w: Window, chunk: number): Promise<void> | null {
    const deferred = this.rules.shareFrom > 0 && !this.rules.skipZero;
    const { bytes } = this.slot;
    this.spans.length = 0;
    let used = 0;
    let pending: Promise<void> | null = null;
    for (let i = w.first[chunk]; i < w.first[chunk + 1]; i++) {
      const g = w.guest[i];
      const n = w.length[i];
      const at = used;
      const sectors = Math.ceil(n / SECTOR);
      this.spans.push({ cluster: g / SECTOR, clusters: sectors, from: at, pairs: 0 });
      this.extentAt[i - w.first[chunk]] = at;
      used += sectors * SECTOR;
      if (deferred) continue;
      if (used > bytes.length) throw new ImprintError("EINTERNAL", "copy chunk larger than its buffer");
      if (at + n < used) bytes.fill(0, at + n, used);
      if (pending === null) {
        const r = this.io.read(bytes, at, n, g, w.fd[i], w.host[i]);
        if (typeof r === "number") checkRead(r, n, g);
        else pending = r.then((got) => checkRead(got, n, g));
      } else
        pending = pending.then(async () =>
          checkRead(await this.io.read(bytes, at, n, g, w.fd[i], w.host[i]), n, g),
        );
    }
    return pending;
  }

  /** Finds the sectors of each span that are to be stored. */
  private scanExact(rules: ExactRules): void {
    const { kernel } = this;
    let used = 0;
    for (const span of this.spans) {
      if (this.rules.skipZero && rules.least > 0)
        span.pairs = kernel.storedSectors(
          this.slot.at + span.from,
          span.clusters,
          span.cluster,
          rules.least,
          rules.alignment,
        );
      else {
        span.pairs = 1;
        kernel.out[0] = 0;
        kernel.out[1] = span.clusters;
      }
      if (used + span.pairs * 2 > this.runs.length) {
        const more = new Uint32Array((used + span.pairs * 2) * 2);
        more.set(this.runs.subarray(0, used));
        this.runs = more;
      }
      this.runs.set(kernel.out.subarray(0, span.pairs * 2), used);
      used += span.pairs * 2;
    }
  }

  private placeExact(exact: ByteRequests): void {
    const { writes } = this;
    writes.clear();
    let used = 0;
    for (const span of this.spans) {
      const guest = span.cluster * SECTOR;
      writes.span(span.from - guest);
      for (let i = 0; i < span.pairs; i++, used += 2) {
        const from = guest + this.runs[used] * SECTOR;
        exact.request(from, from + this.runs[used + 1] * SECTOR, writes);
      }
    }
    exact.flush(writes);
  }

  /** Finds the clusters of each span that are to be stored. */
  private scan(): void {
    const cs = this.unit;
    const ratio = cs / this.packer.clusterSize;
    let used = 0;
    for (const span of this.spans) {
      if (this.rules.skipZero)
        span.pairs = this.kernel.nonzeroRuns(this.slot.at + span.from, cs, span.clusters);
      else {
        span.pairs = 1;
        this.kernel.out[0] = 0;
        this.kernel.out[1] = span.clusters;
      }
      if (used + span.pairs * 2 > this.runs.length) {
        const more = new Uint32Array((used + span.pairs * 2) * 2);
        more.set(this.runs.subarray(0, used));
        this.runs = more;
      }
      this.runs.set(this.kernel.out.subarray(0, span.pairs * 2), used);
      if (ratio > 1) this.widen(span.cluster, used, span.pairs, ratio);
      used += span.pairs * 2;
    }
  }

  /** Turns runs of units into runs of clusters, the last one clipped at the guest's end. */
  private widen(unit: number, from: number, pairs: number, ratio: number): void {
    for (let i = from; i < from + 2 * pairs; i++) this.runs[i] *= ratio;
    const clusters = Math.ceil(this.packer.guestSize / this.packer.clusterSize) - unit * ratio;
    const last = from + 2 * pairs - 2;
    if (pairs > 0) this.runs[last + 1] = Math.min(this.runs[last + 1], clusters - this.runs[last]);
  }

  private place(): void {
    const { writes } = this;
    const cs = this.unit;
    const ratio = cs / this.packer.clusterSize;
    writes.clear();
    let used = 0;
    for (const span of this.spans) {
      if (span.pairs > 0) {
        writes.span(span.from - span.cluster * cs);
        this.packer.place(span.cluster * ratio, this.runs.subarray(used), span.pairs, writes);
        used += span.pairs * 2;
      }
    }
  }

  private store(): Promise<void> | null {
    const { writes } = this;
    const { bytes } = this.slot;
    let pending: Promise<void> | null = null;
    for (let i = 0; i < writes.count; i++) {
      const from = writes.from[i];
      const n = writes.length[i];
      this.counts.written += n;
      pending = this.put(pending, bytes, from, n, writes.to[i]);
    }
    return this.storeMetas(pending);
  }

  /** As `store`, sharing what can be shared. Gaps between extents are left alone: the target is fresh. */
  private storeShared(w: Window, chunk: number): Promise<void> | null {
    const { writes } = this;
    const { bytes } = this.slot;
    const loaded = this.rules.skipZero;
    const first = w.first[chunk];
    const end = w.first[chunk + 1];
    let pending: Promise<void> | null = null;
    let e = first;
    for (let i = 0; i < writes.count; i++) {
      const stop = writes.from[i] + writes.length[i];
      this.counts.written += writes.length[i];
      while (e > first && this.extentAt[e - first] > writes.from[i]) e--;
      for (; e < end; e++) {
        const at = this.extentAt[e - first];
        let from = Math.max(at, writes.from[i]);
        const to = Math.min(at + w.length[e], stop);
        if (from < to) {
          let host = w.host[e] + (from - at);
          let target = writes.to[i] + (from - writes.from[i]);
          if (to - from >= this.rules.shareFrom && w.host[e] >= 0) {
            const shared = this.io.share!(w.fd[e], host, target, to - from);
            from += shared;
            host += shared;
            target += shared;
          }
          if (from < to && loaded) pending = this.put(pending, bytes, from, to - from, target);
          else if (from < to) this.copyPiece(w.fd[e], host, w.guest[e] + (from - at), target, to - from);
        }
        if (at + w.length[e] >= stop) break;
      }
    }
    return this.storeMetas(pending);
  }

  /** Copies what could not be shared of an extent that was not read; sharing hosts answer synchronously. */
  private copyPiece(fd: number, host: number, guest: number, target: number, length: number): void {
    const { bytes } = this.slot;
    for (let i = 0; i < length; i += bytes.length) {
      const n = Math.min(bytes.length, length - i);
      const got = this.io.read(bytes, 0, n, guest + i, fd, host + i);
      if (typeof got !== "number") throw new ImprintError("EINTERNAL", "sharing needs synchronous reads");
      checkRead(got, n, guest + i);
      if (this.io.write(bytes, 0, n, target + i) !== undefined)
        throw new ImprintError("EINTERNAL", "sharing needs synchronous writes");
    }
  }

  private storeMetas(pending: Promise<void> | null): Promise<void> | null {
    const { writes } = this;
    for (let i = 0; i < writes.metas; i++) {
      const from = writes.metaFrom[i];
      pending = this.put(pending, writes.metaBytes, from, writes.metaLength[i], writes.metaTo[i]);
    }
    return pending;
  }

  private put(
    pending: Promise<void> | null,
    bytes: Uint8Array,
    from: number,
    length: number,
    at: number,
  ): Promise<void> | null {
    if (pending !== null) return pending.then(() => this.io.write(bytes, from, length, at));
    return this.io.write(bytes, from, length, at) ?? null;
  }
}

/** Unit in bytes in which a packer wants zeros told apart. */
export function unitOf(packer: Packer): number {
  return Math.max(packer.clusterSize, packer.zeroUnit ?? 0);
}

function checkRead(got: number, wanted: number, guest: number): void {
  if (got !== wanted)
    throw new ReadError(
      "ESHORT",
      `source ends at byte ${guest + got}, ${wanted - got} bytes of the plan missing`,
      guest + got,
    );
}

/** Throws AbortError once `signal` is aborted. */
export function checkAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortError();
}
