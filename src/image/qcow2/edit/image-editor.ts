import { BlockSet } from "../../../bytes/block-set.ts";
import type { MapRuns } from "../../../bytes/runs.ts";
import { FormatError, RefusedError } from "../../../errors.ts";
import type { DurableFile } from "../../../io/durable.ts";
import type { Source } from "../../../io/source.ts";
import type { Qcow2Header } from "../header.ts";
import { AUTOCLEAR } from "../layout.ts";
import { type LiveQcow2Image, readLiveTables } from "../reader.ts";
import { Tables } from "../tables.ts";
import { GuestWriter } from "./guest-writer.ts";
import { HeaderFile } from "./header-file.ts";
import { HeaderState } from "./header-rewrite.ts";
import { ImageFile } from "./image-file.ts";
import { bitmapsToKeep, type KeptBitmaps, storeBitmaps } from "./kept-bitmaps.ts";
import { L2Cache } from "./l2-cache.ts";
import { Refcounts } from "./refcounts.ts";
import { parseSnapshots } from "./snapshot-table.ts";
import type { Editor, EditorOptions, HeaderChanges } from "./types.ts";
import { bytesOfWords, wordsOfBytes } from "./words.ts";

/** The autoclear bits that stay when guest data changes: that of raw data files. */
const KEPT_AUTOCLEAR = 1 << AUTOCLEAR.rawDataFile;

/** See `Editor`. What snapshots, resizing and the like need beyond that is here. */
export class ImageEditor implements Editor {
  readonly file: ImageFile;
  readonly data: ImageFile;
  readonly l2: L2Cache;
  refcounts: Refcounts;
  readonly writer: GuestWriter;
  readonly label: string;
  /** The snapshot table's place in the next header. */
  snapshots: { count: number; offset: number };

  private readonly options: EditorOptions;
  private readonly state: HeaderState;
  private readonly headerFile: HeaderFile;
  private current: Qcow2Header;
  private headerDirty = false;
  /** Where the L1 table of `current` lies. */
  private l1Place: { at: number; entries: number };
  private reader: LiveQcow2Image | null = null;
  private tables: Tables | null = null;
  private readonly source: Source;
  private touched = false;
  /** Bitmaps that the next commit brings up to date. */
  private kept: KeptBitmaps | null = null;
  /** Bytes were written since the last commit. */
  private written = false;
  /** Where the file ended at the last commit, in whole clusters. */
  private committedEnd: number;
  /** Clusters of live metadata. */
  private readonly metadata: BlockSet;

  /** `head`: the first cluster of the image; `header`: as parsed from it. */
  constructor(durable: DurableFile, head: Uint8Array, header: Qcow2Header, options: EditorOptions) {
    this.options = options;
    this.label = durable.label;
    this.current = header;
    const cs = header.clusterSize;
    this.file = new ImageFile(durable, cs);
    if (header.external && options.dataFile === undefined)
      throw new RefusedError("EDATAFILE", `${durable.label}: its data file is not open`);
    this.data = header.external ? new ImageFile(options.dataFile!, cs) : this.file;
    this.source = this.file.source();
    this.state = new HeaderState(head, header);
    this.headerFile = new HeaderFile(this.file, cs, head);
    this.refcounts = new Refcounts(
      this.file,
      cs,
      header.refcountOrder,
      header.tableOffset,
      header.tableClusters,
    );
    const l1 =
      header.l1Entries === 0
        ? new Uint32Array(0)
        : wordsOfBytes(this.file.readTable("qcow2 L1 table", header.l1Offset, header.l1Entries * 8));
    this.l2 = new L2Cache(this.file, this.refcounts, cs, l1);
    this.l2.check(header.l1Offset);
    this.l2.dropped = () => this.tables?.forget();
    this.l1Place = { at: header.l1Offset, entries: header.l1Entries };
    this.snapshots = { count: header.snapshots, offset: header.snapshotsOffset };
    this.committedEnd = this.wholeEnd();
    this.metadata = this.findMetadata();
    this.protect(this.refcounts);
    this.writer = new GuestWriter(this);
  }

  get header(): Qcow2Header {
    return this.current;
  }

  get size(): number {
    return this.current.size;
  }

  get below(): number {
    return this.options.backing?.size ?? 0;
  }

  get clusterSize(): number {
    return this.current.clusterSize;
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    return this.live().read(into, at);
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    return this.live().map(from, to);
  }

