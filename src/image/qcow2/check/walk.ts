import { u32be } from "../../../bytes/endian.ts";
import { ALL_SET, BitmapError, parseBitmapDirectory, parseBitmapTable } from "../bitmaps.ts";
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  L1_RESERVED_HIGH,
  L1_RESERVED_LOW,
  L2_RESERVED_HIGH,
  L2_RESERVED_LOW,
  LIMIT,
  OFFSET_HIGH,
  OFFSET_LOW,
  ZERO_LOW,
} from "../layout.ts";
import {
  type CheckedImage,
  L1_PIECE,
  LARGEST_FILE,
  refcountMax,
  type StoredRefcounts,
  TableBudget,
} from "./checked-image.ts";
import type { Counters } from "./counters.ts";
import { CheckFailure, type CheckResult, hex64 } from "./result.ts";
import type { CheckedSnapshots } from "./snapshot-table.ts";

/** What a repair does as the walk comes by. */
export interface WalkRepairs {
  /** Makes the file reach `size` bytes; null, or strerror's words where the host will not have it. */
  grow(size: number): string | null;
  /** Writes an L2 entry of a table of the active disk or of a snapshot. */
  writeEntry(bytes: Uint8Array, at: number, active: boolean): void;
}

/** Largest image that is checked, in clusters. */
export const MOST_CLUSTERS = 0x7fffffff;

/**
 * Counts every reference to a cluster of a window, in qemu's order, and reports what is wrong with the references
 * themselves.
 */
export class ReferenceWalk {
  private readonly image: CheckedImage;
  private readonly stored: StoredRefcounts;
  private readonly snapshots: CheckedSnapshots;
  private readonly counters: Counters;
  private readonly highest: number;
  private readonly result: CheckResult;
  private readonly report: (line: string) => void;
  private readonly repairs: WalkRepairs | null;
  private readonly budget = new TableBudget();
  /** Clusters to look at: those of the file, and one more where something ends there. */
  clusters: number;
  /** Set where the refcount structures cannot be trusted: they have to be made again. */
  rebuild = false;

  /** Repairs on the way with `repairs`. */
  constructor(
    image: CheckedImage,
    stored: StoredRefcounts,
    snapshots: CheckedSnapshots,
    counters: Counters,
    result: CheckResult,
    report: (line: string) => void,
    repairs: WalkRepairs | null,
  ) {
    this.image = image;
    this.stored = stored;
    this.snapshots = snapshots;
    this.counters = counters;
    this.highest = refcountMax(image.header.refcountOrder);
    this.result = result;
    this.report = report;
    this.repairs = repairs;
    this.clusters = image.fileClusters;
  }

  /** Walks everything. Throws CheckFailure, FormatError (tables without end) or IoError. */
  run(): void {
    const { image, snapshots, counters, result } = this;
    const { header } = image;
    this.count(0, image.clusterSize);
    this.countL1(header.l1Offset, header.l1Entries, true);
    if (header.external && snapshots.list.length > 0)
      this.corrupt(`ERROR ${snapshots.list.length} snapshots in image with data file`);
    for (const s of snapshots.list) {
      const { high, low } = s.l1;
      const offset = high * 0x100000000 + low;
      const words = `ERROR snapshot ${s.id} (${s.name}) `;
      if ((low & (image.clusterSize - 1)) !== 0)
        this.corrupt(
          `${words}l1_offset=${prefixed(high, low)}: L1 table is not cluster aligned; snapshot table entry corrupted`,
        );
      else if (s.l1Entries > LIMIT.l1 / 8)
        this.corrupt(
          `${words}l1_size=${prefixed(0, s.l1Entries)}: L1 table is too large; snapshot table entry corrupted`,
        );
      else if (high >= 0x80000000 && s.l1Entries > 0) {
        // An offset that is negative to qemu, which then runs out of memory.
        result.errors++;
        throw new CheckFailure("ENOMEM");
      } else this.countL1(offset, s.l1Entries, false);
    }
    const { high, low } = image.snapshotsOffset;
    this.count(snapshots.offset, snapshots.size, hex64(high, low));
    this.count(header.tableOffset, this.stored.entries * 8);
    if (header.crypto !== null) this.count(header.crypto.offset, header.crypto.length);
    this.bitmaps();
    this.blocks();
    // The kernel, too, may have counted what ends beyond the last cluster.
    if (counters.has(this.clusters) && counters.get(this.clusters) > 0) this.clusters++;
  }

  private corrupt(line: string): void {
    this.result.corruptions++;
    this.report(line);
  }

