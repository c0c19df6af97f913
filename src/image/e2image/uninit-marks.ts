import { BlockSet } from "../../bytes/block-set.ts";
import { u16le } from "../../bytes/endian.ts";
import { groupFirstBlock, groupHasSuper, superblockBlock } from "../../fs/ext/backups.ts";
import type { Descriptors } from "../../fs/ext/descriptors.ts";
import { BLOCK_UNINIT, INCOMPAT, SB } from "../../fs/ext/layout.ts";
import type { Superblock } from "../../fs/ext/superblock.ts";

/**
 * Clusters that the layout of groups without an initialised block bitmap takes, wherever they lie: native code sets
 * them in the bitmap it puts together. Numbers are clusters of the volume. What lies outside the volume is left out.
 */
export class UninitMarks {
  readonly clusters: BlockSet;
  private readonly sb: Superblock;
  private readonly limit: number;

  constructor(sb: Superblock) {
    this.sb = sb;
    this.limit = Math.ceil(sb.blocks / 2 ** sb.clusterBits);
    this.clusters = new BlockSet(this.limit);
  }

  /** Takes the layout of a group, whose descriptor must be loaded; nothing where its bitmap is initialised. */
  addGroup(d: Descriptors, group: number): void {
    if ((d.flags(group) & BLOCK_UNINIT) === 0) return;
    const { sb } = this;
    const has = groupHasSuper(sb, group);
    const block = superblockBlock(sb, group);
    if (has) this.mark(block, 1);
    if (group === 0 && sb.blockSize === 1024 && sb.clusterBits > 0) this.mark(0, 1);
    const metaGroups = (sb.incompat & INCOMPAT.metaGroups) !== 0;
    if (!metaGroups || Math.floor(group / sb.descriptorsPerBlock) < sb.firstMetaGroup) {
      const blocks = metaGroups ? sb.firstMetaGroup : sb.descriptorBlocks + u16le(sb.raw, SB.reservedGdt);
      if (has) this.mark(block + 1, Math.min(blocks, sb.blocks - block - 1));
    } else {
      const within = group % sb.descriptorsPerBlock;
      if (within <= 1 || within === sb.descriptorsPerBlock - 1)
        this.mark(groupFirstBlock(sb, group) + (has ? 1 : 0), 1);
    }
    if (d.inodeTable(group) !== 0) this.mark(d.inodeTable(group), sb.inodeBlocks);
    if (d.blockBitmap(group) !== 0) this.mark(d.blockBitmap(group), 1);
    if (d.inodeBitmap(group) !== 0) this.mark(d.inodeBitmap(group), 1);
  }

  private mark(block: number, length: number): void {
    const unit = 2 ** this.sb.clusterBits;
    const from = Math.floor(block / unit);
    const to = Math.ceil((block + length) / unit);
    const inside = from >= Math.floor(this.sb.firstDataBlock / unit) && to <= this.limit;
    if (length > 0 && inside) this.clusters.add(from, to);
  }
}
