import type { PackerSpec, WriteList } from "../packer.ts";
import { L2Segment, writeTable } from "./entries.ts";
import { v2Header } from "./header-writer.ts";
import { COPIED_HIGH } from "./layout.ts";
import { finishAll, type StreamablePacker } from "./streamable-packer.ts";

// State: scalars, then the positions of the refcount blocks (bytes), then the L1 entries that are set, ascending: their
// indexes, then the positions of their tables (bytes). Metadata touches few L1 entries of a large volume.
const READY = 0;
/** Where the next cluster goes. */
const NEXT = 1;
/** Index of the refcount block being filled, and how many clusters it counts so far. */
const BLOCK = 2;
const COUNTED = 3;
/** Where the L2 table of the next new L1 entry goes. */
const NEXT_L2 = 4;
/** End of what was written. */
const END = 5;
/** L1 entries that are set. */
const TABLES = 6;
const SCALARS = 8;

/** L1 entries written at a time. */
const PIECE = 8192;

/**
 * The layout of native `e2image -Q`: version 2, clusters of the filesystem's block size, L2 tables
 * interleaved with the data, one cluster reserved ahead for the next L2 table, two clusters counted but never
 * used. `marks` sizes the refcount table, as there.
 */
export class E2imagePacker implements StreamablePacker {
  readonly clusterSize: number;
  readonly guestSize: number;
  state: Float64Array;
  private readonly bits: number;
  private readonly l1Entries: number;
  private readonly l2Entries: number;
  private readonly tableOffset: number;
  private readonly tableClusters: number;
  private readonly firstL2: number;
  private readonly firstBlock: number;
  /** Entries of the refcount table that a file this large can need. */
  private readonly slots: number;
  private readonly blocksAt = SCALARS;
  private readonly indexesAt: number;
  private readonly tablesAt: number;
  private readonly segment: L2Segment;

  constructor(spec: Extract<PackerSpec, { kind: "e2image" }>) {
    const cs = spec.clusterSize;
    this.clusterSize = cs;
    this.guestSize = spec.guestSize;
    this.bits = Math.log2(cs);
    this.l2Entries = cs / 8;
    const clusters = Math.ceil(spec.guestSize / cs);
    this.l1Entries = Math.ceil(clusters / this.l2Entries);
    this.tableOffset = cs + Math.ceil((this.l1Entries * 8) / cs) * cs;
    this.tableClusters = Math.max(1, Math.floor((spec.marks + this.tableOffset / cs) / 2 ** (this.bits + 5)));
    this.firstL2 = this.tableOffset + (this.tableClusters + 1) * cs;
    this.firstBlock = this.firstL2 + cs;
    // Clusters: data, tables, what precedes them, and one refcount block for each cs / 2 of all these.
    const most = clusters + this.l1Entries + this.firstBlock / cs + 4;
    // And no more than the refcount table counts; `settle` refuses what is beyond it.
    const slots = (this.tableClusters * cs) / 8;
    this.slots = Math.min(Math.ceil((most * (1 + 4 / cs)) / (cs / 2)) + 2, slots + 1);
    const tables = Math.min(this.l1Entries, (slots * cs) / 2);
    this.indexesAt = this.blocksAt + this.slots;
    this.tablesAt = this.indexesAt + tables;
    this.state = new Float64Array(this.tablesAt + tables);
    this.segment = new L2Segment(this.l2Entries);
  }

  private begin(s: Float64Array): void {
    const cs = this.clusterSize;
    s[READY] = 1;
    s[BLOCK] = 0;
    s[COUNTED] = 0;
    s[this.blocksAt] = this.firstBlock;
    s[NEXT_L2] = this.firstL2;
    let block = this.firstBlock + cs;
    let end = this.firstBlock;
    let at = 0;
    for (; at <= end; at += cs)
      if (this.count(s, at, block)) {
        block += cs;
        end += cs;
      }
    s[NEXT] = at;
    s[END] = this.firstBlock + cs;
  }

  /**
   * Counts the cluster at `at`; true where that began a new refcount block, which then lies at `position`.
   */
  private count(s: Float64Array, at: number, position: number): boolean {
    const block = Math.floor(at / 2 ** (2 * this.bits - 1));
    let fresh = false;
    if (block !== s[BLOCK]) {
      s[BLOCK] = block;
      s[COUNTED] = 0;
      s[this.blocksAt + block] = position;
      s[END] = Math.max(s[END], position + this.clusterSize);
      fresh = true;
    }
    s[COUNTED]++;
    return fresh;
  }

