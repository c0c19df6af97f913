import { u16le, u32le } from "../../bytes/endian.ts";
import type { Source } from "../../io/source.ts";
import { descriptorBlock } from "./backups.ts";
import { ExtError } from "./errors.ts";
import { GD } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

const CHUNK_BYTES = 1 << 20;
const CHUNKS_KEPT = 24;

/** What a descriptor says the place of. */
export type Place = "blockBitmap" | "inodeBitmap" | "inodeTable";

/**
 * The group descriptors, raw, in pieces that are read when needed: memory stays bounded on volumes of any
 * size.
 */
export class Descriptors {
  private readonly source: Source;
  private readonly sb: Superblock;
  /** Superblock block the descriptors are found from. */
  private readonly base: number;
  /** UNINIT flags and unused counts of a backup are out of date: ignored, as native code does. */
  private readonly ignoreFlags: boolean;
  private readonly chunkBlocks: number;
  private readonly chunks = new Map<number, Uint8Array>();
  private chunk: Uint8Array = new Uint8Array(0);
  private firstGroup = 0;
  private endGroup = 0;

  constructor(source: Source, sb: Superblock) {
    this.source = source;
    this.sb = sb;
    this.base = sb.backupBlock !== 0 ? sb.backupBlock : sb.firstDataBlock;
    this.ignoreFlags = sb.backupBlock > 1 && sb.groupChecksums;
    this.chunkBlocks = Math.max(1, Math.floor(CHUNK_BYTES / sb.blockSize));
  }

  /** Groups that one load makes available at once; loads at multiples of it never overlap. */
  get groupsPerLoad(): number {
    return this.chunkBlocks * this.sb.descriptorsPerBlock;
  }

  /**
   * Makes the descriptor of `group` readable by the accessors below. Throws ExtError where the source ends
   * before.
   */
  load(group: number): void | Promise<void> {
    if (group >= this.firstGroup && group < this.endGroup) return;
    const index = Math.floor(group / this.groupsPerLoad);
    const kept = this.chunks.get(index);
    if (kept !== undefined) {
      this.chunks.delete(index);
      this.use(index, kept);
      return;
    }
    return this.fetch(index);
  }

  /** True where the last descriptor block lies inside the source. */
  lastIsThere(): boolean {
    const at = this.blockOf(this.sb.descriptorBlocks - 1) * this.sb.blockSize;
    return at + this.sb.blockSize <= this.source.size;
  }

  flags(group: number): number {
    return this.ignoreFlags ? 0 : u16le(this.chunk, this.at(group) + GD.flags);
  }

  unusedInodes(group: number): number {
    return this.ignoreFlags ? 0 : this.wide16(group, GD.unusedInodes, GD.unusedInodesHigh);
  }

  blockBitmap(group: number): number {
    return this.wide32(group, GD.blockBitmap, GD.blockBitmapHigh);
  }

  inodeBitmap(group: number): number {
    return this.wide32(group, GD.inodeBitmap, GD.inodeBitmapHigh);
  }

  inodeTable(group: number): number {
    return this.wide32(group, GD.inodeTable, GD.inodeTableHigh);
  }

  /** One of these block numbers with all its 64 bits. */
  exactly(group: number, what: Place): bigint {
    const at = this.at(group);
    const low = BigInt(u32le(this.chunk, at + GD[what]));
    return this.sb.wide ? low | (BigInt(u32le(this.chunk, at + GD[`${what}High`])) << 32n) : low;
  }

  /** The descriptor's own bytes. */
  raw(group: number): Uint8Array {
    const at = this.at(group);
    return this.chunk.subarray(at, at + this.sb.descriptorSize);
  }

  /** Block that descriptor block `i` is read from. */
  blockOf(i: number): number {
    if (i < this.sb.firstMetaGroup)
      return this.base + (this.base === 0 && this.sb.blockSize === 1024 ? 1 : 0) + 1 + i;
    return descriptorBlock(this.sb, this.base, i);
  }

  private at(group: number): number {
    if (group < this.firstGroup || group >= this.endGroup) throw new RangeError(`group ${group} not loaded`);
    return (group - this.firstGroup) * this.sb.descriptorSize;
  }

  private wide32(group: number, low: number, high: number): number {
    const at = this.at(group);
    const v = u32le(this.chunk, at + low);
    return this.sb.wide ? v + u32le(this.chunk, at + high) * 0x100000000 : v;
  }

  private wide16(group: number, low: number, high: number): number {
    const at = this.at(group);
    const v = u16le(this.chunk, at + low);
    return this.sb.wide ? v + u16le(this.chunk, at + high) * 0x10000 : v;
  }

  private use(index: number, chunk: Uint8Array): void {
    this.chunks.set(index, chunk);
    if (this.chunks.size > CHUNKS_KEPT)
      for (const oldest of this.chunks.keys()) {
        this.chunks.delete(oldest);
        break;
      }
    this.chunk = chunk;
    this.firstGroup = index * this.groupsPerLoad;
    this.endGroup = Math.min(this.firstGroup + this.groupsPerLoad, this.sb.groups);
  }

  private async fetch(index: number): Promise<void> {
    const { sb, source } = this;
    const first = index * this.chunkBlocks;
    const end = Math.min(first + this.chunkBlocks, sb.descriptorBlocks);
    const chunk = new Uint8Array((end - first) * sb.blockSize);
    for (let i = first; i < end; ) {
      const block = this.blockOf(i);
      let n = 1;
      while (i + n < end && this.blockOf(i + n) === block + n) n++;
      const at = block * sb.blockSize;
      const into = chunk.subarray((i - first) * sb.blockSize, (i - first + n) * sb.blockSize);
      const r = at < source.size ? source.read(into, at) : 0;
      const got = r instanceof Promise ? await r : r;
      if (got < into.length)
        throw new ExtError(
          "EXT_SHORT_READ",
          "ext group descriptors",
          at,
          `the source ends at byte ${source.size}`,
        );
      i += n;
    }
    this.use(index, chunk);
  }
}