  write(bytes: Uint8Array, at: number): void | Promise<void> {
    return this.writer.write(bytes, at);
  }

  writeZeros(at: number, length: number): void | Promise<void> {
    return this.writer.writeZeros(at, length);
  }

  discard(at: number, length: number): void | Promise<void> {
    this.writer.discard(at, length);
  }

  writeCompressed(stream: Uint8Array, at: number): void {
    this.writer.writeCompressed(stream, at);
  }

  allocateClusters(n: number): number {
    return this.refcounts.take(n) * this.clusterSize;
  }

  freeClusters(at: number, n: number): void {
    this.refcounts.release(at / this.clusterSize, n);
  }

  refcount(cluster: number): number {
    return this.refcounts.get(cluster);
  }

  readHost(into: Uint8Array, at: number): void {
    this.file.read(into, at);
  }

  writeHost(bytes: Uint8Array, at: number): void {
    this.written = true;
    this.file.write(bytes, at);
  }

  /** Writes an L2 table into a cluster allocated since the last commit. */
  writeTable(words: Uint32Array, at: number): void {
    this.writeHost(bytesOfWords(words), at);
  }

  /** Makes other refcounts, of another width, those of the image; the old ones must have been committed. */
  replaceRefcounts(refcounts: Refcounts): void {
    this.protect(refcounts);
    this.refcounts = refcounts;
    this.l2.refcounts = refcounts;
  }

  setHeader(changes: HeaderChanges): void {
    this.state.apply(changes);
    this.headerDirty = true;
    this.parse();
  }

  /** Takes in what the header will say. The L1 table must be long enough for the disk. */
  parse(): void {
    const { place } = this.refcounts;
    this.state.setTables({
      l1Offset: this.l1Place.at,
      l1Entries: this.l2.l1.length / 2,
      // Refcounts of another width have no place before they are settled.
      tableOffset: place.clusters === 0 ? this.current.tableOffset : place.at,
      tableClusters: place.clusters === 0 ? this.current.tableClusters : place.clusters,
      snapshots: this.snapshots.count,
      snapshotsOffset: this.snapshots.offset,
    });
    this.current = this.state.parsed(this.clusterSize);
    this.reader = null;
    this.tables = null;
  }

  /** Makes another snapshot table the one of the next header; the old one is not released. */
  setSnapshots(count: number, offset: number): void {
    this.snapshots = { count, offset };
    this.headerDirty = true;
  }

  /** Before guest data changes: whoever vouches for it being unchanged must not do so any more. */
  touch(): void {
    this.written = true;
    if (this.touched) return;
    this.touched = true;
    if (this.current.version < 3) return;
    // Known bits but that of the bitmaps stay.
    this.state.clearUnknownAutoclear();
    this.keepBitmaps();
    if (this.current.bitmapsValid) this.setHeader({ bitmapsValid: false });
    this.headerFile.clearAutoclear(KEPT_AUTOCLEAR);
  }

  /** Notes that guest bytes change, for the bitmaps that record it. */
  changed(at: number, length: number): void {
    this.kept?.dirty.add(Math.floor(at / 512), Math.ceil((at + length) / 512));
  }

  /** Has the bitmaps brought up to date by the next commit; answers with them, or null where there are none. */
  keepBitmaps(): KeptBitmaps | null {
    this.kept ??= bitmapsToKeep(this);
    return this.kept;
  }

  /** The bitmaps are about to be removed. */
  forgetBitmaps(): void {
    if (this.kept === null) return;
    const { list, offset, size } = this.kept;
    this.kept = null;
    this.setHeader({ bitmaps: { count: list.length, size, offset }, bitmapsValid: true });
  }

  relieve(): void {
    if (this.l2.crowded) this.l2.flush();
    if (this.refcounts.crowded) this.refcounts.spill();
  }

