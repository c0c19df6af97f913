import { existsSync, ftruncateSync } from "node:fs";
import type { Worker } from "node:worker_threads";
import type { BulkCopier, BulkJob, BulkResult } from "../engine/copy/bulk.ts";
import { CHUNK_BYTES, Copier, type CopyIo, OwnTurns, type Turns, unitOf } from "../engine/copy/copier.ts";
import { packerOf } from "../engine/copy/spec.ts";
import { Planner, Window } from "../engine/copy/window.ts";
import { AbortError, ImprintError, IoError, ReadError } from "../errors.ts";
import { cloneRange } from "../io/node/native.ts";
import { descriptorIo } from "./copy-io.ts";
import { type FromHelper, SharedTurns, type ToHelper } from "./threads.ts";

/** Stored bytes from which a helper thread pays for its start. */
const HELPER_FROM = 128 * 1024 * 1024;
/** Bytes from which sharing an extent beats copying it. */
const SHARE_FROM = 64 * 1024;
const BLOCK = 4096;
const PAUSE_EVERY = 40;

const pause = () => new Promise<void>((resolve) => setImmediate(resolve));

/** The helper's file: beside this module, in the source tree's build or in the bundle. */
function workerFile(): URL {
  const here = new URL("./bulk-worker.js", import.meta.url);
  return existsSync(here) ? here : new URL("../bulk-worker.js", import.meta.url);
}

class Helper {
  private readonly worker: Worker;
  private waiting: { resolve: (m: FromHelper) => void; reject: (e: unknown) => void } | null = null;
  private early: FromHelper | null = null;

  constructor() {
    const threads = process.getBuiltinModule("node:worker_threads");
    this.worker = new threads.Worker(workerFile(), { execArgv: [] });
    this.worker.unref();
    this.worker.on("message", (m: FromHelper) => {
      if (this.waiting === null) this.early = m;
      else {
        this.waiting.resolve(m);
        this.waiting = null;
      }
    });
    this.worker.on("error", (e) => {
      const m: FromHelper = { error: { kind: "Error", code: "EWORKER", message: String(e), offset: -1 } };
      if (this.waiting === null) this.early = m;
      else this.waiting.resolve(m);
      this.waiting = null;
    });
  }

  post(message: ToHelper): void {
    this.worker.postMessage(message);
  }

  answer(): Promise<FromHelper> {
    if (this.early !== null) {
      const m = this.early;
      this.early = null;
      return Promise.resolve(m);
    }
    this.worker.ref();
    return new Promise<FromHelper>((resolve, reject) => {
      this.waiting = { resolve, reject };
    }).finally(() => this.worker.unref());
  }

  async stop(): Promise<void> {
    await this.worker.terminate();
  }
}

/** Rebuilds a helper's error on this side. */
function errorOf(e: Extract<FromHelper, { error: unknown }>["error"]): Error {
  if (e.kind === "ReadError") return new ReadError(e.code, e.message, e.offset);
  if (e.kind === "IoError") return new IoError(e.code, e.message, e.offset);
  if (e.kind === "AbortError") return new AbortError(e.message);
  return new ImprintError(e.code, e.message);
}

/** Sharing between two descriptors where their filesystem can: tried once on the first block, undone by truncation. */
function sharer(source: number, target: number): CopyIo["share"] | undefined {
  if (!cloneRange(source, 0, BLOCK, target, 0)) return undefined;
  ftruncateSync(target, 0);
  return (fd, host, at, length) => {
    if (host % BLOCK !== 0 || at % BLOCK !== 0) return 0;
    const whole = length - (length % BLOCK);
    return whole > 0 && cloneRange(fd, host, whole, target, at) ? whole : 0;
  };
}

class NodeBulk implements BulkCopier {
  private helper: Helper | null = null;

  prepare(bytes: number): void {
    if (bytes >= HELPER_FROM) this.helper ??= new Helper();
  }

  async run(job: BulkJob): Promise<BulkResult> {
    const share = job.fresh ? await this.sharing(job) : undefined;
    const threads = share === undefined && job.total >= HELPER_FROM;
    const packer = packerOf(job.layout);
    const ordered = job.layout.kind !== "raw";
    const state = new SharedArrayBuffer(8 * packer.state.length);
    new Float64Array(state).set(packer.state);
    packer.state = new Float64Array(state) as Float64Array;
    // The e2image layout depends on which blocks are zero; the others may keep shared zeros.
    const skipZero = job.skipZero && (share === undefined || job.layout.kind === "e2image");
    const copier = new Copier(packer, descriptorIo(job.target.fd, job.target.path, share), {
      skipZero,
      ordered,
      shareFrom: share === undefined ? 0 : SHARE_FROM,
    });
    try {
      const planner = new Planner(job.source, unitOf(packer), CHUNK_BYTES, packer.chunkUnit);
      const window = new Window(threads ? new SharedArrayBuffer(Window.bytes) : undefined);
      const shared = threads ? new SharedTurns() : null;
      const own = new OwnTurns();
      const turns: Turns = shared ?? own;
      if (shared !== null) {
        this.helper ??= new Helper();
        this.helper.post({
          job: {
            turns: shared.buffer,
            window: window.buffer as SharedArrayBuffer,
            state,
            layout: job.layout,
            target: job.target.fd,
            skipZero,
            ordered,
          },
        });
      }
      let others = 0;
      let next = performance.now() + PAUSE_EVERY;
      const report = () => job.onProgress(copier.counts.walked + (shared?.walked ?? 0));
      while (await planner.fill(window)) {
        own.restart();
        shared?.restart();
        if (shared !== null) this.helper!.post({ go: true });
        let failure: unknown = null;
        try {
          while (await copier.run(window, turns, () => performance.now() >= next)) {
            report();
            await pause();
            next = performance.now() + PAUSE_EVERY;
          }
          report();
        } catch (error) {
          failure = error;
          shared?.fail();
        }
        if (shared !== null) {
          const answer = await this.helper!.answer();
          if ("error" in answer) {
            if (failure === null || failure instanceof AbortError) failure = errorOf(answer.error);
          } else others += answer.done.written;
        }
        if (failure !== null) throw failure;
      }
      return { walked: job.total, written: copier.counts.written + others, state: packer.state };
    } finally {
      copier.dispose();
    }
  }

  async close(): Promise<void> {
    const { helper } = this;
    this.helper = null;
    await helper?.stop();
  }

  /** Whether the job's first stored bytes can be shared with its target. */
  private async sharing(job: BulkJob): Promise<CopyIo["share"] | undefined> {
    if (job.total < 2 * SHARE_FROM) return undefined;
    const r = job.source.map(0, job.source.size);
    const b = r instanceof Promise ? await r : r;
    const file = b.files[0];
    return file === undefined ? undefined : sharer(file.fd, job.target.fd);
  }
}

/** Node's fast copier: shared extents where the filesystem has them, else two threads for large copies. */
export function nodeBulk(): BulkCopier {
  return new NodeBulk();
}
