import { FormatError } from "../../../errors.ts";
import { COPIED_HIGH, L1_RESERVED_HIGH, L1_RESERVED_LOW, OFFSET_HIGH, OFFSET_LOW } from "../layout.ts";
import type { ImageFile, Placed } from "./image-file.ts";
import type { Refcounts } from "./refcounts.ts";
import { bytesOfWords, wordsOfBytes } from "./words.ts";

/** L2 tables kept in memory, bytes. */
const KEPT_BYTES = 16 * 1024 * 1024;
const STRUCTURE = "qcow2 L2 table";

/** An L2 table: its entries as words, high before low; extended entries as four. */
export interface L2Table {
  readonly words: Uint32Array;
  dirty: boolean;
}

/** Offset in an L1 entry, or in an L2 entry that is not compressed. */
export function offsetOf(high: number, low: number): number {
  return (high & OFFSET_HIGH) * 0x100000000 + ((low & OFFSET_LOW) >>> 0);
}

/**
 * The active L1 table and its L2 tables, under change. A table that is to be changed moves to a cluster of this
 * transaction first, so live ones are never overwritten.
 */
export class L2Cache {
  /** Entries as pairs of words, high first. */
  l1: Uint32Array;
  l1Dirty = false;
  /** Told when a table's words are not to be used any more. */
  dropped: () => void = () => {};

  private readonly file: ImageFile;
  refcounts: Refcounts;
  private readonly clusterSize: number;
  /** Tables that have a place of this transaction. */
  private fresh: Uint8Array;
  private readonly tables = new Map<number, L2Table>();
  private readonly dirty = new Set<number>();
  private lastIndex = -1;
  private last: L2Table | null = null;

  /** `l1`: the active L1 table as it is in the file. */
  constructor(file: ImageFile, refcounts: Refcounts, clusterSize: number, l1: Uint32Array) {
    this.file = file;
    this.refcounts = refcounts;
    this.clusterSize = clusterSize;
    this.l1 = l1;
    this.fresh = new Uint8Array(l1.length / 2);
  }

  /** Host offset of table `i`, 0 where there is none. */
  at(i: number): number {
    return offsetOf(this.l1[2 * i], this.l1[2 * i + 1]);
  }

  /** The table to be read, or null where there is none. */
  get(i: number): L2Table | null {
    if (i === this.lastIndex) return this.last;
    const at = this.at(i);
    if (at === 0) return null;
    let table = this.tables.get(i);
    if (table === undefined) {
      table = { words: this.load(i, at), dirty: false };
      this.keep(i, table);
    } else {
      // Most recently used goes last.
      this.tables.delete(i);
      this.tables.set(i, table);
    }
    this.lastIndex = i;
    this.last = table;
    return table;
  }

  /** The table to be changed: made, or moved to a cluster of its own, where it has none of this transaction. */
  own(i: number): L2Table {
    let table = this.get(i);
    this.place(i);
    if (table === null) {
      table = { words: new Uint32Array(this.clusterSize / 4), dirty: false };
      this.keep(i, table);
      this.lastIndex = i;
      this.last = table;
    }
    if (!table.dirty) {
      table.dirty = true;
      this.dirty.add(i);
    }
    return table;
  }

  /**
   * Makes table `i` one at `at`, which the caller counts; `copied`: nothing else refers to it. What
   * was there is not released.
   */
  point(i: number, at: number, copied: boolean): void {
    const high = Math.floor(at / 0x100000000);
    this.l1[2 * i] = (at === 0 ? 0 : copied ? high | COPIED_HIGH : high) >>> 0;
    this.l1[2 * i + 1] = at - high * 0x100000000;
    this.l1Dirty = true;
  }

  /** Forgets table `i` and its place; nothing is released. */
  remove(i: number): void {
    this.forget(i);
    this.point(i, 0, false);
  }

  /** Makes table `i` the shared one at `at`, which is in the file; nothing is released. */
  redirect(i: number, at: number): void {
    this.forget(i);
    this.point(i, at, false);
  }

