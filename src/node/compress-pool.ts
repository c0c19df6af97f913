import { availableParallelism } from "node:os";
import type { Worker } from "node:worker_threads";
import {
  type Batch,
  type ClusterCompressor,
  type Compression,
  clustersOf,
  newBatch,
} from "../engine/requests/compressor.ts";
import { ImprintError } from "../errors.ts";
import type { CompressAnswer, CompressJob, CompressMessage } from "./compress-worker.ts";
import { workerFile } from "./worker-file.ts";

/** Threads at most: each takes some 15 MiB, with zstd in WebAssembly twice that. */
const MOST = 6;
const MOST_ZSTD = 4;
/** Batches that wait for each thread while it is at work. */
const AHEAD = 2;

interface Waiting {
  resolve(batch: Batch): void;
  reject(error: Error): void;
}

/** Threads that compress clusters; they start with the first batch. */
class CompressPool implements ClusterCompressor {
  readonly clusterSize: number;
  readonly perBatch: number;
  readonly width: number;
  private readonly job: CompressJob;
  private readonly most: number;
  private readonly workers: Worker[] = [];
  private readonly spare: Batch[] = [];
  private readonly waiting = new Map<number, Waiting>();
  private next = 0;
  private failure: Error | null = null;

  constructor(job: CompressJob) {
    this.job = job;
    this.clusterSize = job.clusterSize;
    this.perBatch = clustersOf(job.clusterSize);
    this.most = Math.min(availableParallelism(), job.kind === "zstd" ? MOST_ZSTD : MOST);
    this.width = this.most * (1 + AHEAD);
  }

  take(): Batch {
    return this.spare.pop() ?? newBatch(this.clusterSize);
  }

  give(batch: Batch): void {
    this.spare.push(batch);
  }

  run(batch: Batch, count: number): Promise<Batch> {
    if (this.failure !== null) return Promise.reject(this.failure);
    const id = this.next++;
    const worker = this.worker(id % this.most);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      worker.postMessage({ id, batch, count } satisfies CompressMessage, [
        batch.input.buffer,
        batch.output.buffer,
        batch.lengths.buffer,
      ]);
    });
  }

  async close(): Promise<void> {
    this.failure ??= new ImprintError("EWORKER", "the compressing threads are gone");
    await Promise.all(this.workers.map((w) => w.terminate()));
  }

  private worker(i: number): Worker {
    if (i < this.workers.length) return this.workers[i];
    const { Worker } = process.getBuiltinModule("node:worker_threads");
    const worker = new Worker(workerFile("compress-worker"), { execArgv: [], workerData: this.job });
    worker.on("message", (answer: CompressAnswer) => {
      const waiting = this.waiting.get(answer.id);
      this.waiting.delete(answer.id);
      if ("batch" in answer) waiting?.resolve(answer.batch);
      else waiting?.reject(new ImprintError("ECOMPRESS", `compression failed: ${answer.error}`));
    });
    worker.on("error", (error) => this.died(String(error)));
    worker.on("exit", () => this.died("it ended by itself"));
    this.workers.push(worker);
    return worker;
  }

  private died(why: string): void {
    if (this.failure !== null) return;
    this.failure = new ImprintError("EWORKER", `a compressing thread failed: ${why}`);
    for (const w of this.waiting.values()) w.reject(this.failure);
    this.waiting.clear();
  }
}

/** Compresses clusters of `clusterSize` bytes in threads of this machine. Close it. */
export function compressPool(compression: Compression, clusterSize: number): ClusterCompressor {
  const identical = compression.kind === "deflate" && compression.identical;
  return new CompressPool({ kind: compression.kind, identical, clusterSize });
}
