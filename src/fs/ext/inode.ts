import { u16le, u32le } from "../../bytes/endian.ts";
import {
  FLAG_HUGE,
  FLAG_INLINE,
  INO,
  RO_COMPAT,
  TYPE_DIRECTORY,
  TYPE_MASK,
  TYPE_REGULAR,
  TYPE_SYMLINK,
} from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** Field access on one inode's bytes. Offsets are bytes into the table piece `b`, the inode at `at`. */

export function inodeMode(b: Uint8Array, at: number): number {
  return u16le(b, at + INO.mode);
}

export function inodeType(b: Uint8Array, at: number): number {
  return u16le(b, at + INO.mode) & TYPE_MASK;
}

export function inodeLinks(b: Uint8Array, at: number): number {
  return u16le(b, at + INO.links);
}

export function inodeFlags(b: Uint8Array, at: number): number {
  return u32le(b, at + INO.flags);
}

/** File size in bytes; may be above 2^53 on a hostile volume. */
export function inodeSizeBytes(b: Uint8Array, at: number): number {
  return u32le(b, at + INO.sizeHigh) * 0x100000000 + u32le(b, at + INO.size);
}

/** The extended attribute block, or 0. The high 16 bits exist with the 64bit feature only. */
export function inodeXattrBlock(sb: Superblock, b: Uint8Array, at: number): number {
  return u32le(b, at + INO.xattr) + (sb.wide ? u16le(b, at + INO.xattrHigh) * 0x100000000 : 0);
}

/** Space the inode uses, in units of 512 bytes. */
export function inodeSectors(sb: Superblock, b: Uint8Array, at: number): number {
  let n = u32le(b, at + INO.sectors);
  if ((sb.roCompat & RO_COMPAT.hugeFile) !== 0) {
    n += u16le(b, at + INO.sectorsHigh) * 0x100000000;
    if ((inodeFlags(b, at) & FLAG_HUGE) !== 0) n *= sb.blockSize / 512;
  }
  return n;
}

/**
 * True where i_block holds a block map: directories, regular files, and symlinks whose target did not fit
 * into the inode. With an xattr block i_blocks says nothing, so the map itself has to be guessed from, as
 * e2fsprogs does.
 */
export function hasBlockMap(sb: Superblock, b: Uint8Array, at: number): boolean {
  const type = inodeType(b, at);
  if (type === TYPE_SYMLINK) {
    const size = u32le(b, at + INO.size);
    if (inodeXattrBlock(sb, b, at) === 0) {
      if (u32le(b, at + INO.sectors) === 0) return false;
    } else {
      if (size >= 60) return true;
      return size > 4 && u32le(b, at + INO.blocks + 4) === 0;
    }
  } else if (type !== TYPE_DIRECTORY && type !== TYPE_REGULAR) return false;
  return (inodeFlags(b, at) & FLAG_INLINE) === 0;
}