  /** Replaces the whole L1 table; nothing is released. Changed tables must have been written. */
  replace(l1: Uint32Array): void {
    this.l1 = l1;
    this.l1Dirty = true;
    this.fresh = new Uint8Array(l1.length / 2);
    this.tables.clear();
    this.dirty.clear();
    this.drop();
  }

  /** Makes the L1 table `entries` long; entries cut off must be 0. */
  resize(entries: number): void {
    const l1 = new Uint32Array(entries * 2);
    l1.set(this.l1.subarray(0, Math.min(l1.length, this.l1.length)));
    this.l1 = l1;
    const fresh = new Uint8Array(entries);
    fresh.set(this.fresh.subarray(0, Math.min(entries, this.fresh.length)));
    this.fresh = fresh;
    this.l1Dirty = true;
    this.drop();
  }

  /** Reads a table wherever it is, without keeping it. `i` names the L1 entry in errors. */
  load(i: number, at: number): Uint32Array {
    this.checkPlace(i, at);
    return wordsOfBytes(this.file.readTable(STRUCTURE, at, this.clusterSize));
  }

  /** As `load`, but the bytes as they are in the file, into an array of a cluster. */
  loadInto(into: Uint8Array, i: number, at: number): void {
    this.checkPlace(i, at);
    this.file.readTableInto(STRUCTURE, into, at);
  }

  private checkPlace(i: number, at: number): void {
    if (at % this.clusterSize !== 0 || at > Number.MAX_SAFE_INTEGER)
      throw new FormatError("qcow2 L1 entry", -1, `${i}: L2 table at 0x${at.toString(16)} is not aligned`);
  }

  /**
   * The place of this transaction that table `i`, which is there, has or gets; the caller writes all of it. What is in
   * memory of it is forgotten and must not be dirty.
   */
  rewrite(i: number): number {
    this.forget(i);
    this.place(i);
    return this.at(i);
  }

  /** Gives table `i` a place of this transaction where it has none. */
  private place(i: number): void {
    if (this.fresh[i] === 1) return;
    const old = this.at(i);
    const at = this.refcounts.take(1) * this.clusterSize;
    if (old !== 0) this.refcounts.release(old / this.clusterSize);
    this.point(i, at, true);
    this.fresh[i] = 1;
  }

  /** Refuses L1 entries with reserved bits. */
  check(l1At: number): void {
    const { l1 } = this;
    for (let i = 0; i < l1.length; i += 2)
      if ((l1[i] & L1_RESERVED_HIGH) | (l1[i + 1] & L1_RESERVED_LOW))
        throw new FormatError("qcow2 L1 entry", l1At + i * 4, "reserved bits set");
  }

  /** True where changed tables should be written out before more change. */
  get crowded(): boolean {
    return this.dirty.size * this.clusterSize > KEPT_BYTES;
  }

  /** Writes changed tables to their places, which nothing live refers to. */
  flush(): void {
    const pieces: Placed[] = [];
    for (const i of this.dirty) {
      const table = this.tables.get(i)!;
      pieces.push({ at: this.at(i), bytes: bytesOfWords(table.words) });
      table.dirty = false;
    }
    this.dirty.clear();
    this.file.writeAll(pieces);
    while (this.tables.size > 2 && this.tables.size * this.clusterSize > KEPT_BYTES) this.evict();
  }

  /** The header names the new tables. */
  committed(): void {
    this.fresh.fill(0);
    this.l1Dirty = false;
  }

  private keep(i: number, table: L2Table): void {
    if ((this.tables.size + 1) * this.clusterSize > KEPT_BYTES && this.tables.size > this.dirty.size)
      this.evict();
    this.tables.set(i, table);
  }

  /** Forgets the table used longest ago that is not dirty. */
  private evict(): void {
    for (const [i, table] of this.tables) {
      this.tables.delete(i);
      if (table.dirty) {
        this.tables.set(i, table);
        continue;
      }
      this.drop();
      return;
    }
  }

  private forget(i: number): void {
    this.tables.delete(i);
    this.dirty.delete(i);
    this.drop();
  }

  private drop(): void {
    this.lastIndex = -1;
    this.last = null;
    this.dropped();
  }
}
