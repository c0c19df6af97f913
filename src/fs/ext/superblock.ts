import { u16le, u32le } from "../../bytes/endian.ts";
import { UnsupportedError } from "../../errors.ts";
import type { Source } from "../../io/source.ts";
import { ExtError } from "./errors.ts";
import {
  EXT_MAGIC,
  FEATURE_NAMES,
  INCOMPAT,
  OLD_INODE_SIZE,
  RO_COMPAT,
  SB,
  SUPERBLOCK_OFFSET,
  SUPERBLOCK_SIZE,
} from "./layout.ts";

const KNOWN_INCOMPAT = Object.values(INCOMPAT).reduce((a, b) => a | b, 0);
const MAX_LOG_BLOCK = 6;
const MAX_LOG_CLUSTER = 19;
const MAX_LOG_FLEX = 31;
const MAX_PER_GROUP = 65528;

/**
 * A superblock that passed the open-time checks, and the geometry that follows from it. Sizes in blocks
 * unless said.
 */
export interface Superblock {
  /** The 1024 bytes as read. */
  readonly raw: Uint8Array;
  /** Byte offset it was read from. */
  readonly offset: number;
  /** Block it was read from at the caller's wish (-b), or 0 for the primary. */
  readonly backupBlock: number;
  readonly compat: number;
  readonly incompat: number;
  readonly roCompat: number;
  /** Bytes. */
  readonly blockSize: number;
  /** log2 of the blocks in a cluster; 0 without bigalloc. */
  readonly clusterBits: number;
  readonly blocks: number;
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly clustersPerGroup: number;
  readonly groups: number;
  readonly inodes: number;
  readonly inodesPerGroup: number;
  /** Bytes. */
  readonly inodeSize: number;
  readonly inodesPerBlock: number;
  /** Blocks of one group's inode table. */
  readonly inodeBlocks: number;
  /** Bytes. */
  readonly descriptorSize: number;
  readonly descriptorsPerBlock: number;
  readonly descriptorBlocks: number;
  /** Descriptor blocks below this number lie behind the superblock; the rest in their meta groups. */
  readonly firstMetaGroup: number;
  readonly wide: boolean;
  /** Group descriptors carry checksums, so their UNINIT flags count. */
  readonly groupChecksums: boolean;
  readonly creatorOs: number;
}

/** True where `head` (the first bytes of a source) holds an ext superblock at its usual place. */
export function probeExt(head: Uint8Array): boolean {
  return (
    head.length >= SUPERBLOCK_OFFSET + SB.magic + 2 &&
    u16le(head, SUPERBLOCK_OFFSET + SB.magic) === EXT_MAGIC &&
    u32le(head, SUPERBLOCK_OFFSET + SB.logBlockSize) <= MAX_LOG_BLOCK &&
    u32le(head, SUPERBLOCK_OFFSET + SB.inodesPerGroup) !== 0 &&
    u32le(head, SUPERBLOCK_OFFSET + SB.blocksPerGroup) !== 0
  );
}

/**
 * Reads and checks a superblock: the primary one, or the copy in block `backupBlock` of `blockSize` bytes.
 * Throws ExtError or UnsupportedError with the codes of errors.ts, checked in e2fsprogs' order so that the
 * same fault is named.
 */
export async function readSuperblock(source: Source, backupBlock = 0, blockSize = 0): Promise<Superblock> {
  if (backupBlock !== 0 && blockSize === 0)
    throw new ExtError(
      "EXT_INVALID_ARGUMENT",
      "ext superblock",
      -1,
      "a superblock number needs a block size too",
    );
  const offset = backupBlock !== 0 ? backupBlock * blockSize : SUPERBLOCK_OFFSET;
  const raw = new Uint8Array(SUPERBLOCK_SIZE);
  let n = 0;
  if (offset < source.size) {
    const r = source.read(raw, offset);
    n = r instanceof Promise ? await r : r;
  }
  if (n < SUPERBLOCK_SIZE)
    throw new ExtError("EXT_SHORT_READ", "ext superblock", offset, `the source ends at byte ${source.size}`);
  return parseSuperblock(raw, offset, backupBlock, blockSize);
}

