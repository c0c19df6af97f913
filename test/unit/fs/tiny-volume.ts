// The smallest ext2 volume that a reader accepts, made by hand: one group, 1 KiB blocks, 128-byte inodes.
import { putU16le, putU32le } from "../../../src/bytes/endian.ts";
import { MemorySource } from "../../../src/io/memory.ts";

export const BLOCK = 1024;
const BLOCKS = 1024;
const INODES = 64;
const TABLE = 5;

export interface TinyInode {
  mode?: number;
  links?: number;
  size?: number;
  flags?: number;
  sectors?: number;
  /** Words of i_block. */
  map?: readonly number[];
  xattr?: number;
}

export class TinyVolume {
  readonly bytes = new Uint8Array(BLOCKS * BLOCK);

  constructor() {
    const sb: [number, number][] = [
      [0, INODES],
      [4, BLOCKS],
      [20, 1],
      [24, 0],
      [28, 0],
      [32, 8192],
      [36, 8192],
      [40, INODES],
      [76, 1],
      [84, 11],
      [96, 0x2 | 0x40],
    ];
    for (const [at, v] of sb) this.sb32(at, v);
    this.sb16(56, 0xef53);
    this.sb16(58, 1);
    this.sb16(88, 128);
    putU32le(this.bytes, 2 * BLOCK, 3);
    putU32le(this.bytes, 2 * BLOCK + 4, 4);
    putU32le(this.bytes, 2 * BLOCK + 8, TABLE);
    this.inode(2, { mode: 0x41ed, links: 2 });
  }

  sb16(at: number, v: number): this {
    putU16le(this.bytes, 1024 + at, v);
    return this;
  }

  sb32(at: number, v: number): this {
    putU32le(this.bytes, 1024 + at, v);
    return this;
  }

  inode(ino: number, f: TinyInode): this {
    const at = TABLE * BLOCK + (ino - 1) * 128;
    putU16le(this.bytes, at, f.mode ?? 0x81a4);
    putU32le(this.bytes, at + 4, f.size ?? 0);
    putU16le(this.bytes, at + 26, f.links ?? 1);
    putU32le(this.bytes, at + 28, f.sectors ?? 0);
    putU32le(this.bytes, at + 32, f.flags ?? 0);
    (f.map ?? []).forEach((v, i) => {
      putU32le(this.bytes, at + 40 + 4 * i, v);
    });
    putU32le(this.bytes, at + 104, f.xattr ?? 0);
    return this;
  }

  /** Words of a block. */
  words(block: number, words: readonly number[]): this {
    words.forEach((v, i) => {
      putU32le(this.bytes, block * BLOCK + 4 * i, v >>> 0);
    });
    return this;
  }

  source(): MemorySource {
    return new MemorySource(this.bytes, "tiny");
  }
}

/**
 * Words of an extent node: header and records (logical, length, start) or, above depth 0, (logical, child).
 */
export function node(depth: number, max: number, records: readonly (readonly number[])[]): number[] {
  const words = [0xf30a | (records.length << 16), max | (depth << 16), 0];
  for (const r of records)
    if (depth === 0) words.push(r[0], r[1], r[2]);
    else words.push(r[0], r[1], 0);
  return words;
}

export const EXTENTS = 0x80000;
