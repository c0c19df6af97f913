import { u32le } from "../../bytes/endian.ts";
import { COMPAT, RO_COMPAT, SB } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** True where group `group` holds a copy of the superblock (group 0 holds the primary). */
export function groupHasSuper(sb: Superblock, group: number): boolean {
  if (group === 0) return true;
  if ((sb.compat & COMPAT.sparseSuper2) !== 0)
    return group === u32le(sb.raw, SB.backupGroups) || group === u32le(sb.raw, SB.backupGroups + 4);
  if (group === 1 || (sb.roCompat & RO_COMPAT.sparseSuper) === 0) return true;
  if ((group & 1) === 0) return false;
  return isPower(group, 3) || isPower(group, 5) || isPower(group, 7);
}

function isPower(n: number, base: number): boolean {
  while (n % base === 0) n /= base;
  return n === 1;
}

/** First block of group `group`. */
export function groupFirstBlock(sb: Superblock, group: number): number {
  return sb.firstDataBlock + group * sb.blocksPerGroup;
}

/** One past the last block of group `group`. */
export function groupEndBlock(sb: Superblock, group: number): number {
  return Math.min(groupFirstBlock(sb, group) + sb.blocksPerGroup, sb.blocks);
}

/**
 * Block that holds the superblock of `group`: with 1 KiB blocks and a first data block of 0 (bigalloc) the
 * primary one is in block 1 all the same.
 */
export function superblockBlock(sb: Superblock, group: number): number {
  const first = groupFirstBlock(sb, group);
  return group === 0 && sb.blockSize === 1024 ? 1 : first;
}

/**
 * Where native code places descriptor block `i` relative to the superblock block `base`: behind it, or,
 * from the first meta group on, in the group the block describes (the next one when a backup is asked for
 * and the volume reaches that far).
 */
export function descriptorBlock(sb: Superblock, base: number, i: number): number {
  const adjust = i === 0 && sb.blockSize === 1024 && sb.clusterBits > 0 ? 1 : 0;
  if (i < sb.firstMetaGroup) return base + adjust + 1 + i;
  const group = i * sb.descriptorsPerBlock;
  let has = groupHasSuper(sb, group) ? 1 : 0;
  let block = groupFirstBlock(sb, group);
  if (base !== sb.firstDataBlock && block + has + sb.blocksPerGroup < sb.blocks) {
    block += sb.blocksPerGroup;
    has = groupHasSuper(sb, group + 1) ? 1 : 0;
  }
  return block + has + adjust;
}
