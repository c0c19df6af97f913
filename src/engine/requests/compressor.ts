/** How clusters are compressed. */
export type Compression =
  | { readonly kind: "deflate"; readonly identical: boolean }
  | { readonly kind: "zstd" };

/** Clusters side by side that are compressed together. */
export interface Batch {
  /** `count` clusters of `clusterSize` bytes. */
  readonly input: Uint8Array<ArrayBuffer>;
  /** Compressed clusters, one behind the other. */
  readonly output: Uint8Array<ArrayBuffer>;
  /** Compressed bytes of each cluster; 0 where it takes as many as before, or more. */
  readonly lengths: Uint32Array<ArrayBuffer>;
}

/** Compresses clusters beside the thread that asks. */
export interface ClusterCompressor {
  readonly clusterSize: number;
  /** Clusters of a batch. */
  readonly perBatch: number;
  /** Batches worth having under way at a time. */
  readonly width: number;
  /** An empty batch, of which `input` is to be filled. */
  take(): Batch;
  /** Compresses the first `count` clusters. The batch that comes back replaces the one that was given. */
  run(batch: Batch, count: number): Promise<Batch>;
  /** Gives a batch back. */
  give(batch: Batch): void;
  close(): Promise<void>;
}

/** Bytes of clusters in one batch. */
export const BATCH_BYTES = 512 * 1024;

/** Clusters of a batch. */
export function clustersOf(clusterSize: number): number {
  return Math.max(1, Math.floor(BATCH_BYTES / clusterSize));
}

/** Compresses the clusters of a batch with `one`, which may answer with more bytes than it got. */
export function compressBatch(
  batch: Batch,
  clusterSize: number,
  count: number,
  one: (cluster: Uint8Array) => Uint8Array,
): void {
  let at = 0;
  for (let i = 0; i < count; i++) {
    const stream = one(batch.input.subarray(i * clusterSize, (i + 1) * clusterSize));
    const fits = stream.length < clusterSize;
    batch.lengths[i] = fits ? stream.length : 0;
    if (!fits) continue;
    batch.output.set(stream, at);
    at += stream.length;
  }
}

/** A batch of its own memory. */
export function newBatch(clusterSize: number): Batch {
  const count = clustersOf(clusterSize);
  return {
    input: new Uint8Array(count * clusterSize),
    output: new Uint8Array(count * clusterSize),
    lengths: new Uint32Array(count),
  };
}
