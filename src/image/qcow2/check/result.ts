/** What a check found and repaired. Counts of clusters, unless named otherwise. */
export interface CheckResult {
  /** Inconsistencies that can lose data. */
  corruptions: number;
  /** Clusters that are counted as used more often than they are. */
  leaks: number;
  /** Things that could not be looked at. */
  errors: number;
  corruptionsFixed: number;
  leaksFixed: number;
  /** Byte after the last cluster in use. */
  imageEndOffset: number;
  /** Guest clusters: all, and those with a cluster of their own. */
  totalClusters: number;
  allocatedClusters: number;
  fragmentedClusters: number;
  compressedClusters: number;
}

export function emptyResult(): CheckResult {
  return {
    corruptions: 0,
    leaks: 0,
    errors: 0,
    corruptionsFixed: 0,
    leaksFixed: 0,
    imageEndOffset: 0,
    totalClusters: 0,
    allocatedClusters: 0,
    fragmentedClusters: 0,
    compressedClusters: 0,
  };
}

/**
 * Adds the counts of `part`; its numbers about the image (end, guest clusters) replace those of
 * `sum` with `allocation`.
 */
export function addResult(sum: CheckResult, part: CheckResult, allocation: boolean): void {
  sum.corruptions += part.corruptions;
  sum.leaks += part.leaks;
  sum.errors += part.errors;
  sum.corruptionsFixed += part.corruptionsFixed;
  sum.leaksFixed += part.leaksFixed;
  if (!allocation) return;
  sum.imageEndOffset = part.imageEndOffset;
  sum.totalClusters = part.totalClusters;
  sum.allocatedClusters = part.allocatedClusters;
  sum.fragmentedClusters = part.fragmentedClusters;
  sum.compressedClusters = part.compressedClusters;
}

/** Why a check could not be brought to its end: an error of the host or its name for what the image asks for. */
export type FailureCode = "EIO" | "EINVAL" | "EFBIG" | "ENOMEM" | "ENOSPC";

/** Ends a check; `result` has what was found until then. */
export class CheckFailure extends Error {
  readonly code: FailureCode;
  constructor(code: FailureCode) {
    super(code);
    this.code = code;
  }
}

/** Lower-case hexadecimal of a 64-bit number given as two words. */
export function hex64(high: number, low: number): string {
  const l = (low >>> 0).toString(16);
  return high === 0 ? l : (high >>> 0).toString(16) + l.padStart(8, "0");
}
