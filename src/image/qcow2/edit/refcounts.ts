import { BlockSet } from "../../../bytes/block-set.ts";
import { putU64be, u32be } from "../../../bytes/endian.ts";
import { FormatError, IoError, UnsupportedError } from "../../../errors.ts";
import { Kernel } from "../../../kernel/kernel.ts";
import { LIMIT } from "../layout.ts";
import type { ImageFile, Placed } from "./image-file.ts";

/** Refcount blocks kept in memory, bytes. */
const KEPT_BYTES = 16 * 1024 * 1024;
const STRUCTURE = "qcow2 refcount block";
/** Neighbours from which the kernel pays for copying them there. */
const BULK = 64;

type Entries = Uint8Array | Uint16Array | Uint32Array | BigUint64Array;

interface Block {
  readonly bytes: Uint8Array;
  /** The same bytes as entries, where those are whole bytes; to find entries that are 0. */
  readonly entries: Entries;
  dirty: boolean;
}

/** A refcount that its width cannot hold. */
export class RefcountOverflow extends UnsupportedError {
  constructor(offset: number, bits: number) {
    super(
      `qcow2 refcount of the cluster at 0x${offset.toString(16)}: one more reference does not fit into ${bits} bits`,
      "EREFCOUNT",
    );
  }
}

/**
 * The reference counts of an image under change. Live blocks and the live table are never overwritten: what
 * changes goes to clusters that nothing used at the last commit and nothing uses now. Clusters are numbers
 * (host offset / cluster size).
 */
export class Refcounts {
  /** Clusters that one block counts. */
  readonly perBlock: number;
  /** Largest count. */
  readonly most: number;
  readonly order: number;
  /** Told of each run of clusters that is about to be used; throws where they hold live metadata. */
  guard: (first: number, n: number) => void = () => {};
  /** Told of each run of clusters that nothing uses any more. */
  freed: (first: number, n: number) => void = () => {};

  private readonly file: ImageFile;
  private readonly clusterSize: number;
  private readonly limit: number;
  /** Host offset of each block, 0 where there is none. */
  private table: Float64Array;
  private blocksUsed: number;
  private tableAt: number;
  private tableClusters: number;
  private tableDirty = false;
  /** Clusters of the table's new place, 0 where it has none yet. */
  private tablePlaced = 0;
  /** Blocks that have a place of this transaction. */
  private fresh: Uint8Array;
  private readonly blocks = new Map<number, Block>();
  private readonly dirty = new Set<number>();
  private lastNumber = -1;
  private last: Block | null = null;
  /** Clusters freed since the last commit: live until then. */
  private held: BlockSet;
  private lowestHeld = Number.POSITIVE_INFINITY;
  /** Nothing below is free. */
  private next = 0;

  /** `at` and `clusters`: the live refcount table. */
  constructor(file: ImageFile, clusterSize: number, order: number, at: number, clusters: number) {
    this.file = file;
    this.clusterSize = clusterSize;
    this.order = order;
    this.perBlock = (clusterSize * 8) / 2 ** order;
    this.most = order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (2 ** order) - 1;
    // L2 entries hold offsets of 56 bits; numbers are exact up to 53.
    this.limit = Math.floor(Number.MAX_SAFE_INTEGER / clusterSize);
    this.tableAt = at;
    this.tableClusters = clusters;
    const bytes = file.readTable("qcow2 refcount table", at, clusters * clusterSize);
    const n = bytes.length / 8;
    this.table = new Float64Array(n);
    this.fresh = new Uint8Array(n);
    this.blocksUsed = 0;
    for (let k = 0; k < n; k++) {
      const high = u32be(bytes, k * 8);
      const low = u32be(bytes, k * 8 + 4);
      if ((high | low) === 0) continue;
      const offset = high * 0x100000000 + low;
      if (offset % clusterSize !== 0 || offset > Number.MAX_SAFE_INTEGER)
        throw new FormatError(
          "qcow2 refcount table entry",
          at + k * 8,
          `block at 0x${offset.toString(16)} is not aligned`,
        );
      this.table[k] = offset;
      this.blocksUsed = k + 1;
    }
    this.held = new BlockSet(this.limit);
  }

