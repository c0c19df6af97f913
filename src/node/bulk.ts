import { ftruncateSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import type { Worker } from "node:worker_threads";
import type { HostFile } from "../bytes/runs.ts";
import type { BulkCopier, BulkJob, BulkResult } from "../engine/copy/bulk.ts";
import {
  CHUNK_BYTES,
  Copier,
  type CopyIo,
  OwnTurns,
  SHARED_CHUNK_BYTES,
  THREADED_CHUNK_BYTES,
  type Turns,
  unitOf,
} from "../engine/copy/copier.ts";
import { plannerOf } from "../engine/copy/plan.ts";
import { packerOf } from "../engine/copy/spec.ts";
import { Window } from "../engine/copy/window.ts";
import { AbortError, ImprintError, IoError, ReadError } from "../errors.ts";
import { openDirect } from "../io/node/direct.ts";
import { closeQuietly } from "../io/node/file-io.ts";
import { cloneRange } from "../io/node/native.ts";
import { Pace } from "../io/pace.ts";
import { type Allocation, descriptorIo } from "./copy-io.ts";
import { type FromHelper, type HelperJob, SharedTurns, type ToHelper } from "./threads.ts";
import { workerFile } from "./worker-file.ts";

/** Stored bytes from which a helper thread pays for its start. */
const HELPER_FROM = 256 * 1024 * 1024;
/** Stored bytes from which one that is already there is put to use. */
const READY_FROM = 16 * 1024 * 1024;
/** Bytes from which sharing an extent beats copying it. */
const SHARE_FROM = 64 * 1024;
/** Bytes of a copy from which its target's blocks are allocated before they are written. */
const ALLOCATE_FROM = 16 * 1024 * 1024;
/** Bytes of a copy from which some are written past the page cache. */
const DIRECT_FROM = 64 * 1024 * 1024;
const BLOCK = 4096;
/** statfs f_type of ext2, ext3 and ext4. */
const EXT = 0xef53;
/** Filesystems (statfs f_type) that are known not to share extents: ext2/3/4, tmpfs. Others are asked. */
const NO_SHARING = new Set([EXT, 0x01021994]);

/** A helper thread. It owes an answer for each "go"; when it dies, that is the answer, and the job it was on fails. */
class Helper {
  private readonly worker: Worker;
  private waiting: ((m: FromHelper) => void) | null = null;
  private early: FromHelper | null = null;
  private turns: SharedTurns | null = null;
  private ended = false;

  constructor() {
    const threads = process.getBuiltinModule("node:worker_threads");
    this.worker = new threads.Worker(workerFile("bulk-worker"), { execArgv: [] });
    this.worker.unref();
    this.worker.on("message", (m: FromHelper) => this.deliver(m));
    this.worker.on("error", (e) => this.died(String(e)));
    this.worker.on("exit", () => this.died("it ended by itself"));
  }

  /** Can take no more jobs. */
  get dead(): boolean {
    return this.ended;
  }

  begin(job: HelperJob, turns: SharedTurns): void {
    this.turns = turns;
    this.early = null;
    this.post({ job });
  }

  go(): void {
    this.post({ go: true });
  }

  answer(): Promise<FromHelper> {
    if (this.early !== null) {
      const m = this.early;
      // The answer of a dead helper stays.
      if (!this.ended) this.early = null;
      return Promise.resolve(m);
    }
    this.worker.ref();
    return new Promise<FromHelper>((resolve) => {
      this.waiting = resolve;
    }).finally(() => this.worker.unref());
  }

  async stop(): Promise<void> {
    this.ended = true;
    await this.worker.terminate();
  }

  private post(message: ToHelper): void {
    if (!this.ended) this.worker.postMessage(message);
  }

  private deliver(m: FromHelper): void {
    const { waiting } = this;
    this.waiting = null;
    if (waiting === null) this.early = m;
    else waiting(m);
  }

  private died(why: string): void {
    if (this.ended) return;
    this.ended = true;
    this.turns?.fail();
    const message = `a helper thread failed: ${why}`;
    const m: FromHelper = { error: { kind: "Error", code: "EWORKER", message, offset: -1 } };
    this.deliver(m);
    this.early = m;
  }
}

/** Rebuilds a helper's error on this side. */
function errorOf(e: Extract<FromHelper, { error: unknown }>["error"]): Error {
  if (e.kind === "ReadError") return new ReadError(e.code, e.message, e.offset);
  if (e.kind === "IoError") return new IoError(e.code, e.message, e.offset);
  if (e.kind === "AbortError") return new AbortError(e.message);
  return new ImprintError(e.code, e.message);
}

/** statfs f_type of the filesystem that holds a target. */
function filesystemOf(target: HostFile): number {
  return statfsSync(dirname(target.path)).type;
}

/** False where the target's filesystem is known not to share extents. */
function mayShare(target: HostFile): boolean {
  return !NO_SHARING.has(filesystemOf(target));
}

/** How a fresh target's blocks are best allocated. */
function allocationOf(job: BulkJob, ordered: boolean): Allocation {
  if (!job.fresh || job.total < ALLOCATE_FROM || filesystemOf(job.target) !== EXT) return "none";
  return ordered ? "ahead" : "exact";
}

/** Sharing between two descriptors where their filesystem can: tried once on the first block, undone by truncation. */
function sharer(source: number, target: HostFile): CopyIo["share"] | undefined {
  if (!cloneRange(source, 0, BLOCK, target.fd, 0)) return undefined;
  ftruncateSync(target.fd, 0);
  return (fd, host, at, length) => {
    if (host % BLOCK !== 0 || at % BLOCK !== 0) return 0;
    const whole = length - (length % BLOCK);
    return whole > 0 && cloneRange(fd, host, whole, target.fd, at) ? whole : 0;
  };
}

class NodeBulk implements BulkCopier {
  private helper: Helper | null = null;
  private helping = false;

  prepare(bytes: number, target: HostFile | undefined): void {
    if (bytes >= HELPER_FROM && target !== undefined && !mayShare(target)) this.living();
  }

  async run(job: BulkJob): Promise<BulkResult> {
    const share = job.fresh ? await this.sharing(job) : undefined;
    const direct = share === undefined && job.total >= DIRECT_FROM ? openDirect(job.target.fd) : -1;
    try {
      return await this.copy(job, share, direct);
    } finally {
      if (direct >= 0) closeQuietly(direct);
    }
  }

  async close(): Promise<void> {
    const { helper } = this;
    this.helper = null;
    await helper?.stop();
  }

  /** `direct`: a descriptor for writes past the page cache, or -1. */
  private async copy(job: BulkJob, share: CopyIo["share"], direct: number): Promise<BulkResult> {
    const ready = this.helper !== null && !this.helper.dead;
    const threads = share === undefined && job.total >= (ready ? READY_FROM : HELPER_FROM) && !this.helping;
    const packer = packerOf(job.layout);
    const ordered = job.layout.kind !== "raw";
    const state = new SharedArrayBuffer(8 * packer.state.length);
    new Float64Array(state).set(packer.state);
    packer.state = new Float64Array(state) as Float64Array;
    // The e2image layout depends on which blocks are zero; the others may keep shared zeros.
    const skipZero = job.skipZero && (share === undefined || job.layout.kind === "e2image");
    const labels = { source: job.source.label, target: job.target.path };
    const allocation = allocationOf(job, ordered);
    const to = { fd: job.target.fd, direct, flushed: job.target.flushed === true };
    const readBytes = threads ? THREADED_CHUNK_BYTES : CHUNK_BYTES;
    const copier = new Copier(packer, descriptorIo(to, labels, allocation, share), {
      skipZero,
      ordered,
      shareFrom: share === undefined ? 0 : SHARE_FROM,
      chunkBytes: readBytes,
    });
    const chunkBytes = share === undefined || skipZero ? readBytes : SHARED_CHUNK_BYTES;
    try {
      const planner = plannerOf(job.source, packer, unitOf(packer), chunkBytes);
      const window = new Window(threads ? new SharedArrayBuffer(Window.bytes) : undefined);
      const shared = threads ? new SharedTurns(true) : null;
      const own = new OwnTurns();
      const turns: Turns = shared ?? own;
      const helper = threads ? this.living() : null;
      if (threads) this.helping = true;
      if (shared !== null)
        helper?.begin(
          {
            turns: shared.buffer,
            window: window.buffer as SharedArrayBuffer,
            state,
            layout: job.layout,
            target: to,
            labels,
            allocation,
            skipZero,
            ordered,
          },
          shared,
        );
      let others = 0;
      const report = () => job.onProgress(copier.counts.walked + (shared?.walked ?? 0));
      const pace = new Pace(report);
      while (await planner.fill(window)) {
        own.restart();
        shared?.restart();
        helper?.go();
        let failure: unknown = null;
        try {
          while (await copier.run(window, turns, () => pace.due)) await pace.turn();
          report();
        } catch (error) {
          failure = error;
          shared?.fail();
        }
        if (helper !== null) {
          const answer = await helper.answer();
          if ("error" in answer) {
            // A thread that stopped because the other one failed has nothing to say of its own.
            const stopped = failure instanceof AbortError && answer.error.kind !== "AbortError";
            if (failure === null || stopped) failure = errorOf(answer.error);
          } else others += answer.done.written;
        }
        if (failure !== null) throw failure;
      }
      return { walked: job.total, written: copier.counts.written + others, state: packer.state };
    } finally {
      if (threads) this.helping = false;
      copier.dispose();
    }
  }

  private living(): Helper {
    if (this.helper === null || this.helper.dead) this.helper = new Helper();
    return this.helper;
  }

  /** Whether the job's first stored bytes can be shared with its target. */
  private async sharing(job: BulkJob): Promise<CopyIo["share"] | undefined> {
    if (job.total < 2 * SHARE_FROM || !mayShare(job.target)) return undefined;
    let file = job.source.plain?.file;
    if (file === undefined) {
      const r = job.source.map(0, job.source.size);
      file = (r instanceof Promise ? await r : r).files[0];
    }
    return file === undefined ? undefined : sharer(file.fd, job.target);
  }
}

/** Node's fast copier: shared extents where the filesystem has them, else two threads for large copies. */
export function nodeBulk(): BulkCopier {
  return new NodeBulk();
}
