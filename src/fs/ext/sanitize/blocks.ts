import { putU32le, u16le, u32le } from "../../../bytes/endian.ts";
import { Kernel, type Slot } from "../../../kernel/kernel.ts";
import { EXTENT_HEADER, EXTENT_MAGIC, EXTENT_RECORD } from "../layout.ts";
import type { Superblock } from "../superblock.ts";
import {
  ATTRIBUTES,
  type BlockTable,
  EXTENTS,
  INDEX_NODE,
  INDEX_ROOT,
  LEAF,
  POINTERS,
  TARGET,
} from "./block-table.ts";
import { indexTail, indexUsed } from "./htree.ts";
import { DOMAIN, type Keys, replacePath } from "./keys.ts";
import { DIRENT_TAIL, TAIL_WORD, XATTR_BLOCK_CHECKSUM } from "./layout.ts";
import { KEEP_NAMES, KERNEL_FLAGS, UNINDEXED } from "./names.ts";
import type { NumberPool } from "./number-pool.ts";
import { putRecordLength } from "./relocate.ts";
import { moveChecksum, type Sums } from "./sums.ts";
import {
  type AttributeContext,
  blockAttributes,
  blockHash,
  moveBlockHash,
  replaceAttributes,
} from "./xattrs.ts";

const MOST_NAMES_IN_BLOCK = 8192;

export interface BlockContext extends AttributeContext {
  readonly sb: Superblock;
  readonly keys: Keys;
  readonly sums: Sums | null;
  readonly table: BlockTable;
  readonly pool: NumberPool;
  readonly overrides: ReadonlyMap<number, Uint8Array>;
}

/** Rewrites the blocks of a table in place. Takes arena slots: `close` it. */
export class BlockRewriter {
  private readonly context: BlockContext;
  private readonly kernel = Kernel.get();
  private readonly slot: Slot;
  private readonly list: Slot;
  private readonly numbers: Uint32Array;

  constructor(context: BlockContext) {
    this.context = context;
    this.slot = this.kernel.take(context.sb.blockSize);
    this.list = this.kernel.take(MOST_NAMES_IN_BLOCK * 4);
    this.numbers = new Uint32Array(this.list.bytes.buffer, this.list.bytes.byteOffset, MOST_NAMES_IN_BLOCK);
  }

  close(): void {
    this.kernel.give(this.list);
    this.kernel.give(this.slot);
  }

  /** Rewrites `into`, the whole block that entry `i` of the table describes. */
  rewrite(into: Uint8Array, i: number): void {
    const b = this.slot.bytes;
    b.set(into);
    const { table } = this.context;
    switch (table.kind[i]) {
      case LEAF:
        this.leaf(b, i);
        break;
      case INDEX_ROOT:
      case INDEX_NODE:
        this.index(b, i);
        break;
      case ATTRIBUTES:
        this.attributes(b, i);
        break;
      case TARGET:
        this.target(b, i);
        break;
      case EXTENTS:
        this.extents(b, i);
        break;
      case POINTERS:
        this.pointers(b);
        break;
    }
    into.set(b);
  }

  /** Checksum a directory leaf should have. */
  private leafSum(i: number): number {
    const { sums, table, sb } = this.context;
    const start = sums!.owner(table.ino[i], table.generation[i]);
    return sums!.plain(start, this.slot.at, sb.blockSize - DIRENT_TAIL);
  }

  private hasTail(b: Uint8Array): boolean {
    const at = b.length - DIRENT_TAIL;
    return this.context.sums !== null && u32le(b, at) === 0 && u32le(b, at + 4) === TAIL_WORD;
  }

