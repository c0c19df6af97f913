import { groupFirstBlock, groupHasSuper } from "../../fs/ext/backups.ts";
import type { Descriptors } from "../../fs/ext/descriptors.ts";
import { ExtError } from "../../fs/ext/errors.ts";
import type { Superblock } from "../../fs/ext/superblock.ts";

/**
 * Blocks of the volume that hold descriptor block `i`: the one behind the primary superblock, or all that its meta
 * group keeps (its first, second and last group, as far as they exist). Backups of other volumes are not among them.
 */
export function descriptorPlaces(sb: Superblock, i: number): number[] {
  const kib = sb.blockSize === 1024 ? 1 : 0;
  if (i < sb.firstMetaGroup) return [Math.max(sb.firstDataBlock, kib) + 1 + i];
  const first = i * sb.descriptorsPerBlock;
  const groups = new Set([first, first + 1, first + sb.descriptorsPerBlock - 1]);
  return [...groups]
    .filter((group) => group < sb.groups)
    .map(
      (group) =>
        Math.max(groupFirstBlock(sb, group), group === 0 ? kib : 0) + (groupHasSuper(sb, group) ? 1 : 0),
    );
}

/** First block of a group's inode table, whose descriptor must be loaded. Throws ExtError where it cannot be. */
export function checkedTable(sb: Superblock, d: Descriptors, group: number): number {
  const block = d.inodeTable(group);
  const what = `ext descriptor of group ${group}`;
  if (block === 0) throw new ExtError("EXT_MISSING_INODE_TABLE", what, -1, "no inode table");
  if (block < sb.firstDataBlock || block + sb.inodeBlocks > sb.blocks)
    throw new ExtError(
      "EXT_BAD_INODE_TABLE",
      what,
      -1,
      `inode table of ${sb.inodeBlocks} blocks at block ${block} of ${sb.blocks}`,
    );
  return block;
}
