import { HOLE_LCN, RUN, type Runs, runOf } from "../runlist.ts";

/** Bytes of $LogFile's start that are always kept: two restart pages and the two buffers after them. */
const HEAD_BYTES = 16384;
/** The smallest page size that a header may follow. */
const FIRST_STEP = 256;

/** How many clusters from cluster `vcn` of $LogFile on belong to its head. */
export function firstLogClusters(vcn: number, clusterSize: number): number {
  return Math.max(0, Math.ceil((HEAD_BYTES - vcn * clusterSize) / clusterSize));
}

/**
 * The clusters that hold bytes 0, 256, 512, 1024 ... of $LogFile, as far as `runs` map it; one for each of these bytes.
 */
export function logSteps(runs: Runs, clusterSize: number): number[] {
  const steps: number[] = [];
  if (runs.length === 0) return steps;
  const end = (runs[runs.length - RUN] + runs[runs.length - 1]) * clusterSize;
  for (let at = 0; at < end; at = at === 0 ? FIRST_STEP : at * 2) {
    const vcn = Math.floor(at / clusterSize);
    const i = runOf(runs, vcn);
    if (i >= 0 && runs[i + 1] !== HOLE_LCN) steps.push(runs[i + 1] + vcn - runs[i]);
  }
  return steps;
}

/**
 * The clusters of $LogFile that count as metadata: its head, and those of `logSteps`. In no order, some more than once.
 */
export function logHead(runs: Runs, clusterSize: number): Runs {
  const kept: number[] = [];
  for (let i = 0; i < runs.length; i += RUN) {
    const clusters = Math.min(runs[i + 2], firstLogClusters(runs[i], clusterSize));
    if (clusters > 0 && runs[i + 1] !== HOLE_LCN) kept.push(runs[i], runs[i + 1], clusters);
  }
  for (const lcn of logSteps(runs, clusterSize)) kept.push(0, lcn, 1);
  return Float64Array.from(kept);
}