  commit(): void {
    const { file, l2, refcounts } = this;
    const cs = this.clusterSize;
    if (this.state.clearUnknownAutoclear()) this.headerDirty = true;
    if (this.kept !== null) storeBitmaps(this, this.kept);
    this.kept = null;
    l2.flush();
    if (l2.l1Dirty) {
      const clusters = (entries: number) => Math.ceil((entries * 8) / cs);
      if (this.l1Place.entries > 0) refcounts.release(this.l1Place.at / cs, clusters(this.l1Place.entries));
      const entries = l2.l1.length / 2;
      const at = entries === 0 ? this.l1Place.at : refcounts.take(clusters(entries)) * cs;
      if (entries > 0) file.write(padded(bytesOfWords(l2.l1), cs), at);
      this.l1Place = { at, entries };
    }
    const changed = this.headerDirty || l2.l1Dirty || refcounts.changed;
    refcounts.settle();
    if (this.data !== file) this.data.sync();
    if (!changed) {
      if (this.written) file.sync();
      this.written = false;
      return;
    }
    this.parse();
    const bytes = this.state.render(cs);
    file.sync();
    this.headerFile.write(bytes);
    refcounts.committed();
    l2.committed();
    this.writer.committed();
    this.headerDirty = false;
    this.written = false;
    // The bitmaps are valid again.
    if (this.current.bitmapsValid) this.touched = false;
    this.committedEnd = this.wholeEnd();
  }

  /**
   * Moves the active tables and the refcounts that lie at host offset `from` or behind to clusters before, where those
   * are free; false where none is. The caller commits.
   */
  moveTables(from: number): boolean {
    const { l2, refcounts } = this;
    if (refcounts.lowestFree() * this.clusterSize >= from) return false;
    for (let i = 0; i < l2.l1.length / 2; i++) {
      if (l2.at(i) >= from && refcounts.get(l2.at(i) / this.clusterSize) === 1) l2.own(i);
      this.relieve();
    }
    if (this.l1Place.at >= from) l2.l1Dirty = true;
    refcounts.moveFrom(from);
    return true;
  }

  /** Where the file's last cluster ends. */
  private wholeEnd(): number {
    return Math.ceil(this.file.size / this.clusterSize) * this.clusterSize;
  }

  close(): void {
    this.reader = null;
    this.tables = null;
    // What was added behind the end and not committed is of no use to anybody.
    if (this.written || this.headerDirty || this.l2.l1Dirty || this.refcounts.changed)
      this.file.cut(this.committedEnd);
  }

  /** The image as it reads now. */
  private live(): LiveQcow2Image {
    if (this.reader === null) {
      this.tables = new Tables(this.source, this.current, {
        l1: this.l2.l1,
        table: (i) => this.l2.get(i)!.words,
      });
      this.reader = readLiveTables(this.source, refuseAll, this.current, this.tables, {
        backing: this.options.backing ?? null,
        data: this.data === this.file ? undefined : this.data.source(),
        codecs: this.options.codecs,
      });
    }
    this.tables!.dataSize = this.data.size;
    return this.reader;
  }

  /** Refuses to use clusters that the image's own tables lie in, whatever their refcounts say. */
  private protect(refcounts: Refcounts): void {
    refcounts.guard = (first, n) => {
      const c = this.metadata.firstMember(first, first + n);
      if (c < first + n)
        throw new FormatError(
          "qcow2 cluster",
          c * this.clusterSize,
          "would be written to, but holds metadata; the image is corrupt",
          "EOVERLAP",
        );
    };
    refcounts.freed = (first, n) => {
      this.metadata.remove(first, first + n);
    };
  }

  /** Clusters of the header and of all tables as they are live. */
  private findMetadata(): BlockSet {
    const cs = this.clusterSize;
    const set = new BlockSet(Math.floor(Number.MAX_SAFE_INTEGER / cs));
    const add = (at: number, bytes: number) => {
      set.add(Math.floor(at / cs), Math.ceil((at + bytes) / cs));
    };
    const { current } = this;
    add(0, cs);
    add(this.l1Place.at, this.l1Place.entries * 8);
    add(current.tableOffset, current.tableClusters * cs);
    for (const at of this.refcounts.blockOffsets()) add(at, cs);
    for (let i = 0; i < this.l2.l1.length / 2; i++) {
      const at = this.l2.at(i);
      if (at !== 0) add(at, cs);
    }
    if (current.bitmaps !== null) add(current.bitmaps.offset, current.bitmaps.size);
    if (current.crypto !== null) add(current.crypto.offset, current.crypto.length);
    if (current.snapshots > 0) {
      const table = parseSnapshots(this.file, current.snapshotsOffset, current.snapshots, current.size);
      add(current.snapshotsOffset, table.size);
      for (const s of table.list) add(s.l1Offset, s.l1Entries * 8);
    }
    return set;
  }
}

function padded(bytes: Uint8Array, unit: number): Uint8Array {
  const b = new Uint8Array(Math.ceil(bytes.length / unit) * unit);
  b.set(bytes);
  return b;
}

const refuseAll = () => Promise.reject(new RefusedError("EGATE", "nothing is opened by an editor"));