  private leaf(b: Uint8Array, i: number): void {
    const { table, pool, keys, overrides, sb } = this.context;
    const tail = this.hasTail(b);
    const before = tail ? this.leafSum(i) : 0;
    const other = overrides.get(table.block[i]);
    if (other !== undefined) {
      b.set(other);
    } else {
      const at = table.value[i];
      let list = 0;
      if (at >= 0) {
        const stored = pool.view(at, MOST_NAMES_IN_BLOCK);
        this.numbers.set(stored);
        list = this.list.at;
      }
      const flags = table.flags[i] & KERNEL_FLAGS;
      const [low, high] = (flags & KEEP_NAMES) !== 0 ? [0, 0] : keys.key(DOMAIN.names, table.ino[i]);
      this.kernel.raw.rewriteNames(this.slot.at, b.length, sb.blockSize, flags, low, high, list);
    }
    if (tail) moveChecksum(b, b.length - 4, before, this.leafSum(i));
  }

  private index(b: Uint8Array, i: number): void {
    const { table } = this.context;
    const isRoot = table.kind[i] === INDEX_ROOT;
    if ((table.flags[i] & UNINDEXED) !== 0) {
      this.emptied(b, i, isRoot);
      return;
    }
    const used = indexUsed(b, isRoot);
    const tail = this.context.sums === null ? -1 : indexTail(b, isRoot);
    // The checksum covers the used entries and itself; nothing that is zeroed here.
    if (tail < used) b.fill(0, used);
    else {
      b.fill(0, used, tail);
      b.fill(0, tail + 8);
    }
  }

  /** What is left of an index block when the index is given up: a leaf without names. */
  private emptied(b: Uint8Array, i: number, isRoot: boolean): void {
    const { sums } = this.context;
    const end = b.length - (sums === null ? 0 : DIRENT_TAIL);
    const from = isRoot ? 12 : 0;
    b.fill(0, isRoot ? 24 : 8);
    putRecordLength(b, from, end - from, b.length);
    if (sums === null) return;
    putU32le(b, end, 0);
    putU32le(b, end + 4, TAIL_WORD);
    putU32le(b, end + 8, this.leafSum(i));
  }

  private attributes(b: Uint8Array, i: number): void {
    const { table, sums } = this.context;
    const area = blockAttributes(b);
    if (area === null) {
      b.fill(0);
      return;
    }
    const block = table.block[i];
    const sum = () => sums!.around(sums!.block(block), this.slot.at, b.length, XATTR_BLOCK_CHECKSUM);
    const before = sums === null ? 0 : sum();
    const hash = blockHash(b, area);
    replaceAttributes(b, area, this.context, block + 0x100000000);
    moveBlockHash(b, area, hash);
    if (sums !== null) moveChecksum(b, XATTR_BLOCK_CHECKSUM, before, sum());
  }

  private target(b: Uint8Array, i: number): void {
    const { table, keys } = this.context;
    const length = Math.min(Math.max(table.value[i], 0), b.length);
    replacePath(b.subarray(0, length), keys, DOMAIN.target, table.ino[i]);
    b.fill(0, length);
  }

  private extents(b: Uint8Array, i: number): void {
    const { table, sums } = this.context;
    const max = u16le(b, 4);
    const used = EXTENT_HEADER + EXTENT_RECORD * u16le(b, 2);
    const end = EXTENT_HEADER + EXTENT_RECORD * max;
    if (u16le(b, 0) !== EXTENT_MAGIC || end > b.length || used > end) {
      b.fill(0);
      return;
    }
    if (sums === null || end + 4 > b.length) {
      b.fill(0, used);
      return;
    }
    const start = sums.owner(table.ino[i], table.generation[i]);
    const before = sums.plain(start, this.slot.at, end);
    b.fill(0, used, end);
    b.fill(0, end + 4);
    moveChecksum(b, end, before, sums.plain(start, this.slot.at, end));
  }

  /** Words that cannot be block numbers are not left in a block of block numbers. */
  private pointers(b: Uint8Array): void {
    const { blocks } = this.context.sb;
    for (let o = 0; o + 4 <= b.length; o += 4) if (u32le(b, o) >= blocks) putU32le(b, o, 0);
  }
}
