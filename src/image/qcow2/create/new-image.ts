import { UnsupportedError } from "../../../errors.ts";
import type { WriteList } from "../../packer.ts";
import { Allocator } from "../allocator.ts";
import { L2Segment, writeTable } from "../entries.ts";
import { qemuHeader } from "../header-writer.ts";
import { COPIED_HIGH, L2_SLICE_BYTES, LIMIT } from "../layout.ts";
import {
  l1Entries,
  l2Entries,
  mappedSize,
  type Preallocation,
  type Qcow2CreateOptions,
  wholeSectors,
} from "./options.ts";

/** qemu allocates ahead in requests of at most so many bytes, whole clusters. */
const LARGEST_REQUEST = 0x7fffffff;

/** What a new image looks like. Offsets and sizes in bytes. */
export interface NewImageLayout {
  /** Size of the image file. */
  readonly size: number;
  /** Range of the image file that holds the guest's data, allocated ahead; empty where there is none. */
  readonly data: { readonly from: number; readonly to: number };
}

/**
 * Lays out a new, empty image with the bytes of `qemu-img create` (7.2): header, refcount table, first refcount block,
 * L1 table; then what is allocated ahead. All of the metadata goes to `out` (what is not handed out is zeros; a later
 * piece may overwrite an earlier one). The options must have been checked. Facts: observed.
 */
export function layOutImage(o: Qcow2CreateOptions, out: WriteList): NewImageLayout {
  return new NewImage(o, out).write();
}

class NewImage {
  private readonly o: Qcow2CreateOptions;
  private readonly out: WriteList;
  private readonly space: Allocator;
  private readonly entries: number;
  private readonly clusters: number;
  /** Host offset of each L2 table, 0 where there is none. */
  private readonly l1: Float64Array;
  private readonly segment: L2Segment;
  private openTable = -1;
  /** End of what was written into the file so far. */
  private end = 0;
  private dataFrom = 0;
  private dataTo = 0;

  constructor(o: Qcow2CreateOptions, out: WriteList) {
    this.o = o;
    this.out = out;
    const cs = o.clusterSize;
    this.entries = l2Entries(o);
    this.clusters = Math.ceil(wholeSectors(o.size) / cs);
    this.l1 = new Float64Array(l1Entries(o));
    this.segment = new L2Segment(this.entries, o.extendedL2);
    const order = Math.log2(o.refcountBits);
    this.space = new Allocator(cs, order, Math.min(this.blocksNeeded(), LIMIT.refcountTable / 8));
    this.space.state = new Float64Array(this.space.length);
  }

  /** Refcount blocks to provide for, with some to spare. */
  private blocksNeeded(): number {
    const { o, l1 } = this;
    const cs = o.clusterSize;
    const perBlock = (cs * 8) / o.refcountBits;
    const ahead = o.preallocation !== "off" || o.rawDataFile;
    let fixed = Math.ceil((l1.length * 8) / cs) + 16;
    if (ahead) fixed += l1.length + (o.dataFile === null ? this.clusters : 0);
    return Math.ceil((fixed / perBlock) * 1.2 * (1 + 8 / perBlock)) + cs / 8 + 64;
  }

  write(): NewImageLayout {
    const { o, space, l1 } = this;
    const cs = o.clusterSize;
    space.begin();
    this.end = 3 * cs;
    // Before anything large is done: the names have to fit.
    this.header(0);
    // A raw data file must be whole without the image: everything is mapped.
    const mode: Preallocation = o.rawDataFile && o.preallocation === "off" ? "metadata" : o.preallocation;
    let l1At = 0;
    if (l1.length > 0) {
      l1At = space.take(Math.ceil((l1.length * 8) / cs)) * cs;
      this.end = l1At + l1.length * 8;
    }
    if (mode === "metadata" || (mode !== "off" && o.dataFile !== null)) this.allocateMetadata();
    else if (mode !== "off") this.allocateData();
    // A last table that is not full is whole in the file all the same.
    const rest = l1.length * this.entries - this.clusters;
    if (this.openTable >= 0 && rest > 0) this.segment.setWords(this.entries - rest, rest, 0, 0);
    this.flush();
    this.finish(l1At);
    return { size: this.fileEnd(l1At, mode), data: { from: this.dataFrom, to: this.dataTo } };
  }

  /** Maps every cluster of the guest, a request at a time: L2 tables lie between the data. */
  private allocateMetadata(): void {
    const { o, space, entries } = this;
    const cs = o.clusterSize;
    const perRequest = Math.floor(LARGEST_REQUEST / cs);
    const slice = Math.min(entries, L2_SLICE_BYTES / (o.extendedL2 ? 16 : 8));
    // Where the request at hand would go on in the file, or -1 where the next one begins; the guest cluster it ends at.
    let host = -1;
    let to = 0;
    for (let guest = 0; guest < this.clusters; ) {
      if (host < 0) to = Math.min(this.clusters, guest + perRequest);
      const index = guest % entries;
      this.table(Math.floor(guest / entries));
      const n = Math.min(to - guest, slice - (index % slice));
      let at = guest;
      let got = n;
      if (o.dataFile === null) {
        at = host < 0 ? space.take(n) : host;
        if (host >= 0) got = space.takeAt(host, n);
        if (got > 0) this.data(at, got);
      }
      if (got > 0) this.map(index, got, at);
      guest += got;
      host = got === 0 || guest === to ? -1 : at + got;
    }
  }

