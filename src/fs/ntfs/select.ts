import { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { IoError } from "../../errors.ts";
import { Kernel } from "../../kernel/kernel.ts";
import type { Role, Selection, SelectOptions } from "../volume.ts";
import { BITMAP_PIECE, eachBitmapPiece, openBitmap } from "./bitmap.ts";
import { NtfsError } from "./errors.ts";
import { isBadClusterList } from "./in-use.ts";
import type { Inode, NtfsParts } from "./inode.ts";
import {
  AT,
  FILE_BITMAP,
  FILE_BOOT,
  FILE_EXTEND,
  FILE_LOG,
  FILE_MFT,
  FILE_MIRROR,
  FIRST_USER_RECORD,
} from "./layout.ts";
import { logHead } from "./metadata/log.ts";
import type { Attribute } from "./record.ts";
import { HOLE_LCN, RUN, type Runs } from "./runlist.ts";
import { KIND_NAMED, walkClusters } from "./walk.ts";

/**
 * Decides which clusters of a volume to take; see Volume.select. "metadata" is what `ntfsclone -m` keeps (before it
 * wipes anything), "data" everything the files own, "used" that and what $Bitmap marks besides, "all" every cluster.
 * The piece after the last whole cluster, with the backup boot sector, belongs to every scope.
 */
export async function select(
  parts: NtfsParts & { readonly size: number },
  options: SelectOptions,
): Promise<Selection> {
  const { boot } = parts;
  const { scope } = options;
  const blocks = new BlockSet(Math.max(Math.ceil(parts.size / boot.clusterSize), boot.clusters));
  const roles = options.roles === true ? new Map<Role, BlockSet>() : null;
  const warnings: string[] = [];
  let marks = 0;
  const mark = (from: number, length: number, role: Role) => {
    blocks.add(from, from + length);
    marks += length;
    if (roles === null) return;
    let set = roles.get(role);
    if (set === undefined) roles.set(role, (set = new BlockSet(blocks.limit)));
    set.add(from, from + length);
  };
  const take = (runs: Runs, role: Role) => {
    for (let i = 0; i < runs.length; i += RUN)
      if (runs[i + 1] !== HOLE_LCN) mark(runs[i + 1], runs[i + 2], role);
  };
  if (scope === "all" && roles === null) {
    blocks.add(0, blocks.limit);
    return { blockSize: boot.clusterSize, blocks, marks: blocks.limit, roles, warnings };
  }
  const metadata = scope === "metadata";
  const bad = new BlockSet(boot.clusters);
  await walkClusters(
    parts,
    {
      run: (kind, lcn, length) => {
        const isData = (kind & ~KIND_NAMED) << 4 === AT.data;
        if (!isData || !metadata) mark(lcn, length, roleOfType((kind & ~KIND_NAMED) << 4));
      },
      attribute: (inode, attribute, runs) => {
        if (isBadClusterList(inode, attribute)) {
          for (let i = 0; i < runs.length; i += RUN)
            if (runs[i + 1] !== HOLE_LCN) bad.add(runs[i + 1], runs[i + 1] + runs[i + 2]);
        } else if (metadata && attribute.type === AT.data) {
          if (inode.number > FILE_EXTEND) return;
          take(inode.number === FILE_LOG ? logHead(runs, boot.clusterSize) : runs, roleOf(inode, attribute));
        } else take(runs, roleOf(inode, attribute));
      },
      odd: (line) => warnings.push(line),
    },
    { ...options, skipCorrupt: true },
  );
  if (blocks.limit > boot.clusters) mark(boot.clusters, blocks.limit - boot.clusters, "superblock");
  if (!metadata && scope !== "data") {
    await addMarked(parts, blocks, warnings);
    if (roles !== null) restIsData(blocks, roles);
  }
  if (scope === "all") blocks.add(0, blocks.limit);
  else removeAll(blocks, bad);
  if (bad.count > 0 && scope !== "all")
    warnings.push(`${bad.count} clusters are marked as bad and are left out`);
  if (metadata)
    warnings.push("contents of small files, which lie in MFT records, are included: nothing is wiped");
  return { blockSize: boot.clusterSize, blocks, marks, roles, warnings };
}

/** Paints what no file owns. */
function restIsData(blocks: BlockSet, roles: Map<Role, BlockSet>): void {
  const painted = new BlockSet(blocks.limit);
  for (const set of roles.values()) painted.union(set);
  const data = roles.get("data") ?? new BlockSet(blocks.limit);
  roles.set("data", data);
  const runs = new ExtentList();
  for (let from = 0; from < blocks.limit; ) {
    runs.clear();
    from = blocks.runs(from, blocks.limit, runs, 65536);
    for (let i = 0; i < runs.count; i++) {
      for (let at = runs.start(i); at < runs.end(i); ) {
        const met = painted.firstMember(at, runs.end(i));
        data.add(at, met);
        at = painted.firstMissing(met, runs.end(i));
      }
    }
  }
}

/**
 * What $Bitmap marks besides, and what a part of it that cannot be read describes. Without $Bitmap, what
 * the files own has to do.
 */
async function addMarked(parts: NtfsParts, blocks: BlockSet, warnings: string[]): Promise<void> {
  const { clusters } = parts.boot;
  const kernel = Kernel.get();
  const slot = kernel.take(BITMAP_PIECE);
  let lost = 0;
  try {
    const stream = await openBitmap(parts);
    const length = Math.min(stream.size, Math.ceil(clusters / 8));
    await eachBitmapPiece(
      stream,
      length,
      (bytes, at) => {
        const base = at * 8;
        const end = Math.min(bytes.length * 8, clusters - base);
        for (let from = 0; from < end; ) {
          const n = kernel.setRuns(slot.at, from, end);
          for (let i = 0; i < n; i++) {
            from = kernel.out[2 * i] + kernel.out[2 * i + 1];
            blocks.add(base + kernel.out[2 * i], base + from);
          }
          if (n === 0) return;
        }
      },
      slot.bytes,
      (from, to) => {
        lost += to - from;
      },
    );
    if (lost > 0)
      warnings.push(`${lost} bytes of $Bitmap cannot be read: what they describe is taken as in use`);
  } catch (error) {
    if (!(error instanceof NtfsError || error instanceof IoError)) throw error;
    warnings.push(`$Bitmap cannot be read: ${error.message}`);
  } finally {
    kernel.give(slot);
  }
}

function removeAll(blocks: BlockSet, others: BlockSet): void {
  if (others.count === 0) return;
  const runs = new ExtentList();
  others.runs(0, others.limit, runs);
  for (let i = 0; i < runs.count; i++) blocks.remove(runs.start(i), runs.end(i));
}

function roleOf(inode: Inode, attribute: Attribute): Role {
  const { number } = inode;
  if (attribute.type !== AT.data && attribute.type !== AT.bitmap) return roleOfType(attribute.type);
  if (number === FILE_MFT || number === FILE_MIRROR) return "inode table";
  if (number === FILE_BOOT) return "superblock";
  if (number === FILE_BITMAP) return "bitmap";
  if (number === FILE_LOG) return "journal";
  if (number < FIRST_USER_RECORD) return "system";
  return roleOfType(attribute.type);
}

function roleOfType(type: number): Role {
  switch (type) {
    case AT.data:
      return "data";
    case AT.indexAllocation:
      return "directory";
    case AT.bitmap:
      return "bitmap";
    case AT.attributeList:
      return "inode table";
    case AT.ea:
    case AT.eaInformation:
    case AT.reparsePoint:
      return "xattr";
    default:
      return "system";
  }
}
