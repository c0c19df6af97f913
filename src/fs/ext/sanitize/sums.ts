import { putU16le, putU32le, u16le, u32le } from "../../../bytes/endian.ts";
import { Kernel } from "../../../kernel/kernel.ts";
import { Checksums } from "../checksum.ts";
import { INO, OLD_INODE_SIZE } from "../layout.ts";
import type { Superblock } from "../superblock.ts";
import { EXTRA_WITH_CHECKSUM, INODE_CHECKSUM, INODE_CHECKSUM_HIGH, INODE_GENERATION } from "./layout.ts";

const SMALL = 16;

/**
 * Metadata checksums over bytes in kernel memory. A checksum that was wrong before stays wrong: what is
 * stored is moved by the difference of what it should have been and what it should be now, so damage is not
 * hidden.
 */
export class Sums {
  readonly seed: number;
  private readonly kernel = Kernel.get();
  private readonly small = this.kernel.take(SMALL);

  constructor(seed: number) {
    this.seed = seed;
  }

  /** Null where the volume has no metadata checksums. Takes an arena slot: `close` it. */
  static of(sb: Superblock): Sums | null {
    const checksums = Checksums.of(sb);
    return checksums === null ? null : new Sums(checksums.seed);
  }

  close(): void {
    this.kernel.give(this.small);
  }

  /** Start value of everything that an inode owns. */
  owner(ino: number, generation: number): number {
    putU32le(this.small.bytes, 0, ino);
    putU32le(this.small.bytes, 4, generation);
    return this.kernel.crc32c(this.seed, this.small.at, 8);
  }

  /** Start value of an attribute block: its number. */
  block(number: number): number {
    putU32le(this.small.bytes, 0, number % 0x100000000);
    putU32le(this.small.bytes, 4, Math.floor(number / 0x100000000));
    return this.kernel.crc32c(this.seed, this.small.at, 8);
  }

  /** Checksum of `length` bytes at `at` of which the four at offset `hole` count as zeros. */
  around(start: number, at: number, length: number, hole: number): number {
    this.small.bytes.fill(0, 8, 12);
    const crc = this.kernel.crc32c(start, at, hole);
    const zeros = this.kernel.crc32c(crc, this.small.at + 8, 4);
    return this.kernel.crc32c(zeros, at + hole + 4, length - hole - 4);
  }

  /** As `kernel.crc32c`. */
  plain(start: number, at: number, length: number): number {
    return this.kernel.crc32c(start, at, length);
  }

  /** Checksum an inode of `size` bytes at `at` should have; 32 bits. `b` are its bytes. */
  inode(ino: number, b: Uint8Array, at: number, size: number): number {
    const { kernel } = this;
    const wide = hasWideChecksum(b, size);
    const low = u16le(b, INODE_CHECKSUM);
    const high = wide ? u16le(b, INODE_CHECKSUM_HIGH) : 0;
    putU16le(b, INODE_CHECKSUM, 0);
    if (wide) putU16le(b, INODE_CHECKSUM_HIGH, 0);
    const crc = kernel.crc32c(this.owner(ino, u32le(b, INODE_GENERATION)), at, size);
    putU16le(b, INODE_CHECKSUM, low);
    if (wide) putU16le(b, INODE_CHECKSUM_HIGH, high);
    return wide ? crc : crc & 0xffff;
  }
}

/** True where an inode has room for the upper half of its checksum. */
function hasWideChecksum(b: Uint8Array, size: number): boolean {
  return size > OLD_INODE_SIZE && u16le(b, INO.extraSize) >= EXTRA_WITH_CHECKSUM;
}

/** Stores an inode's checksum again after a change: `before` and `after` as `Sums.inode` gives them. */
export function moveInodeChecksum(b: Uint8Array, size: number, before: number, after: number): void {
  const change = before ^ after;
  putU16le(b, INODE_CHECKSUM, u16le(b, INODE_CHECKSUM) ^ (change & 0xffff));
  if (hasWideChecksum(b, size))
    putU16le(b, INODE_CHECKSUM_HIGH, u16le(b, INODE_CHECKSUM_HIGH) ^ (change >>> 16));
}

/** The same for a 32-bit checksum at `at` of `b`. */
export function moveChecksum(b: Uint8Array, at: number, before: number, after: number): void {
  putU32le(b, at, (u32le(b, at) ^ before ^ after) >>> 0);
}
