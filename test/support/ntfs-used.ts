// What a saved image of the native tool holds: its control codes, decoded.
import { readFileSync } from "node:fs";
import type { BlockSet } from "../../src/bytes/block-set.ts";
import { ExtentList } from "../../src/bytes/extents.ts";

export type ClusterRuns = readonly (readonly [from: number, to: number])[];

/**
 * What `ntfsclone -s` wrote: its counts, and runs of the clusters it holds, ascending; the piece
 * after the last one too.
 */
export interface Saved {
  readonly clusters: number;
  readonly inUse: number;
  readonly runs: ClusterRuns;
}

export function savedClusters(image: string): Saved {
  const b = readFileSync(image);
  const clusterSize = b.readUInt32LE(18);
  const deviceSize = Number(b.readBigInt64LE(22));
  const held = new Set<number>();
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
    held.add(next++);
  }
  const runs: [number, number][] = [];
  for (const c of [...held].sort((x, y) => x - y))
    if (runs.length > 0 && runs[runs.length - 1][1] === c) runs[runs.length - 1][1]++;
    else runs.push([c, c + 1]);
  return { clusters: Number(b.readBigInt64LE(30)), inUse: Number(b.readBigInt64LE(38)), runs };
}

/** The members of a set as runs. */
export function runsOf(set: BlockSet): ClusterRuns {
  const list = new ExtentList();
  set.runs(0, set.limit, list);
  return Array.from({ length: list.count }, (_, i) => [list.start(i), list.end(i)]);
}