  /**
   * Refcounts that are all 0, with no table in the file yet. New clusters are looked for from cluster `from`
   * on until the first commit.
   */
  static empty(file: ImageFile, clusterSize: number, order: number, from: number): Refcounts {
    const r = new Refcounts(file, clusterSize, order, 0, 0);
    r.next = from;
    // Then what lies below may be used too.
    r.lowestHeld = 0;
    return r;
  }

  /** The blocks there are, in order: number of the first cluster they count, and their bytes. */
  *storedBlocks(): Generator<{ first: number; bytes: Uint8Array }> {
    for (let k = 0; k < this.blocksUsed; k++) {
      const block = this.block(k);
      if (block !== null) yield { first: k * this.perBlock, bytes: block.bytes };
    }
  }

  /** Count `i` of a block's bytes. */
  countIn(bytes: Uint8Array, i: number): number {
    return this.entryOf(bytes, i);
  }

  /** The live table, or the new one after `settle`. Offset in bytes. */
  get place(): { at: number; clusters: number } {
    return { at: this.tableAt, clusters: this.tableClusters };
  }

  /** Offsets of all refcount blocks. */
  *blockOffsets(): Generator<number> {
    for (let k = 0; k < this.blocksUsed; k++) if (this.table[k] !== 0) yield this.table[k];
  }

  get(cluster: number): number {
    const k = Math.floor(cluster / this.perBlock);
    const block = this.block(k);
    return block === null ? 0 : this.entry(block, cluster - k * this.perBlock);
  }

  /** Sets the count of one cluster. Nobody is told. */
  set(cluster: number, value: number): void {
    const k = Math.floor(cluster / this.perBlock);
    this.put(this.writable(k), cluster - k * this.perBlock, value);
  }

  /** Adds a reference to each of `n` clusters. Throws RefcountOverflow; FormatError where one is not in use. */
  addReference(first: number, n = 1): void {
    this.count(first, n, 1);
  }

  /** Takes a reference from each of `n` clusters; what nothing uses any more is free after the next commit. */
  release(first: number, n = 1): void {
    this.count(first, n, -1);
  }

  private count(first: number, n: number, delta: 1 | -1): void {
    for (let c = first; c < first + n; ) {
      const k = Math.floor(c / this.perBlock);
      const block = this.writable(k);
      const base = k * this.perBlock;
      const end = Math.min(first + n, base + this.perBlock);
      if (end - c >= BULK) c += this.bulk(block, base, c - base, end - c, delta);
      // What that stopped at, or all of a few.
      for (; c < end; c++) {
        const v = this.entry(block, c - base);
        if (v === 0)
          throw new FormatError(
            "qcow2 cluster",
            c * this.clusterSize,
            "is in use, but its refcount is 0 (check -r can repair that)",
          );
        if (delta === 1 && v >= this.most) throw new RefcountOverflow(c * this.clusterSize, 2 ** this.order);
        this.put(block, c - base, v + delta);
        if (v + delta === 0) this.hold(c, 1);
      }
    }
  }

  private hold(first: number, n: number): void {
    this.held.add(first, first + n);
    if (first < this.lowestHeld) this.lowestHeld = first;
    this.freed(first, n);
  }

  /**
   * `count` within a block by the kernel, from entry `i` on; `base`: the block's first cluster.
   * Returns how many were done.
   */
  private bulk(block: Block, base: number, i: number, n: number, delta: 1 | -1): number {
    const { raw } = Kernel.get();
    const { order } = this;
    return this.inKernel(block, i, n, (at, first, piece, place) => {
      const done = raw.addRefcounts(at, first, n, order, delta, this.most) >>> 0;
      block.bytes.set(piece, place);
      if (delta === 1) return done;
      const last = first + done;
      for (let from = first; ; ) {
        const free = raw.nextRefcount(at, from, last, order, 0, 1) >>> 0;
        if (free === last) return done;
        from = raw.nextRefcount(at, free, last, order, 0, 0) >>> 0;
        this.hold(base + i + free - first, from - free);
      }
    });
  }

