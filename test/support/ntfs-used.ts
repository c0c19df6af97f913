// What `ntfsclone -s` says is in use: its control codes, decoded.
import { readFileSync } from "node:fs";

/** Runs (first, end) of the clusters that a saved image holds, ascending and merged; the piece after the last cluster too. */
export function savedClusters(image: string): { clusters: number; inUse: number; runs: [number, number][] } {
  const b = readFileSync(image);
  const clusterSize = b.readUInt32LE(18);
  const deviceSize = Number(b.readBigInt64LE(22));
  const clusters = Number(b.readBigInt64LE(30));
  const inUse = Number(b.readBigInt64LE(38));
  const runs: [number, number][] = [];
  let at = b.readUInt32LE(46);
  let next = 0;
  while (at < b.length) {
    if (b[at] === 0) {
      next += Number(b.readBigInt64LE(at + 1));
      at += 9;
      continue;
    }
    if (b[at] !== 1) throw new Error(`control code ${b[at]} at ${at}`);
    at += 1 + Math.min(clusterSize, Math.max(0, deviceSize - next * clusterSize));
    if (runs.length > 0 && runs[runs.length - 1][1] === next) runs[runs.length - 1][1]++;
    else runs.push([next, next + 1]);
    next++;
  }
  return { clusters, inUse, runs };
}
