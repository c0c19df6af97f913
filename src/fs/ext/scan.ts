import type { BlockSet } from "../../bytes/block-set.ts";
import type { Source } from "../../io/source.ts";
import { Kernel, type Slot } from "../../kernel/kernel.ts";
import type { Descriptors } from "./descriptors.ts";
import { ExtError } from "./errors.ts";
import { INODE_UNINIT, OLD_INODE_SIZE } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** Bytes of inode table read and scanned at once. */
const PIECE = 256 * 1024;
/** Bytes of inode table that may be scanned again because groups claim the same blocks. */
const MOST_RESCANNED = 1 << 28;
const MOST_TRIPLES = 13;
const TRIPLE_BYTES = 12;

/** Kinds of triples that InodeScan.classify finds. */
export const KIND_DATA = 0;
export const KIND_DIRECTORY = 1;
export const KIND_XATTR = 2;
/** The inode at the triple's index has to be looked at: it has a tree, or is out of the ordinary. */
export const KIND_VISIT = 0xffff;

/** What classify reports: bits of the kernel's `flags`. */
export const CLASSIFY_DATA = 1;
export const CLASSIFY_WIDE = 2;
export const CLASSIFY_EA_VALUES = 4;
export const CLASSIFY_VISIT_ALL = 8;

/**
 * Walks the inode tables in group order, a piece at a time, bounded as native code bounds them: groups with
 * INODE_UNINIT are skipped, and so are the unused inodes at a table's end. After `next` has answered true,
 * `count` inodes, the first numbered `first`, lie in `bytes`.
 */
export class InodeScan {
  first = 1;
  count = 0;
  /**
   * Triples of the last `classify`: (start low, start high | kind << 16, length), or (index, visit << 16,
   * 0).
   */
  readonly triples: Uint32Array;
  private readonly source: Source;
  private readonly sb: Superblock;
  private readonly descriptors: Descriptors;
  private readonly badBlocks: readonly number[];
  private readonly endGroup: number;
  private readonly slot: Slot;
  private readonly found: Slot;
  private readonly tables: BlockSet;
  private rescanned = 0;
  private badIndex = 0;
  private group: number;
  /** Inodes of the group read so far, and still to read. */
  private done = 0;
  private left = 0;
  private block = 0;

  /**
   * `badBlocks`, ascending: blocks of inode tables whose inodes are not to be seen. Takes arena slots:
   * `close` it.
   */
  constructor(
    source: Source,
    sb: Superblock,
    descriptors: Descriptors,
    badBlocks: readonly number[],
    tables: BlockSet,
    fromGroup = 0,
    toGroup = sb.groups,
  ) {
    this.source = source;
    this.sb = sb;
    this.descriptors = descriptors;
    this.badBlocks = badBlocks;
    this.tables = tables;
    this.group = fromGroup - 1;
    this.endGroup = toGroup;
    const kernel = Kernel.get();
    this.slot = kernel.take(PIECE);
    this.found = kernel.take((PIECE / OLD_INODE_SIZE) * MOST_TRIPLES * TRIPLE_BYTES);
    const f = this.found.bytes;
    this.triples = new Uint32Array(f.buffer, f.byteOffset, f.byteLength / 4);
  }

  get bytes(): Uint8Array {
    return this.slot.bytes;
  }

  close(): void {
    Kernel.get().give(this.found);
    Kernel.get().give(this.slot);
  }

  /**
   * Loads the next piece; false at the end. Throws ExtError with native's words where a table is missing or
   * unreadable.
   */
  next(): boolean | Promise<boolean> {
    while (this.left === 0) {
      if (++this.group >= this.endGroup) return false;
      const r = this.descriptors.load(this.group);
      if (r instanceof Promise)
        return r.then(() => {
          this.enter();
          return this.next();
        });
      this.enter();
    }
    const { sb } = this;
    this.count = Math.min(this.left, PIECE / sb.inodeSize);
    const blocks = Math.ceil(this.count / sb.inodesPerBlock);
    const into = this.slot.bytes.subarray(0, blocks * sb.blockSize);
    const at = this.block * sb.blockSize;
    const r = at < this.source.size ? this.source.read(into, at) : 0;
    return r instanceof Promise ? r.then((n) => this.loaded(n, into, at)) : this.loaded(r, into, at);
  }

  /** Runs the kernel over `count` inodes of the piece from index `from`; returns the number of triples. */
  classify(flags: number, from: number, count: number): number {
    const { sb } = this;
    const at = this.slot.at + from * sb.inodeSize;
    return Kernel.get().raw.extInodes(
      at,
      sb.inodeSize,
      count,
      flags,
      sb.firstDataBlock,
      sb.blocks,
      this.found.at,
    );
  }

  private loaded(n: number, into: Uint8Array, at: number): boolean {
    const { sb } = this;
    if (n < into.length)
      throw new ExtError(
        "EXT_NEXT_INODE_READ",
        "ext inode table",
        at,
        `the source ends at byte ${this.source.size}`,
        "while getting next inode",
      );
    const blocks = into.length / sb.blockSize;
    for (let i = 0; i < blocks && this.badIndex < this.badBlocks.length; i++) {
      const b = this.block + i;
      while (this.badIndex < this.badBlocks.length && b > this.badBlocks[this.badIndex]) this.badIndex++;
      if (b !== this.badBlocks[this.badIndex]) continue;
      this.badIndex++;
      into.fill(0, i * sb.blockSize, (i + 1) * sb.blockSize);
    }
    this.first = this.group * sb.inodesPerGroup + 1 + this.done;
    this.done += this.count;
    this.left -= this.count;
    this.block += blocks;
    return true;
  }

  private enter(): void {
    const { sb, descriptors: d, group } = this;
    this.done = 0;
    this.left = 0;
    const table = d.inodeTable(group);
    const doing = group === 0 ? "while opening inode scan" : "while getting next inode";
    if (table !== 0 && (table < sb.firstDataBlock || table + sb.inodeBlocks - 1 >= sb.blocks))
      throw new ExtError(
        "EXT_BAD_INODE_TABLE",
        `ext descriptor of group ${group}`,
        -1,
        `inode table at block ${table} of ${sb.blocks}`,
        doing,
      );
    let inodes = sb.inodesPerGroup;
    if (sb.groupChecksums) {
      if ((d.flags(group) & INODE_UNINIT) !== 0) return;
      inodes = Math.max(inodes - d.unusedInodes(group), 0);
    }
    if (inodes === 0) return;
    if (table === 0)
      throw new ExtError(
        "EXT_MISSING_INODE_TABLE",
        `ext descriptor of group ${group}`,
        -1,
        "no inode table",
        "while getting next inode",
      );
    const blocks = Math.ceil(inodes / sb.inodesPerBlock);
    this.rescanned += (blocks - this.tables.add(table, table + blocks)) * sb.blockSize;
    if (this.rescanned > MOST_RESCANNED)
      throw new ExtError(
        "EXT_TREE_LOOP",
        `ext descriptor of group ${group}`,
        -1,
        "inode tables of too many groups overlap",
        "while getting next inode",
      );
    this.left = inodes;
    this.block = table;
  }
}