  /**
   * One more reference for every cluster of [offset, offset + size). `hex`: the offset where a number does not hold it.
   */
  private count(offset: number, size: number, hex?: string): void {
    if (size <= 0) return;
    const { image, counters } = this;
    const cs = image.clusterSize;
    if (offset + size - image.fileSize >= cs) {
      this.corrupt(
        "ERROR: counting reference for region exceeding the end of the file by one cluster or more: " +
          `offset 0x${hex ?? BigInt(offset).toString(16)} size 0x${BigInt(size).toString(16)}`,
      );
      return;
    }
    const last = Math.floor((offset + size - 1) / cs);
    if (last >= this.clusters) this.clusters = last + 1;
    for (let k = Math.floor(offset / cs); k <= last; k++) {
      if (!counters.has(k)) continue;
      const n = counters.get(k);
      if (n > 0) counters.share();
      if (n === counters.max && n < this.highest) {
        counters.widen();
        if (!counters.has(k)) continue;
      }
      if (n < this.highest) counters.set(k, n + 1);
      else {
        this.report(`ERROR: overflow cluster offset=0x${(k * cs).toString(16)}`);
        this.report(
          "Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a clean copy if the image cannot be opened for writing",
        );
        this.result.corruptions++;
      }
    }
  }

  private countL1(offset: number, entries: number, active: boolean): void {
    if (entries === 0) return;
    const { image, counters } = this;
    const structure = active ? "qcow2 L1 table" : "qcow2 snapshot L1 table";
    this.count(offset, entries * 8);
    if (offset + entries * 8 > LARGEST_FILE) {
      this.report("ERROR: I/O error in check_refcounts_l1");
      this.result.errors++;
      throw new CheckFailure("EIO");
    }
    // What lies past the end of the file reads as zeros: no entries.
    const there = Math.min(entries, Math.max(0, Math.ceil((image.fileSize - offset) / 8)));
    const piece = new Uint8Array(Math.min(there, L1_PIECE) * 8);
    for (let i = 0; i < there; i += L1_PIECE) {
      const b = piece.subarray(0, Math.min(L1_PIECE, there - i) * 8);
      this.budget.spend(b.length, structure, offset);
      image.read(b, offset + i * 8);
      for (let p = 0; p < b.length; p += 8) {
        const high = u32be(b, p);
        const low = u32be(b, p + 4);
        if ((high | low) === 0) continue;
        if (high & L1_RESERVED_HIGH || low & L1_RESERVED_LOW)
          this.corrupt(`ERROR found L1 entry with reserved bits set: ${hex64(high, low)}`);
        const table = (high & OFFSET_HIGH) * 0x100000000 + ((low & OFFSET_LOW) >>> 0);
        if (!(high & COPIED_HIGH) || table === 0 || table >= image.fileSize) counters.share();
        this.count(table, image.clusterSize);
        if (table % image.clusterSize !== 0)
          this.corrupt(
            `ERROR l2_offset=${table.toString(16)}: Table is not cluster aligned; L1 entry corrupted`,
          );
        if (table < image.fileSize) this.countL2(table, active);
      }
    }
  }

  private countL2(offset: number, active: boolean): void {
    const { image, counters, result } = this;
    const { header } = image;
    const { raw } = counters.kernel;
    this.budget.spend(image.clusterSize, "qcow2 L2 table", offset);
    image.read(counters.table.bytes, offset);
    counters.follows = 0;
    const entries = image.entriesPerTable;
    for (let i = 0; i < entries; i++) {
      i =
        raw.countL2(
          counters.table.at,
          i,
          entries,
          header.clusterBits,
          image.entryFlags,
          counters.walkAt,
          counters.at,
          counters.width,
          counters.max,
        ) >>> 0;
      const [allocated, fragmented, compressed] = counters.takeStatistics();
      if (active) {
        result.allocatedClusters += allocated;
        result.fragmentedClusters += fragmented;
        result.compressedClusters += compressed;
      }
      if (i < entries) this.countEntry(offset, i, active);
    }
  }

