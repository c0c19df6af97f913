/** Ascending, disjoint pieces to copy: `length[i]` bytes from `from[i]` of the source to `to[i]` of the target. */
export interface Pieces {
  readonly count: number;
  readonly from: Float64Array;
  readonly to: Float64Array;
  readonly length: Float64Array;
}

/** Placeholder until the engine's bulk contract lands with its implementation. */
export type BulkCopier = unknown;
