import { putU32le, u16le, u32le } from "../../../bytes/endian.ts";
import { Kernel, type Slot } from "../../../kernel/kernel.ts";
import { validHeader } from "../extent-tree.ts";
import { hasBlockMap, inodeFlags, inodeLinks, inodeSizeBytes, inodeType } from "../inode.ts";
import {
  EXTENT_HEADER,
  EXTENT_RECORD,
  FLAG_EA_INODE,
  FLAG_EXTENTS,
  FLAG_INLINE,
  I_BLOCK_SIZE,
  INO,
  OLD_INODE_SIZE,
  TYPE_DIRECTORY,
  TYPE_REGULAR,
  TYPE_SYMLINK,
} from "../layout.ts";
import type { Superblock } from "../superblock.ts";
import { directoryFlags, isEncrypted } from "./directories.ts";
import { DOMAIN, type Keys, replacePath } from "./keys.ts";
import { FLAG_INDEXED } from "./layout.ts";
import { CHECKSUM_TAIL, GO_ON, KERNEL_FLAGS } from "./names.ts";
import { moveInodeChecksum, type Sums } from "./sums.ts";
import { type AttributeContext, inlineDataOf, inodeAttributes, replaceAttributes } from "./xattrs.ts";

/** Bytes of an inline directory's i_block before its first record: the parent's number. */
const INLINE_PARENT = 4;
const TYPE_CHARACTER_DEVICE = 0x2000;
const TYPE_BLOCK_DEVICE = 0x6000;
const DEVICE_NUMBER = 8;

/** What rewriting inodes needs to know. */
export interface InodeContext extends AttributeContext {
  readonly sb: Superblock;
  readonly keys: Keys;
  readonly sums: Sums | null;
  /** Inodes without links that are in use all the same. */
  readonly orphans: ReadonlySet<number>;
  readonly firstInode: number;
  readonly unindexed: ReadonlySet<number>;
}

/** Rewrites inodes in place. Takes an arena slot: `close` it. */
export class InodeRewriter {
  private readonly context: InodeContext;
  private readonly kernel = Kernel.get();
  private readonly slot: Slot;
  private readonly size: number;

  constructor(context: InodeContext) {
    this.context = context;
    this.size = context.sb.inodeSize;
    this.slot = this.kernel.take(this.size);
  }

  close(): void {
    this.kernel.give(this.slot);
  }

  /** Rewrites inode `ino`, whose bytes are `into`. */
  rewrite(into: Uint8Array, ino: number): void {
    const { size, slot, context } = this;
    if (!this.needsWork(into, ino)) return;
    const b = slot.bytes;
    b.set(into);
    const { sums } = context;
    if (this.kernel.isZero(slot.at, size)) return;
    const before = sums?.inode(ino, b, slot.at, size) ?? 0;
    this.change(b, ino);
    if (sums !== null) moveInodeChecksum(b, size, before, sums.inode(ino, b, slot.at, size));
    into.set(b);
  }

  /** True unless the inode holds nothing but numbers, which most do. */
  private needsWork(b: Uint8Array, ino: number): boolean {
    const { sb, unindexed } = this.context;
    if (inodeLinks(b, 0) === 0) return true;
    const type = inodeType(b, 0);
    const flags = inodeFlags(b, 0);
    if (type !== TYPE_REGULAR && type !== TYPE_DIRECTORY) return true;
    if ((flags & (FLAG_INLINE | FLAG_EA_INODE)) !== 0) return true;
    if (unindexed.size > 0 && unindexed.has(ino)) return true;
    const map = INO.blocks;
    if ((flags & FLAG_EXTENTS) !== 0) {
      if (!validHeader(b, map, I_BLOCK_SIZE)) return true;
      const used = map + EXTENT_HEADER + EXTENT_RECORD * u16le(b, map + 2);
      for (let i = used; i < map + I_BLOCK_SIZE; i++) if (b[i] !== 0) return true;
    } else {
      for (let i = map; i < map + I_BLOCK_SIZE; i += 4) if (u32le(b, i) >= sb.blocks) return true;
    }
    if (sb.inodeSize > OLD_INODE_SIZE)
      for (let i = OLD_INODE_SIZE + u16le(b, INO.extraSize); i < b.length; i++) if (b[i] !== 0) return true;
    return false;
  }