  /** An entry that is not in order, or whose counter is full. */
  private countEntry(table: number, i: number, active: boolean): void {
    const { image, counters, result } = this;
    const { header } = image;
    const b = counters.table.bytes;
    const p = i * image.entryBytes;
    const high = u32be(b, p);
    const low = u32be(b, p + 4);
    const zeros = header.extendedL2 ? u32be(b, p + 8) : 0;
    const used = header.extendedL2 ? u32be(b, p + 12) : 0;
    if (high & COMPRESSED_HIGH) {
      const bits = 62 - (header.clusterBits - 8) - 32;
      const streamHigh = high & (2 ** bits - 1);
      if (high & COPIED_HIGH)
        this.corrupt(
          `ERROR: coffset=0x${hex64(streamHigh, low)}: copied flag must never be set for compressed clusters`,
        );
      const entry = `entry=0x${hex64(high & 0x7fffffff, low)}`;
      if (header.external) {
        this.corrupt(`ERROR compressed cluster ${i} with data file, ${entry}`);
        return;
      }
      if ((zeros | used) !== 0) {
        this.corrupt(`ERROR compressed cluster ${i} with non-zero subcluster allocation bitmap, ${entry}`);
        return;
      }
      const offset = streamHigh * 0x100000000 + low;
      const sectors = ((high & 0x3fffffff) >>> bits) + 1;
      this.count(offset, sectors * 512 - (low & 511), hex64(streamHigh, low));
      if (active) {
        result.allocatedClusters++;
        result.compressedClusters++;
        result.fragmentedClusters++;
      }
      return;
    }
    if (high & L2_RESERVED_HIGH || low & L2_RESERVED_LOW)
      this.corrupt(`ERROR found l2 entry with reserved bits set: ${hex64(high, low)}`);
    const offset = (high & OFFSET_HIGH) * 0x100000000 + ((low & OFFSET_LOW) >>> 0);
    const zero = !header.extendedL2 && (low & ZERO_LOW) !== 0;
    if (offset === 0) {
      if (zero) return;
      if (!(header.external && high & COPIED_HIGH)) {
        if (used !== 0) this.corrupt("ERROR: Unallocated cluster has non-zero subcluster allocation map");
        return;
      }
    }
    if ((zeros & used) !== 0)
      this.corrupt(
        `ERROR offset=${offset.toString(16)}: Allocated cluster has corrupted subcluster allocation bitmap`,
      );
    if (offset % image.clusterSize !== 0) {
      const data = header.extendedL2 ? used !== 0 : !zero;
      if (data)
        this.corrupt(
          `ERROR offset=${offset.toString(16)}: Data cluster is not properly aligned; L2 entry corrupted.`,
        );
      else {
        this.report(
          `${this.repairs === null ? "ERROR" : "Repairing"} offset=${offset.toString(16)}: ` +
            "Preallocated cluster is not properly aligned; L2 entry corrupted.",
        );
        if (this.repairs !== null) {
          this.repairs.writeEntry(zeroEntry(header.extendedL2, zeros, used), table + p, active);
          result.corruptionsFixed++;
          return;
        }
        result.corruptions++;
      }
    }
    if (active) {
      result.allocatedClusters++;
      if (counters.follows !== 0 && offset !== counters.follows) result.fragmentedClusters++;
    }
    counters.follows = offset + image.clusterSize;
    if (!header.external) this.count(offset, image.clusterSize);
  }

  private bitmaps(): void {
    const { image, result } = this;
    const { header } = image;
    if (header.bitmaps === null || !header.bitmapsValid) return;
    const { offset, size, count } = header.bitmaps;
    this.count(offset, size);
    try {
      const directory = new Uint8Array(size);
      image.read(directory, offset);
      for (const entry of parseBitmapDirectory(directory, count, offset, header)) {
        const bytes = entry.tableEntries * 8;
        this.count(entry.tableOffset, bytes);
        this.budget.spend(bytes, "qcow2 bitmap table", entry.tableOffset);
        const table = new Uint8Array(
          Math.min(bytes, Math.max(0, Math.ceil((image.fileSize - entry.tableOffset) / 8) * 8)),
        );
        image.read(table, entry.tableOffset);
        for (const at of parseBitmapTable(table, entry.tableOffset, image.clusterSize))
          if (at > ALL_SET) this.count(at, image.clusterSize);
      }
    } catch (error) {
      if (!(error instanceof BitmapError)) throw error;
      result.corruptions++;
      throw new CheckFailure("EINVAL");
    }
  }

  /** The refcount blocks: where they are, and that nothing else is there. */
  private blocks(): void {
    const { image, stored, counters, result } = this;
    for (let i = 0; i < stored.entries; i++) {
      const low = stored.table[2 * i + 1];
      if ((stored.table[2 * i] | low) === 0) continue;
      const offset = stored.blockOffset(i);
      if (low & 0x1ff) {
        this.corrupt(`ERROR refcount table entry ${i} has reserved bits set`);
        this.rebuild = true;
        continue;
      }
      if (stored.misaligned(i)) {
        this.corrupt(`ERROR refcount block ${i} is not cluster aligned; refcount table entry corrupted`);
        this.rebuild = true;
        continue;
      }
      const cluster = offset / image.clusterSize;
      if (cluster >= this.clusters) {
        this.report(`${this.repairs === null ? "ERROR" : "Repairing"} refcount block ${i} is outside image`);
        if (this.repairs === null) {
          result.corruptions++;
          continue;
        }
        const refused =
          offset > 2 ** 63 - image.clusterSize - 1
            ? "Invalid argument"
            : this.repairs.grow(offset + image.clusterSize);
        if (refused !== null) {
          result.corruptions++;
          this.rebuild = true;
          this.report(`ERROR could not resize image: ${refused}`);
          continue;
        }
        image.measure();
        this.clusters = Math.max(this.clusters, image.fileClusters);
        result.corruptionsFixed++;
        this.count(offset, image.clusterSize);
        continue;
      }
      this.count(offset, image.clusterSize);
      if (!counters.has(cluster)) continue;
      const references = counters.get(cluster);
      if (references !== 1) {
        this.corrupt(`ERROR refcount block ${i} refcount=${references}`);
        this.rebuild = true;
      }
    }
  }
}

/** As C's %#x prints. */
function prefixed(high: number, low: number): string {
  return (high | low) === 0 ? "0" : `0x${hex64(high, low)}`;
}

/** An entry that reads as zeros wherever the damaged one did or held data. */
function zeroEntry(extended: boolean, zeros: number, used: number): Uint8Array {
  const b = new Uint8Array(extended ? 16 : 8);
  if (extended) new DataView(b.buffer).setUint32(8, (zeros | used) >>> 0);
  else b[7] = ZERO_LOW;
  return b;
}
