import { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { NtfsError } from "./errors.ts";
import type { Inode, NtfsParts } from "./inode.ts";
import { AT, FILE_BAD_CLUSTERS } from "./layout.ts";
import type { Attribute } from "./record.ts";
import { HOLE_LCN, RUN } from "./runlist.ts";
import { twiceText, type WalkOptions, walkClusters } from "./walk.ts";

/** The clusters that files own, as native finds them. */
export interface InUse {
  /**
   * Clusters in use, and number boot.clusters (the piece after the last whole cluster, with the backup boot sector),
   * which always counts as in use.
   */
  readonly blocks: BlockSet;
  /** Clusters in use, bad ones too, without the piece after the last; a duplicate one counts each time. */
  readonly clusters: number;
  /** What $BadClus says is unreadable; part of `blocks` until `dropBad`. */
  readonly bad: BlockSet;
  /** Clusters that belong to more than one attribute (only where that is tolerated). */
  readonly duplicates: number;
  readonly warnings: readonly string[];
}

export interface InUseOptions extends WalkOptions {
  /**
   * Called for each cluster that is met again (the first million), to tolerate it. Without it such a volume is refused.
   */
  readonly onDuplicate?: (cluster: number) => void;
}

/** Clusters met again that are named one by one; a hostile volume can have any number. */
const MOST_DUPLICATES = 1 << 20;
/** Those before which the progress is told as far as it has come. */
const MOST_PLACED = 64;

/**
 * Finds the clusters in use by walking the master file table, as native does: base records in use, all their
 * attributes, holes left out. Throws NtfsError: NTFS_BAD_RUNLIST, NTFS_CLUSTER_TWICE (its nativeText is what
 * ntfsclone prints); AbortError.
 */
export async function inUse(parts: NtfsParts, options: InUseOptions = {}): Promise<InUse> {
  const { clusters: limit } = parts.boot;
  const blocks = new BlockSet(limit + 1);
  const bad = new BlockSet(limit);
  const warnings: string[] = [];
  let duplicates = 0;
  const mark = (lcn: number, length: number, reach: (cluster: number) => void): void => {
    let from = lcn;
    const end = lcn + length;
    for (;;) {
      const met = blocks.firstMember(from, end);
      blocks.add(from, met);
      if (met >= end) return;
      if (duplicates < MOST_PLACED) reach(met);
      if (options.onDuplicate === undefined) throw twice(met);
      if (duplicates >= MOST_DUPLICATES) {
        duplicates += end - met - blocks.add(met, end);
        return;
      }
      options.onDuplicate(met);
      duplicates++;
      from = met + 1;
    }
  };
  await walkClusters(
    parts,
    {
      run: (_kind, lcn, length, reach) => mark(lcn, length, reach),
      attribute: (inode, attribute, runs) => {
        const isBad = isBadClusterList(inode, attribute);
        for (let i = 0; i < runs.length; i += RUN) {
          if (runs[i + 1] === HOLE_LCN) continue;
          mark(runs[i + 1], runs[i + 2], () => {});
          if (isBad) bad.add(runs[i + 1], runs[i + 1] + runs[i + 2]);
        }
      },
      odd: (line) => warnings.push(line),
    },
    options,
  );
  // Native counts a cluster each time it meets it.
  const clusters = blocks.count + duplicates;
  blocks.add(limit);
  return { blocks, clusters, bad, duplicates, warnings };
}

/** Takes the bad clusters out of the set, as native does before it copies; returns how many clusters stay in use. */
export function dropBad(used: InUse): number {
  let dropped = 0;
  const runs = new ExtentList();
  for (let from = 0; from < used.bad.limit; ) {
    runs.clear();
    from = used.bad.runs(from, used.bad.limit, runs, 65536);
    for (let i = 0; i < runs.count; i++) dropped += used.blocks.remove(runs.start(i), runs.end(i));
  }
  return used.clusters - dropped;
}

/** True for $BadClus:$Bad, whose clusters are not to be read. */
export function isBadClusterList(inode: Inode, attribute: Attribute): boolean {
  return inode.number === FILE_BAD_CLUSTERS && attribute.type === AT.data && attribute.name === "$Bad";
}

function twice(cluster: number): NtfsError {
  return new NtfsError(
    "NTFS_CLUSTER_TWICE",
    "NTFS volume",
    -1,
    `cluster ${cluster} belongs to two attributes`,
    {
      text: twiceText(cluster),
      errno: 0,
    },
  );
}