  place(base: number, runs: Uint32Array, count: number, out: WriteList): void {
    const s = this.state;
    if (s[READY] === 0) this.begin(s);
    const cs = this.clusterSize;
    const { l2Entries, segment, indexesAt, tablesAt } = this;
    const half = cs / 2;
    let at = s[NEXT];
    let open = -1;
    let l2 = 0;
    for (let r = 0; r < count; r++) {
      let guest = base + runs[2 * r];
      let left = runs[2 * r + 1];
      while (left > 0) {
        const l1 = Math.floor(guest / l2Entries);
        const index = guest - l1 * l2Entries;
        if (l1 !== open) {
          if (open >= 0) segment.flush(l2, out);
          open = l1;
          const last = s[TABLES] - 1;
          l2 = last >= 0 && s[indexesAt + last] === l1 ? s[tablesAt + last] : 0;
        }
        // Clusters that go one after another: to the table's end, the run's end, and what the refcount block
        // holds.
        const room = half - ((at / cs) % half);
        let n = Math.min(left, l2Entries - index, room);
        if (l2 === 0 || room === half) n = 1;
        if (room === half && this.count(s, at, at)) at += cs;
        if (room === half) this.count(s, at, at);
        else s[COUNTED] += n;
        out.data(guest * cs, at, n * cs);
        if (l2 === 0) {
          l2 = s[NEXT_L2];
          s[indexesAt + s[TABLES]] = l1;
          s[tablesAt + s[TABLES]++] = l2;
          s[NEXT_L2] = at + cs;
          segment.set(index, 1, at, cs);
          at += cs;
          s[END] = Math.max(s[END], at, l2 + cs);
          if (this.count(s, at, at + cs)) {
            at += cs;
            this.count(s, at, at);
          }
          at += cs;
        } else {
          segment.set(index, n, at, cs);
          at += n * cs;
          s[END] = Math.max(s[END], at);
        }
        guest += n;
        left -= n;
      }
    }
    if (open >= 0) segment.flush(l2, out);
    s[NEXT] = at;
  }

  settle(): number {
    const s = this.state;
    if (s[READY] === 0) this.begin(s);
    this.count(s, s[NEXT], s[NEXT]);
    if (s[BLOCK] >= (this.tableClusters * this.clusterSize) / 8)
      throw new RangeError("e2image layout: more clusters than marks, the refcount table is too small");
    return s[END];
  }

  heads(out: WriteList): void {
    const s = this.state;
    const cs = this.clusterSize;
    const header = new Uint8Array(cs);
    header.set(
      v2Header({
        version: 2,
        clusterBits: this.bits,
        size: this.guestSize,
        l1Entries: this.l1Entries,
        l1Offset: cs,
        tableOffset: this.tableOffset,
        tableClusters: this.tableClusters,
        refcountOrder: 4,
        backingFile: null,
        backingFormat: null,
      }),
    );
    out.meta(0, header);
    this.writeL1(s, out);
    writeTable(s, this.blocksAt, s[BLOCK] + 1, 0, this.tableOffset, out);
  }

  private writeL1(s: Float64Array, out: WriteList): void {
    const piece = new Float64Array(Math.min(PIECE, this.l1Entries));
    let next = 0;
    for (let from = 0; from < this.l1Entries; from += PIECE) {
      const count = Math.min(PIECE, this.l1Entries - from);
      piece.fill(0);
      for (; next < s[TABLES] && s[this.indexesAt + next] < from + count; next++)
        piece[s[this.indexesAt + next] - from] = s[this.tablesAt + next];
      writeTable(piece, 0, count, COPIED_HIGH, this.clusterSize + from * 8, out);
    }
  }

  refcountBlocks(): number {
    return this.state[BLOCK] + 1;
  }

  refcountBlockAt(i: number): number {
    return this.state[this.blocksAt + i];
  }

  renderRefcountBlock(i: number, into: Uint8Array): void {
    const counted = i < this.state[BLOCK] ? into.length / 2 : this.state[COUNTED];
    into.fill(0);
    for (let p = 1; p < counted * 2; p += 2) into[p] = 1;
  }

  l2At(guest: number): number {
    const s = this.state;
    const l1 = Math.floor(guest / this.l2Entries);
    let low = 0;
    for (let high = s[TABLES]; low < high; ) {
      const middle = Math.floor((low + high) / 2);
      if (s[this.indexesAt + middle] < l1) low = middle + 1;
      else high = middle;
    }
    return low < s[TABLES] && s[this.indexesAt + low] === l1 ? s[this.tablesAt + low] : 0;
  }

  finish(out: WriteList): number {
    return finishAll(this, out);
  }
}
