import { DATA, HOLE } from "../../bytes/runs.ts";
import type { Source } from "../../io/source.ts";
import { type IterationRules, Iterations, SECTOR } from "../copy/iterations.ts";
import { partsOf } from "../copy/plan.ts";
import type { Batch, ClusterCompressor } from "./compressor.ts";
import { atStep, type RequestJob, readDisk } from "./copy-requests.ts";
import type { RequestSink } from "./sink.ts";

/** A sink that takes compressed clusters too. */
export interface CompressedSink extends RequestSink {
  /** Stores the cluster at byte `at` of the disk as these compressed bytes. */
  writeCompressed(stream: Uint8Array, at: number): void | Promise<void>;
  /** Byte after the last one that was stored, in the file that holds the data. */
  dataEnd?(): number;
}

export interface CompressedJob extends Omit<RequestJob, "sink" | "exact" | "rules"> {
  readonly source: Source;
  readonly rules: IterationRules;
  readonly compressor: ClusterCompressor;
  readonly sink: CompressedSink;
  /** All-zero clusters are stored too (-S 0). */
  readonly keepZero: boolean;
}

/**
 * What a batch stands for: the disk's byte where each of its clusters begins, and the bytes that the disk has there.
 */
interface Load {
  readonly at: number[];
  readonly length: number[];
  readonly done: Promise<Batch>;
  /** Ranges to be zeroed before the cluster of the same index, or after the last. */
  readonly zeros: { readonly before: number; readonly at: number; readonly length: number }[];
  /** Bytes of data dealt with up to its end. */
  readonly walked: number;
}

/**
 * As `copyRequests`, cluster by cluster and compressed by other threads: they are read in order, stored in order, and a
 * bounded number is under way. Throws RequestError.
 */
export async function copyCompressed(job: CompressedJob): Promise<void> {
  const { source, rules, sink, compressor } = job;
  const { clusterSize, perBatch } = compressor;
  const iterations = new Iterations(partsOf(source), rules);
  const queue: Load[] = [];
  let walked = 0;
  let batch = compressor.take();
  let at: number[] = [];
  let length: number[] = [];
  let zeros: Load["zeros"] = [];
  const send = (): void => {
    if (at.length === 0 && zeros.length === 0) return;
    const done = at.length === 0 ? Promise.resolve(batch) : compressor.run(batch, at.length);
    // Whoever waits for it hears of a failure; it must not be unheard meanwhile.
    done.catch(() => {});
    queue.push({ at, length, done, zeros, walked });
    batch = compressor.take();
    at = [];
    length = [];
    zeros = [];
  };
  for (;;) {
    const more = await atStep(
      "status",
      () => iterations.next(),
      () => (iterations.sector + iterations.count) * SECTOR,
    );
    if (!more) break;
    const { state } = iterations;
    const from = iterations.sector * SECTOR;
    const bytes = iterations.count * SECTOR;
    if (state === HOLE) continue;
    if (state !== DATA && !rules.zerosToo) {
      if (sink.zero !== null) zeros.push({ before: at.length, at: from, length: bytes });
    } else
      for (let i = 0; i < bytes; i += clusterSize) {
        const n = Math.min(clusterSize, bytes - i);
        const into = batch.input.subarray(at.length * clusterSize, (at.length + 1) * clusterSize);
        if (state === DATA) {
          const r = readDisk(job, into.subarray(0, n), from + i);
          if (r !== null) await r;
          into.fill(0, n);
        } else into.fill(0);
        walked += n;
        if (!job.keepZero && allZero(into)) {
          if (sink.zero !== null) zeros.push({ before: at.length, at: from + i, length: n });
        } else {
          at.push(from + i);
          length.push(n);
        }
        if (at.length === perBatch || zeros.length >= 1024) send();
      }
    while (queue.length >= compressor.width) await store(queue.shift()!, job);
    const wait = job.pace.step();
    if (wait !== undefined) await wait;
  }
  send();
  for (let load = queue.shift(); load !== undefined; load = queue.shift()) await store(load, job);
}

/** Waits for a batch and stores its clusters. */
async function store(load: Load, job: CompressedJob): Promise<void> {
  const { sink, compressor } = job;
  const { clusterSize } = compressor;
  const batch = await load.done;
  let from = 0;
  let zero = 0;
  for (let i = 0; i <= load.at.length; i++) {
    for (; zero < load.zeros.length && load.zeros[zero].before <= i; zero++) {
      const z = load.zeros[zero];
      await atStep("write", () => sink.zero!(z.at, z.length), z.at);
    }
    if (i === load.at.length) break;
    const at = load.at[i];
    const n = batch.lengths[i];
    const start = i * clusterSize;
    const stored = from;
    const r =
      n === 0
        ? atStep("write", () => sink.write(batch.input.subarray(start, start + load.length[i]), at), at)
        : atStep("write", () => sink.writeCompressed(batch.output.subarray(stored, stored + n), at), at);
    if (r instanceof Promise) await r;
    from += n;
  }
  compressor.give(batch);
  job.onProgress(load.walked);
}

function allZero(bytes: Uint8Array): boolean {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  return true;
}