  /** Puts the data in one piece, behind the refcount blocks that all of it needs; L2 tables follow. */
  private allocateData(): void {
    const { o, space, entries } = this;
    const cs = o.clusterSize;
    const slice = Math.min(entries, L2_SLICE_BYTES / (o.extendedL2 ? 16 : 8));
    const tables = Math.ceil(this.clusters / entries) + 2;
    const from = space.reserve(Math.ceil(this.end / cs), this.clusters + tables);
    this.end = from * cs;
    for (let done = 0; done < this.clusters; ) {
      const got = space.takeAt(from + done, this.clusters - done);
      if (got === 0) throw new UnsupportedError("qcow2: no room for the data in one piece");
      done += got;
    }
    this.data(from, this.clusters);
    for (let guest = 0; guest < this.clusters; ) {
      const index = guest % entries;
      const n = Math.min(this.clusters - guest, slice - (index % slice));
      this.table(Math.floor(guest / entries));
      this.map(index, n, from + guest);
      guest += n;
    }
  }

  private data(at: number, n: number): void {
    const cs = this.o.clusterSize;
    if (this.dataTo === 0) this.dataFrom = at * cs;
    this.dataTo = Math.max(this.dataTo, (at + n) * cs);
    this.end = Math.max(this.end, (at + n) * cs);
  }

  /** Sets `n` entries of the open table. */
  private map(index: number, n: number, at: number): void {
    const cs = this.o.clusterSize;
    this.segment.set(index, n, at * cs, cs);
    // Extended entries: the cluster is there, none of its subclusters holds anything yet.
    if (this.o.extendedL2) for (let i = index; i < index + n; i++) this.segment.subclusters(i, 0, 0);
  }

  /** Makes `index` the table whose entries are set; takes its cluster where it has none. */
  private table(index: number): void {
    if (this.openTable === index) return;
    this.flush();
    this.openTable = index;
    if (this.l1[index] !== 0) return;
    const at = this.space.take(1) * this.o.clusterSize;
    this.l1[index] = at;
    this.end = Math.max(this.end, at + this.o.clusterSize);
  }

  private flush(): void {
    if (this.openTable >= 0) this.segment.flush(this.l1[this.openTable], this.out);
    this.openTable = -1;
  }

  private header(l1At: number): Uint8Array {
    const { o, space } = this;
    const cs = o.clusterSize;
    return qemuHeader({
      version: o.version,
      clusterBits: Math.log2(cs),
      size: wholeSectors(o.size),
      l1Entries: this.l1.length,
      l1Offset: l1At,
      tableOffset: space.table * cs,
      tableClusters: space.tableClusters,
      refcountOrder: Math.log2(o.refcountBits),
      backingFile: o.backingFile,
      backingFormat: o.backingFormat,
      compressionType: o.compressionType,
      extendedL2: o.extendedL2,
      lazyRefcounts: o.lazyRefcounts,
      dataFile: o.dataFile,
      rawDataFile: o.rawDataFile,
    });
  }

  /** Header, L1 table, refcount table and blocks. */
  private finish(l1At: number): void {
    const { o, out, space } = this;
    const cs = o.clusterSize;
    out.meta(0, this.header(l1At));
    writeTable(this.l1, 0, this.l1.length, COPIED_HIGH, l1At, out);
    const places = new Float64Array((space.tableClusters * cs) / 8);
    for (let i = 0; i < space.blocks; i++) places[i] = space.blockAt(i) * cs;
    writeTable(places, 0, places.length, 0, space.table * cs, out);
    space.stale((cluster, from, entries) =>
      writeTable(places.subarray(from, from + entries), 0, entries, 0, cluster * cs, out),
    );
    const bytes = new Uint8Array(cs);
    for (let i = 0; i < space.blocks; i++) {
      const at = space.blockAt(i);
      if (at === 0) continue;
      space.renderBlock(i, bytes);
      out.meta(at * cs, bytes);
    }
  }

  /**
   * Where the file ends: an L1 table at the very end is written without padding, data that were only mapped reach as
   * far as the guest's last subcluster.
   */
  private fileEnd(l1At: number, mode: Preallocation): number {
    const cs = this.o.clusterSize;
    const taken = this.space.end * cs;
    const l1End = l1At + this.l1.length * 8;
    if (l1End > 0 && taken >= l1End && taken - l1End < cs && this.end <= l1End) return l1End;
    if (mode !== "metadata" || this.dataTo !== taken) return taken;
    return taken - this.clusters * cs + mappedSize(this.o);
  }
}
