import { u32be } from "../../../bytes/endian.ts";
import type { DurableFile } from "../../../io/durable.ts";
import { H, INCOMPATIBLE, OFFSET_HIGH, OFFSET_LOW } from "../layout.ts";
import type { CheckedImage, StoredRefcounts } from "./checked-image.ts";
import { CheckFailure } from "./result.ts";
import type { CheckedSnapshots } from "./snapshot-table.ts";

/** Names of metadata that a write must not hit, as qemu says them. */
export type Metadata =
  | "qcow2_header"
  | "active L1 table"
  | "refcount table"
  | "snapshot table"
  | "inactive L1 table"
  | "active L2 table"
  | "refcount block"
  | "bitmap directory";

/**
 * Knows where an image's metadata lies, whatever its refcounts say, and refuses writes on it: an image that says that
 * two things are in one place must not be repaired into losing one of them.
 */
export class OverlapGuard {
  private readonly image: CheckedImage;
  private readonly stored: StoredRefcounts;
  private readonly snapshots: CheckedSnapshots;
  private readonly file: DurableFile;
  private readonly report: (line: string) => void;
  private l2: Float64Array | null = null;
  private blocks: Float64Array | null = null;
  private marked = false;

  constructor(
    image: CheckedImage,
    stored: StoredRefcounts,
    snapshots: CheckedSnapshots,
    file: DurableFile,
    report: (line: string) => void,
  ) {
    this.image = image;
    this.stored = stored;
    this.snapshots = snapshots;
    this.file = file;
    this.report = report;
  }

  /**
   * Throws CheckFailure "EIO" where a write of `size` bytes at `offset` would hit metadata other than `own`; the image
   * is marked corrupt then. `words`: lines that tell what failed, `refused` counts it.
   */
  demand(offset: number, size: number, own: Metadata | null, refused: () => void, ...words: string[]): void {
    const hit = this.hit(offset, size, own);
    if (hit === null) return;
    this.markCorrupt(`Preventing invalid write on metadata (overlaps with ${hit})`);
    for (const line of words) this.report(line);
    refused();
    throw new CheckFailure("EIO");
  }

  /** Marks the image corrupt, and says so: once. */
  markCorrupt(why: string): void {
    if (this.marked) return;
    this.marked = true;
    this.report(`qcow2: Marking image as corrupt: ${why}; further corruption events will be suppressed`);
    if (this.image.header.version < 3) return;
    const b = new Uint8Array(1);
    this.file.read(b, H.incompatible + 7);
    b[0] |= 1 << INCOMPATIBLE.corrupt;
    this.file.write(b, H.incompatible + 7);
    this.file.sync();
  }

  private hit(offset: number, size: number, own: Metadata | null): Metadata | null {
    if (size === 0) return null;
    const { image, stored, snapshots } = this;
    const { header } = image;
    const cs = image.clusterSize;
    if (offset < cs) return "qcow2_header";
    const from = Math.floor(offset / cs) * cs;
    const to = Math.ceil((offset + size) / cs) * cs;
    const meets = (at: number, length: number): boolean => length > 0 && at < to && at + length > from;
    if (own !== "active L1 table" && meets(header.l1Offset, header.l1Entries * 8)) return "active L1 table";
    if (own !== "refcount table" && meets(header.tableOffset, stored.entries * 8)) return "refcount table";
    if (own !== "snapshot table" && meets(snapshots.offset, snapshots.size)) return "snapshot table";
    for (const s of snapshots.list)
      if (meets(s.l1.high * 0x100000000 + s.l1.low, s.l1Entries * 8)) return "inactive L1 table";
    this.l2 ??= this.activeL2();
    if (own !== "active L2 table" && anyWithin(this.l2, from - cs, to)) return "active L2 table";
    this.blocks ??= this.refcountBlocks();
    if (own !== "refcount block" && anyWithin(this.blocks, from - cs, to)) return "refcount block";
    const { bitmaps, bitmapsValid } = header;
    if (bitmaps !== null && bitmapsValid && meets(bitmaps.offset, bitmaps.size)) return "bitmap directory";
    return null;
  }

  /** Offsets of the active L2 tables, ascending. */
  private activeL2(): Float64Array {
    const { image } = this;
    const { header } = image;
    const there = Math.min(header.l1Entries * 8, Math.max(0, image.fileSize - header.l1Offset));
    const b = new Uint8Array(there);
    image.read(b, header.l1Offset);
    const offsets = new Float64Array(there >>> 3);
    let n = 0;
    for (let p = 0; p + 8 <= there; p += 8) {
      const offset = (u32be(b, p) & OFFSET_HIGH) * 0x100000000 + ((u32be(b, p + 4) & OFFSET_LOW) >>> 0);
      if (offset !== 0) offsets[n++] = offset;
    }
    return offsets.subarray(0, n).sort();
  }

  private refcountBlocks(): Float64Array {
    const offsets = new Float64Array(this.stored.entries);
    let n = 0;
    for (let i = 0; i < this.stored.entries; i++) {
      const offset = this.stored.blockOffset(i);
      if (offset !== 0) offsets[n++] = offset;
    }
    return offsets.subarray(0, n).sort();
  }

  /** Clusters that the refcount table and its blocks take, whether they are in order or not, below `clusters`. */
  refcountClusters(clusters: number): number[] {
    const { image, stored } = this;
    const cs = image.clusterSize;
    const list: number[] = [];
    const take = (offset: number, size: number): void => {
      for (let k = Math.floor(offset / cs); k * cs < offset + size && k < clusters; k++) list.push(k);
    };
    take(image.header.tableOffset, stored.entries * 8);
    this.blocks ??= this.refcountBlocks();
    for (const offset of this.blocks) take(offset, cs);
    return list;
  }
}

/** True where a value lies between `above` and `below`, both excluded. */
function anyWithin(sorted: Float64Array, above: number, below: number): boolean {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle] <= above) low = middle + 1;
    else high = middle;
  }
  return low < sorted.length && sorted[low] < below;
}