  private change(b: Uint8Array, ino: number): void {
    const { sb, orphans, firstInode, unindexed, keys } = this.context;
    if (inodeLinks(b, 0) === 0 && ino >= firstInode && !orphans.has(ino)) {
      b.fill(0, INO.blocks, INO.blocks + I_BLOCK_SIZE);
      this.wipeExtra(b);
      return;
    }
    const type = inodeType(b, 0);
    const flags = inodeFlags(b, 0);
    const inline = (flags & FLAG_INLINE) !== 0;
    if (unindexed.has(ino)) putU32le(b, INO.flags, (flags & ~FLAG_INDEXED) >>> 0);
    const area = inodeAttributes(b);
    if (area === null) this.wipeExtra(b);
    else replaceAttributes(b, area, this.context, ino);
    if (inline) {
      this.inline(b, ino, type);
    } else if (type === TYPE_SYMLINK && !hasBlockMap(sb, b, 0)) {
      if (!isEncrypted(sb, flags)) {
        const length = Math.min(inodeSizeBytes(b, 0), I_BLOCK_SIZE);
        replacePath(b.subarray(INO.blocks, INO.blocks + length), keys, DOMAIN.target, ino);
        b.fill(0, INO.blocks + length, INO.blocks + I_BLOCK_SIZE);
      }
    } else if (type === 0 && ino < firstInode) {
      // The list of bad blocks has a map but no type.
    } else if (type === TYPE_DIRECTORY || type === TYPE_REGULAR || type === TYPE_SYMLINK) {
      this.cleanMap(b, (flags & FLAG_EXTENTS) !== 0);
    } else {
      // Devices keep their number in the first two words; pipes and sockets have none.
      const device = type === TYPE_CHARACTER_DEVICE || type === TYPE_BLOCK_DEVICE;
      b.fill(0, INO.blocks + (device ? DEVICE_NUMBER : 0), INO.blocks + I_BLOCK_SIZE);
    }
    if ((flags & FLAG_EA_INODE) !== 0) {
      const hash = this.context.inodeHash(ino);
      if (hash !== null && u32le(b, INO.accessTime) === hash.before) putU32le(b, INO.accessTime, hash.after);
    }
  }

  /** Leaves nothing in a block map but numbers that may be some. */
  private cleanMap(b: Uint8Array, extents: boolean): void {
    const from = INO.blocks;
    const end = from + I_BLOCK_SIZE;
    if (!extents) {
      for (let i = from; i < end; i += 4) if (u32le(b, i) >= this.context.sb.blocks) putU32le(b, i, 0);
    } else if (!validHeader(b, from, I_BLOCK_SIZE)) b.fill(0, from, end);
    else b.fill(0, from + EXTENT_HEADER + EXTENT_RECORD * u16le(b, from + 2), end);
  }

  /** Zeroes what lies behind the fixed fields and is no attribute. */
  private wipeExtra(b: Uint8Array): void {
    if (b.length <= OLD_INODE_SIZE) return;
    const start = OLD_INODE_SIZE + u16le(b, INO.extraSize);
    if (start < b.length) b.fill(0, start);
  }

  private inline(b: Uint8Array, ino: number, type: number): void {
    const { keys, sb } = this.context;
    const flags = inodeFlags(b, 0);
    const map = b.subarray(INO.blocks, INO.blocks + I_BLOCK_SIZE);
    const more = inlineDataOf(b, inodeAttributes(b));
    const rest = more === null ? null : b.subarray(more.valueAt, more.valueAt + more.size);
    if (type === TYPE_DIRECTORY) {
      // A checksum tail is for blocks only.
      const how = directoryFlags(sb, ino, flags, false) & KERNEL_FLAGS & ~CHECKSUM_TAIL;
      const [low, high] = keys.key(DOMAIN.names, ino);
      const { raw } = this.kernel;
      const at = this.slot.at;
      const room = I_BLOCK_SIZE - INLINE_PARENT;
      raw.rewriteNames(at + INO.blocks + INLINE_PARENT, room, sb.blockSize, how, low, high, 0);
      if (more !== null)
        raw.rewriteNames(at + more.valueAt, more.size, sb.blockSize, how | GO_ON, low, high, 0);
      return;
    }
    if (type === TYPE_SYMLINK) {
      if (isEncrypted(sb, flags)) return;
      const size = Math.min(inodeSizeBytes(b, 0), I_BLOCK_SIZE + (rest?.length ?? 0));
      const target = new Uint8Array(I_BLOCK_SIZE + (rest?.length ?? 0));
      target.set(map);
      if (rest !== null) target.set(rest, I_BLOCK_SIZE);
      replacePath(target.subarray(0, size), keys, DOMAIN.target, ino);
      target.fill(0, size);
      map.set(target.subarray(0, I_BLOCK_SIZE));
      rest?.set(target.subarray(I_BLOCK_SIZE));
      return;
    }
    map.fill(0);
    rest?.fill(0);
  }
}

/** Names in an inline directory: where its records lie in the inode's bytes, as [offset, length] pairs. */
export function inlineRecords(inode: Uint8Array): [number, number][] {
  const more = inlineDataOf(inode, inodeAttributes(inode));
  const areas: [number, number][] = [[INO.blocks + INLINE_PARENT, I_BLOCK_SIZE - INLINE_PARENT]];
  if (more !== null) areas.push([more.valueAt, more.size]);
  return areas;
}
