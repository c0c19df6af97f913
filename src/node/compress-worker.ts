import { parentPort, workerData } from "node:worker_threads";
import { clusterCompressor } from "../codec/node/compress.ts";
import { type Batch, compressBatch } from "../engine/requests/compressor.ts";

/** What a compressing thread is told at its start. */
export interface CompressJob {
  readonly kind: "deflate" | "zstd";
  readonly identical: boolean;
  readonly clusterSize: number;
}

/** A batch goes to a thread and comes back with its memory. */
export interface CompressMessage {
  readonly id: number;
  readonly batch: Batch;
  readonly count: number;
}

/** What comes back: the batch, or why there is none. */
export type CompressAnswer =
  | { readonly id: number; readonly batch: Batch }
  | { readonly id: number; readonly error: string };

const port = parentPort!;
const { kind, identical, clusterSize } = workerData as CompressJob;
const compressor = clusterCompressor(kind, identical, clusterSize);

port.on("message", async ({ id, batch, count }: CompressMessage) => {
  try {
    compressBatch(batch, clusterSize, count, await compressor);
    port.postMessage({ id, batch } satisfies CompressAnswer, [
      batch.input.buffer,
      batch.output.buffer,
      batch.lengths.buffer,
    ]);
  } catch (error) {
    const answer: CompressAnswer = { id, error: error instanceof Error ? error.message : String(error) };
    port.postMessage(answer);
  }
});