  /**
   * Has entries [i, i + n) of a block in the kernel's memory: `use` gets its address, the number of entry `i` there,
   * the bytes copied and their place in the block.
   */
  private inKernel<T>(
    block: Block,
    i: number,
    n: number,
    use: (at: number, first: number, piece: Uint8Array, place: number) => T,
  ): T {
    const bits = 2 ** this.order;
    const from = Math.floor((i * bits) / 8);
    const to = Math.ceil(((i + n) * bits) / 8);
    return Kernel.get().borrow(to - from, (slot) => {
      slot.bytes.set(block.bytes.subarray(from, to));
      return use(slot.at, i - (from * 8) / bits, slot.bytes, from);
    });
  }

  /**
   * Of `n` clusters from `first` on: 1 where each has one reference, 0 where none has exactly one,
   * -1 where they differ.
   */
  single(first: number, n: number): 1 | 0 | -1 {
    const { raw } = Kernel.get();
    let all: 1 | 0 | null = null;
    for (let c = first; c < first + n; ) {
      const k = Math.floor(c / this.perBlock);
      const base = k * this.perBlock;
      const end = Math.min(first + n, base + this.perBlock);
      const block = this.block(k);
      const i = c - base;
      const count = end - c;
      const here =
        block === null
          ? 0
          : count < BULK
            ? this.singleFew(block, i, count)
            : this.inKernel(block, i, count, (at, from) => {
                const one = raw.nextRefcount(at, from, from + 1, this.order, 1, 1) >>> 0 === from ? 1 : 0;
                const next = raw.nextRefcount(at, from, from + count, this.order, 1, 1 - one) >>> 0;
                return next === from + count ? one : -1;
              });
      if (here === -1 || (all !== null && here !== all)) return -1;
      all = here;
      c = end;
    }
    return all ?? 0;
  }

  private singleFew(block: Block, i: number, n: number): 1 | 0 | -1 {
    const one = this.entry(block, i) === 1;
    for (let k = 1; k < n; k++) if ((this.entry(block, i + k) === 1) !== one) return -1;
    return one ? 1 : 0;
  }

  /** Takes `n` free clusters in a row, the lowest there are; returns the first. Their count is 1. */
  take(n: number): number {
    let at = this.nextFree(this.next);
    this.next = at;
    for (;;) {
      const length = this.freeRun(at, n);
      if (length >= n) break;
      at = this.nextFree(at + length);
    }
    this.occupy(at, n);
    return at;
  }

  /** As `take`, but of the lowest free run and at most `n`: what it took is in `taken`. */
  takeUpTo(n: number): number {
    const at = this.nextFree(this.next);
    this.taken = this.freeRun(at, n);
    this.occupy(at, this.taken);
    return at;
  }
  taken = 0;

  /** Takes clusters [first, first + n), which must be free (behind the end of everything). */
  takeAt(first: number, n: number): void {
    this.occupy(first, n);
  }

  private occupy(first: number, n: number): void {
    if (first + n > this.limit)
      throw new IoError("EFBIG", `${this.file.file.label}: no offsets left for new clusters`);
    this.guard(first, n);
    for (let c = first; c < first + n; ) {
      const k = Math.floor(c / this.perBlock);
      const block = this.writable(k);
      const base = k * this.perBlock;
      const end = Math.min(first + n, base + this.perBlock);
      for (; c < end; c++) this.put(block, c - base, 1);
    }
    if (this.next === first) this.next = first + n;
  }

  /** First cluster from `from` on that is free now and was so at the last commit. */
  private nextFree(from: number): number {
    for (let c = from; ; ) {
      const k = Math.floor(c / this.perBlock);
      const block = this.block(k);
      if (block !== null) {
        const i = this.firstZero(block, c - k * this.perBlock);
        if (i === this.perBlock) {
          c = (k + 1) * this.perBlock;
          continue;
        }
        c = k * this.perBlock + i;
      }
      if (!this.held.has(c)) return c;
      c++;
    }
  }