/** Checks a superblock's 1024 bytes; see readSuperblock. `blockSize` 0 accepts any. */
export function parseSuperblock(
  raw: Uint8Array,
  offset = SUPERBLOCK_OFFSET,
  backupBlock = 0,
  blockSize = 0,
): Superblock {
  const corrupt = (detail: string) => new ExtError("EXT_CORRUPT_SB", "ext superblock", offset, detail);
  const magic = u16le(raw, SB.magic);
  if (magic !== EXT_MAGIC)
    throw new ExtError("EXT_BAD_MAGIC", "ext superblock", offset, `magic 0x${magic.toString(16)}`);
  const revision = u32le(raw, SB.revision);
  if (revision > 1) throw new ExtError("EXT_REV_TOO_HIGH", "ext superblock", offset, `revision ${revision}`);
  const compat = u32le(raw, SB.compat);
  const incompat = u32le(raw, SB.incompat);
  const roCompat = u32le(raw, SB.roCompat);
  const foreign = (incompat & ~KNOWN_INCOMPAT) | (incompat & INCOMPAT.journalDevice);
  if (foreign !== 0)
    throw new UnsupportedError(
      `ext volume with unsupported features: ${incompatNames(foreign).join(", ")}`,
      "EXT_UNSUPP_FEATURE",
    );
  const logBlock = u32le(raw, SB.logBlockSize);
  const logCluster = u32le(raw, SB.logClusterSize);
  if (logBlock > MAX_LOG_BLOCK) throw corrupt(`block size 2^${logBlock + 10}`);
  if (logCluster > MAX_LOG_CLUSTER) throw corrupt(`cluster size 2^${logCluster + 10}`);
  if (logBlock > logCluster) throw corrupt("clusters smaller than blocks");
  const bigalloc = (roCompat & RO_COMPAT.bigalloc) !== 0;
  if (!bigalloc && logBlock !== logCluster) throw corrupt("clusters differ from blocks without bigalloc");
  const logFlex = raw[SB.flexGroups];
  if (logFlex > MAX_LOG_FLEX) throw corrupt(`flexible groups of 2^${logFlex} groups`);
  const size = 1024 << logBlock;
  const inodeSize = revision === 0 ? OLD_INODE_SIZE : u16le(raw, SB.inodeSize);
  if (inodeSize < OLD_INODE_SIZE || inodeSize > size || (inodeSize & (inodeSize - 1)) !== 0)
    throw corrupt(`inode size ${inodeSize}`);
  const wide = (incompat & INCOMPAT.wide) !== 0;
  const descriptorSize = wide ? u16le(raw, SB.descriptorSize) : 32;
  if (wide && (descriptorSize < 64 || descriptorSize > 1024 || (descriptorSize & (descriptorSize - 1)) !== 0))
    throw new ExtError(
      "EXT_BAD_DESC_SIZE",
      "ext superblock",
      offset,
      `descriptors of ${descriptorSize} bytes`,
    );
  const clusterBits = logCluster - logBlock;
  const blocksPerGroup = u32le(raw, SB.blocksPerGroup);
  const clustersPerGroup = u32le(raw, SB.clustersPerGroup);
  if (blocksPerGroup !== (clustersPerGroup << clusterBits) >>> 0)
    throw corrupt(`${blocksPerGroup} blocks but ${clustersPerGroup} clusters a group`);
  const inodesPerGroup = u32le(raw, SB.inodesPerGroup);
  // 32-bit arithmetic, as the native tools do it: the limits below catch what overflows.
  const tableBytes = Math.imul(inodesPerGroup, inodeSize) >>> 0;
  const inodeBlocks = Math.floor(((tableBytes + size - 1) >>> 0) / size);
  if (blockSize !== 0 && blockSize !== size)
    throw new ExtError("EXT_UNEXPECTED_BLOCK_SIZE", "ext superblock", offset, `blocks of ${size} bytes`);
  if (inodesPerGroup === 0) throw corrupt("no inodes in a group");
  const blocksHigh = wide ? u32le(raw, SB.blocksHigh) : 0;
  const blocks = blocksHigh * 0x100000000 + u32le(raw, SB.blocksLow);
  const firstDataBlock = u32le(raw, SB.firstDataBlock);
  if (blocksPerGroup === 0 || blocksPerGroup > MAX_PER_GROUP * 2 ** clusterBits)
    throw corrupt(`${blocksPerGroup} blocks a group`);
  if (inodeBlocks > 65536 - size / inodeSize) throw corrupt(`inode tables of ${inodeBlocks} blocks`);
  if (inodeBlocks * size < inodesPerGroup * inodeSize) throw corrupt(`${inodesPerGroup} inodes a group`);
  if (firstDataBlock >= blocks) throw corrupt(`first data block ${firstDataBlock} of ${blocks}`);
  const groups = Math.ceil((blocks - firstDataBlock) / blocksPerGroup);
  if (groups > 0xffffffff) throw corrupt(`${groups} groups`);
  const inodes = u32le(raw, SB.inodes);
  if (groups * inodesPerGroup !== inodes)
    throw corrupt(`${inodes} inodes, but ${groups} groups of ${inodesPerGroup}`);
  const descriptorsPerBlock = size / descriptorSize;
  const descriptorBlocks = Math.ceil(groups / descriptorsPerBlock);
  const metaGroups = (incompat & INCOMPAT.metaGroups) !== 0;
  const firstMetaGroup = metaGroups ? u32le(raw, SB.firstMetaGroup) : descriptorBlocks;
  if (firstMetaGroup > descriptorBlocks) throw corrupt(`first meta group ${firstMetaGroup}`);
  if (blocks * size > Number.MAX_SAFE_INTEGER)
    throw new UnsupportedError(`ext volume of ${blocks} blocks of ${size} bytes: too large`, "EXT_TOO_LARGE");
  return {
    raw,
    offset,
    backupBlock,
    compat,
    incompat,
    roCompat,
    blockSize: size,
    clusterBits,
    blocks,
    firstDataBlock,
    blocksPerGroup,
    clustersPerGroup,
    groups,
    inodes,
    inodesPerGroup,
    inodeSize,
    inodesPerBlock: size / inodeSize,
    inodeBlocks,
    descriptorSize,
    descriptorsPerBlock,
    descriptorBlocks,
    firstMetaGroup,
    wide,
    groupChecksums: (roCompat & (RO_COMPAT.groupChecksum | RO_COMPAT.metadataChecksum)) !== 0,
    creatorOs: u32le(raw, SB.creatorOs),
  };
}

function incompatNames(bits: number): string[] {
  const names: string[] = [];
  for (let i = 0; i < 32; i++) {
    const bit = (1 << i) >>> 0;
    if ((bits & bit) === 0) continue;
    const known = FEATURE_NAMES.find(([word, b]) => word === "incompat" && b === bit);
    names.push(known === undefined ? `incompat bit ${i}` : known[2]);
  }
  return names;
}
