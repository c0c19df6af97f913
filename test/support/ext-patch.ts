// Finds and overwrites on-disk structures of an ext volume held in memory, for tests that break them.
import { must } from "./native.ts";

const SB = 1024;

/** Superblock fields by name: offset and width in bytes. */
export const SUPERBLOCK_FIELDS = {
  inodesCount: [0, 4],
  blocksCount: [4, 4],
  firstDataBlock: [20, 4],
  logBlockSize: [24, 4],
  logClusterSize: [28, 4],
  blocksPerGroup: [32, 4],
  clustersPerGroup: [36, 4],
  inodesPerGroup: [40, 4],
  magic: [56, 2],
  creatorOs: [72, 4],
  revision: [76, 4],
  firstInode: [84, 4],
  inodeSize: [88, 2],
  compat: [92, 4],
  incompat: [96, 4],
  roCompat: [100, 4],
  reservedGdt: [206, 2],
  journalInode: [224, 4],
  lastOrphan: [232, 4],
  descSize: [254, 2],
  firstMetaBg: [260, 4],
  blocksCountHigh: [336, 4],
  mmpBlock: [360, 4],
  mmpBlockHigh: [364, 4],
  logGroupsPerFlex: [372, 1],
  backupGroup0: [588, 4],
  projectQuotaInode: [620, 4],
  orphanFileInode: [640, 4],
} as const;

export type SuperblockField = keyof typeof SUPERBLOCK_FIELDS;

/** A volume in memory with the few numbers that locating things needs. */
export class Patch {
  readonly bytes: Buffer;
  readonly blockSize: number;
  private readonly image: string;
  constructor(image: string, bytes: Buffer) {
    this.image = image;
    this.bytes = bytes;
    this.blockSize = 1024 << bytes.readUInt32LE(SB + 24);
  }

  get(field: SuperblockField): number {
    const [at, width] = SUPERBLOCK_FIELDS[field];
    return this.bytes.readUIntLE(SB + at, width);
  }

  set(field: SuperblockField, value: number): this {
    const [at, width] = SUPERBLOCK_FIELDS[field];
    for (let i = 0; i < width; i++) this.bytes[SB + at + i] = Math.floor(value / 256 ** i) & 255;
    return this;
  }

  u16(at: number, value: number): this {
    this.bytes.writeUInt16LE(value, at);
    return this;
  }

  u32(at: number, value: number): this {
    this.bytes.writeUInt32LE(value >>> 0, at);
    return this;
  }

  /** Byte offset of a group's descriptor (volumes without meta_bg). */
  descriptor(group: number): number {
    const size = this.get("incompat") & 0x80 ? this.get("descSize") : 32;
    return (this.get("firstDataBlock") + 1) * this.blockSize + group * size;
  }

  /** Byte offset of an inode, named as debugfs does (a path or <number>). */
  async inode(name: string): Promise<number> {
    const text = (await must("debugfs", ["-R", `imap ${name}`, this.image])).stdout.toString("latin1");
    const m = /located at block (\d+), offset 0x([0-9a-f]+)/.exec(text);
    if (!m) throw new Error(`debugfs finds no inode ${name}: ${text}`);
    return Number(m[1]) * this.blockSize + Number.parseInt(m[2]!, 16);
  }

  /** Byte offset of the block that the first index entry of an extent-mapped inode points to. */
  async extentNode(name: string): Promise<number> {
    return this.bytes.readUInt32LE((await this.inode(name)) + 40 + 12 + 4) * this.blockSize;
  }

  /** Block number in slot `slot` of a block-mapped inode's i_block. */
  async pointer(name: string, slot: number): Promise<number> {
    return this.bytes.readUInt32LE((await this.inode(name)) + 40 + 4 * slot);
  }
}
