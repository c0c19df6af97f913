import { UnsupportedError } from "../../errors.ts";
import { ExtError } from "../../fs/ext/errors.ts";
import type { Superblock } from "../../fs/ext/superblock.ts";
import { OFFSET_LIMIT } from "./layout.ts";

/** Where the sections of an image start, bytes. They follow each other in this order. */
export interface Sections {
  readonly superblock: number;
  readonly descriptors: number;
  readonly inodeTables: number;
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  /** Size of the image. */
  readonly size: number;
}

/** Lengths of the sections and of what a group has in them, bytes. */
export interface Lengths {
  readonly descriptors: number;
  readonly inodeTables: number;
  /** One group's share of the block bitmap. */
  readonly groupBlockBits: number;
  readonly groupInodeBits: number;
  /** Whole bitmaps, padded to a block. */
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
}

/**
 * Lengths of a volume's sections. Throws ExtError("EXT_CORRUPT_SB") where a group's bitmap does not fit a block, and
 * UnsupportedError where it does not end at a byte: bitmaps of such groups cannot be strung together.
 */
export function lengthsOf(sb: Superblock): Lengths {
  const perGroup = (bits: number, what: string): number => {
    if (bits % 8 !== 0)
      throw new UnsupportedError(
        `ext volume of ${bits} ${what} a group: not a multiple of 8, no image can hold it`,
      );
    if (bits / 8 > sb.blockSize)
      throw new ExtError("EXT_CORRUPT_SB", "ext superblock", sb.offset, `${bits} ${what} a group`);
    return bits / 8;
  };
  const groupBlockBits = perGroup(sb.clustersPerGroup, "clusters");
  const groupInodeBits = perGroup(sb.inodesPerGroup, "inodes");
  const padded = (bytes: number): number => Math.ceil(bytes / sb.blockSize) * sb.blockSize;
  return {
    descriptors: sb.descriptorBlocks * sb.blockSize,
    inodeTables: sb.groups * sb.inodeBlocks * sb.blockSize,
    groupBlockBits,
    groupInodeBits,
    blockBitmap: padded(groupBlockBits * sb.groups),
    inodeBitmap: padded(groupInodeBits * sb.groups),
  };
}

/**
 * Where the sections of a volume's image go. Throws UnsupportedError("E2IMAGE_TOO_LARGE") where one of them would
 * start at or beyond 4 GiB, which the header has no room to say.
 */
export function sectionsOf(sb: Superblock): Sections {
  const lengths = lengthsOf(sb);
  const superblock = sb.blockSize;
  const descriptors = superblock + sb.blockSize;
  const inodeTables = descriptors + lengths.descriptors;
  const blockBitmap = inodeTables + lengths.inodeTables;
  const inodeBitmap = blockBitmap + lengths.blockBitmap;
  if (inodeBitmap >= OFFSET_LIMIT)
    throw new UnsupportedError(
      `this volume's normal image needs sections up to byte ${inodeBitmap}, and the format ends at 4 GiB ` +
        "(its offsets have 32 bits); -r or -Q makes an image of any size",
      "E2IMAGE_TOO_LARGE",
    );
  return {
    superblock,
    descriptors,
    inodeTables,
    blockBitmap,
    inodeBitmap,
    size: inodeBitmap + lengths.inodeBitmap,
  };
}
