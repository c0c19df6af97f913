import { u16le, u64leExact } from "../../bytes/endian.ts";
import {
  descriptorBlock,
  groupEndBlock,
  groupFirstBlock,
  groupHasSuper,
  superblockBlock,
} from "./backups.ts";
import type { Descriptors, Place } from "./descriptors.ts";
import { BLOCK_UNINIT, INCOMPAT, INODE_UNINIT, SB } from "./layout.ts";
import type { Marker } from "./marker.ts";
import type { Superblock } from "./superblock.ts";

/**
 * Marks the superblock and descriptor blocks that native marks: the primary ones, and those a backup was
 * opened from.
 */
export function markSuperblocks(sb: Superblock, marker: Marker, native: boolean): void {
  for (const base of sb.backupBlock !== 0 ? [sb.backupBlock, sb.firstDataBlock] : [sb.firstDataBlock]) {
    marker.mark(base, 1, "superblock");
    for (let i = 0; i < sb.descriptorBlocks; ) {
      const block = descriptorBlock(sb, base, i);
      let n = 1;
      while (i + n < sb.descriptorBlocks && descriptorBlock(sb, base, i + n) === block + n) n++;
      marker.mark(block, n, "descriptors");
      i += n;
    }
  }
  // With bigalloc and 1 KiB blocks native's block numbers are off; its whole clusters mostly cover that up.
  if (!native && sb.clusterBits > 0 && sb.firstDataBlock === 0 && sb.blockSize === 1024) {
    marker.extra(1, 2, "superblock");
    marker.extra(2, Math.min(2 + sb.firstMetaGroup, sb.blocks), "descriptors");
  }
  if ((sb.incompat & INCOMPAT.mmp) !== 0) marker.markWide(u64leExact(sb.raw, SB.mmpBlock), 1, "system");
}

/**
 * Marks the tables of groups [from, to), whose descriptors must be loaded: inode table and bitmaps as far
 * as in use.
 */
export function markTables(
  sb: Superblock,
  d: Descriptors,
  marker: Marker,
  wholeInodeTables: boolean,
  from: number,
  to: number,
): void {
  for (let group = from; group < to; group++) {
    const flags = d.flags(group);
    const table = d.inodeTable(group);
    if (table !== 0 && (wholeInodeTables || (flags & INODE_UNINIT) === 0)) {
      let blocks = sb.inodeBlocks;
      if (!wholeInodeTables && sb.groupChecksums)
        blocks -= Math.floor(d.unusedInodes(group) / sb.inodesPerBlock);
      if (blocks < 0) {
        marker.warn(`group ${group}: more unused inodes than inodes; its whole inode table is taken`);
        blocks = sb.inodeBlocks;
      }
      markPlace(d, marker, group, "inodeTable", table, blocks);
    }
    const bitmap = d.blockBitmap(group);
    if (bitmap !== 0 && (flags & BLOCK_UNINIT) === 0) markPlace(d, marker, group, "blockBitmap", bitmap, 1);
    const inodes = d.inodeBitmap(group);
    if (inodes !== 0 && (flags & INODE_UNINIT) === 0) markPlace(d, marker, group, "inodeBitmap", inodes, 1);
  }
}

function markPlace(
  d: Descriptors,
  marker: Marker,
  group: number,
  what: Place,
  block: number,
  length: number,
): void {
  const role = what === "inodeTable" ? "inode table" : "bitmap";
  if (block <= Number.MAX_SAFE_INTEGER) marker.mark(block, length, role);
  else marker.markWide(d.exactly(group, what), length, role);
}

/**
 * Adds every block the layout of groups [from, to) takes: backups, reserved descriptor blocks, bitmaps,
 * whole tables.
 */
export function addLayout(sb: Superblock, d: Descriptors, marker: Marker, from: number, to: number): void {
  const inVolume = (block: number, n: number, role: "bitmap" | "inode table") => {
    if (block >= sb.firstDataBlock && block < sb.blocks && block !== 0)
      marker.extra(block, Math.min(block + n, sb.blocks), role);
  };
  const reserved = u16le(sb.raw, SB.reservedGdt);
  for (let group = from; group < to; group++) {
    inVolume(d.blockBitmap(group), 1, "bitmap");
    inVolume(d.inodeBitmap(group), 1, "bitmap");
    inVolume(d.inodeTable(group), sb.inodeBlocks, "inode table");
    const has = groupHasSuper(sb, group);
    const block = superblockBlock(sb, group);
    const end = groupEndBlock(sb, group);
    if (has) marker.extra(block, block + 1, "superblock");
    const meta = Math.floor(group / sb.descriptorsPerBlock);
    if (meta < sb.firstMetaGroup) {
      if (has)
        marker.extra(block + 1, Math.min(block + 1 + sb.firstMetaGroup + reserved, end), "descriptors");
      continue;
    }
    // A meta group keeps its descriptor block in its first, second and last group.
    const inMeta = group % sb.descriptorsPerBlock;
    if (inMeta === 0 || inMeta === 1 || inMeta === sb.descriptorsPerBlock - 1) {
      const at = groupFirstBlock(sb, group) + (has ? 1 : 0);
      if (at < end) marker.extra(at, at + 1, "descriptors");
    }
  }
}