  /** Length of the free run that starts at `first`, `most` at most. */
  private freeRun(first: number, most: number): number {
    let n = 0;
    while (n < most) {
      const c = first + n;
      const k = Math.floor(c / this.perBlock);
      const block = this.block(k);
      const end = Math.min(first + most, (k + 1) * this.perBlock);
      for (let i = c - k * this.perBlock; first + n < end; i++, n++)
        if ((block !== null && this.entry(block, i) !== 0) || this.held.has(first + n)) return n;
    }
    return n;
  }

  private firstZero(block: Block, from: number): number {
    if (this.order >= 3) {
      const i =
        block.entries instanceof BigUint64Array
          ? block.entries.indexOf(0n, from)
          : (block.entries as Uint8Array).indexOf(0, from);
      return i < 0 ? this.perBlock : i;
    }
    for (let i = from; i < this.perBlock; ) {
      // Whole bytes without a free entry are the rule.
      if (this.entry(block, i) === 0) return i;
      i++;
    }
    return this.perBlock;
  }

  /** Number past the last cluster in use. */
  end(): number {
    for (let k = this.blocksUsed - 1; k >= 0; k--) {
      const block = this.block(k);
      if (block === null) continue;
      for (let i = this.perBlock - 1; i >= 0; i--)
        if (this.entry(block, i) !== 0) return k * this.perBlock + i + 1;
    }
    return 0;
  }

  private entry(block: Block, i: number): number {
    return this.entryOf(block.bytes, i);
  }

  private entryOf(b: Uint8Array, i: number): number {
    switch (this.order) {
      case 4:
        return (b[2 * i] << 8) | b[2 * i + 1];
      case 3:
        return b[i];
      case 5:
        return u32be(b, 4 * i);
      case 6: {
        const high = u32be(b, 8 * i);
        const low = u32be(b, 8 * i + 4);
        // Beyond 2^53: as good as full.
        return high > 0x1fffff ? this.most : high * 0x100000000 + low;
      }
      default: {
        const bit = i << this.order;
        return (b[bit >>> 3] >>> (bit & 7)) & this.most;
      }
    }
  }

  private put(block: Block, i: number, v: number): void {
    const b = block.bytes;
    switch (this.order) {
      case 4:
        b[2 * i] = v >>> 8;
        b[2 * i + 1] = v;
        break;
      case 3:
        b[i] = v;
        break;
      case 5:
        b[4 * i] = v >>> 24;
        b[4 * i + 1] = v >>> 16;
        b[4 * i + 2] = v >>> 8;
        b[4 * i + 3] = v;
        break;
      case 6:
        putU64be(b, 8 * i, v);
        break;
      default: {
        const bit = i << this.order;
        b[bit >>> 3] = (b[bit >>> 3] & ~(this.most << (bit & 7))) | (v << (bit & 7));
      }
    }
  }

  /** The block that counts for table entry `k`, or null where there is none. */
  private block(k: number): Block | null {
    if (k === this.lastNumber) return this.last;
    let block = this.blocks.get(k) ?? null;
    if (block === null) {
      const at = k < this.blocksUsed ? this.table[k] : 0;
      if (at === 0) return null;
      block = this.keep(k, this.file.readTable(STRUCTURE, at, this.clusterSize));
    } else {
      // Most recently used goes last.
      this.blocks.delete(k);
      this.blocks.set(k, block);
    }
    this.lastNumber = k;
    this.last = block;
    return block;
  }

  private writable(k: number): Block {
    let block = this.block(k);
    if (block === null) {
      this.reach(k);
      block = this.keep(k, new Uint8Array(this.clusterSize));
      this.lastNumber = k;
      this.last = block;
    }
    if (!block.dirty) {
      block.dirty = true;
      this.dirty.add(k);
    }
    return block;
  }

  private keep(k: number, bytes: Uint8Array): Block {
    if ((this.blocks.size + 1) * this.clusterSize > KEPT_BYTES && this.blocks.size > this.dirty.size)
      this.evict();
    const { buffer } = bytes;
    const entries: Entries =
      this.order <= 3
        ? bytes
        : this.order === 4
          ? new Uint16Array(buffer)
          : this.order === 5
            ? new Uint32Array(buffer)
            : new BigUint64Array(buffer);
    const block = { bytes, entries, dirty: false };
    this.blocks.set(k, block);
    return block;
  }

  /** Forgets the block used longest ago that is not dirty. */
  private evict(): void {
    for (const [k, block] of this.blocks) {
      this.blocks.delete(k);
      if (block.dirty) {
        this.blocks.set(k, block);
        continue;
      }
      if (k === this.lastNumber) {
        this.lastNumber = -1;
        this.last = null;
      }
      return;
    }
  }

  /** Makes the table long enough for entry `k`. */
  private reach(k: number): void {
    if (k >= this.blocksUsed) this.blocksUsed = k + 1;
    if (k < this.table.length) return;
    if ((k + 1) * 8 > LIMIT.refcountTable)
      throw new IoError("EFBIG", `${this.file.file.label}: the refcount table would exceed 8 MiB`);
    const per = this.clusterSize / 8;
    const n = Math.ceil((k + 1) / per) * per;
    const table = new Float64Array(n);
    table.set(this.table);
    this.table = table;
    const fresh = new Uint8Array(n);
    fresh.set(this.fresh);
    this.fresh = fresh;
    this.tableDirty = true;
  }

  /** True where changed blocks should be written out before more change: see `spill`. */
  get crowded(): boolean {
    return this.dirty.size * this.clusterSize > KEPT_BYTES;
  }

  /** Writes the changed blocks to their new places. Nothing refers to these before `settle` and the header. */
  spill(): void {
    this.placeBlocks();
    const pieces: Placed[] = [];
    for (const k of this.dirty) {
      const block = this.blocks.get(k)!;
      pieces.push({ at: this.table[k], bytes: block.bytes });
      block.dirty = false;
    }
    this.dirty.clear();
    this.file.writeAll(pieces);
    while (this.blocks.size > 2 && this.blocks.size * this.clusterSize > KEPT_BYTES) this.evict();
  }

  /** Gives each changed block a place of this transaction. That changes further blocks, until none is left. */
  private placeBlocks(): void {
    for (let again = true; again; ) {
      again = false;
      for (const k of [...this.dirty]) {
        if (this.fresh[k] === 1) continue;
        const old = this.table[k];
        const at = this.take(1);
        this.fresh[k] = 1;
        this.table[k] = at * this.clusterSize;
        this.tableDirty = true;
        if (old !== 0) this.release(old / this.clusterSize);
        again = true;
      }
    }
  }

  get changed(): boolean {
    return this.dirty.size > 0 || this.tableDirty;
  }

  /** Finds places for all that changed and writes it. The header must name `place` then. */
  settle(): void {
    if (!this.changed) return;
    for (;;) {
      this.placeBlocks();
      if (!this.tableDirty) break;
      const need = Math.max(1, (this.table.length * 8) / this.clusterSize);
      if (this.tablePlaced === need) break;
      // The live table, or a place of this transaction that has become too small.
      this.release(this.tableAt / this.clusterSize, this.tableClusters);
      this.tableAt = this.take(need) * this.clusterSize;
      this.tableClusters = this.tablePlaced = need;
    }
    this.spill();
    if (!this.tableDirty) return;
    const bytes = new Uint8Array(this.tableClusters * this.clusterSize);
    for (let k = 0; k < this.blocksUsed; k++) if (this.table[k] !== 0) putU64be(bytes, k * 8, this.table[k]);
    this.file.write(bytes, this.tableAt);
  }

  /** The header names the new table: what was freed may be used again. */
  committed(): void {
    this.tableDirty = false;
    this.tablePlaced = 0;
    this.fresh.fill(0);
    if (this.lowestHeld < this.next) this.next = this.lowestHeld;
    this.lowestHeld = Number.POSITIVE_INFINITY;
    this.held = new BlockSet(this.limit);
  }

  /** The lowest cluster that can be taken. */
  lowestFree(): number {
    this.next = this.nextFree(this.next);
    return this.next;
  }

  /** Has the blocks and the table that lie at host offset `from` or behind written anew. */
  moveFrom(from: number): void {
    for (let k = 0; k < this.blocksUsed; k++) if (this.table[k] >= from) this.writable(k);
    if (this.tableAt >= from) this.tableDirty = true;
  }
}
