import type { BlockSet } from "../../../bytes/block-set.ts";
import { ExtentList } from "../../../bytes/extents.ts";
import { ReadError } from "../../../errors.ts";
import { Kernel, type Slot } from "../../../kernel/kernel.ts";
import type { Inode, NtfsParts } from "../inode.ts";
import { AT } from "../layout.ts";
import { readRuns } from "../run-reader.ts";
import { HOLE_LCN, RUN, type Runs, runOf } from "../runlist.ts";
import { openStream } from "../stream.ts";
import { type MetadataVisitor, type MetadataWalkOptions, walkMetadata } from "./walk.ts";
import { type MetadataCounts, WipeCounters } from "./wipe.ts";

/** Bytes read, wiped and handed over at a time, where clusters and records are not larger. */
const PIECE_BYTES = 512 * 1024;
/** Longest $BITMAP of an index that is read, bytes: blocks for more names than a volume can have records. */
const MOST_BITMAP = 16 * 1024 * 1024;
const DIRECTORY_INDEX = "$I30";

/**
 * Takes the clusters of a metadata image in the order in which they are written; those that come
 * again replace the first.
 */
export interface ClusterSink {
  /**
   * Whole clusters from `lcn` on, but for the one at the device's end. The array is used again
   * after the call has settled.
   */
  put(lcn: number, bytes: Uint8Array): void | Promise<void>;
  /** Leads the sink's position to `lcn`, where nothing has to follow. */
  seek?(lcn: number): void | Promise<void>;
}

export interface SaveMetadataOptions extends MetadataWalkOptions {
  /** Leave times as they are. */
  readonly preserveTimestamps?: boolean;
  /** Leave times in index blocks that are not in use: what the native tool does when it clones to a file. */
  readonly listedOnly?: boolean;
  /**
   * Clusters that $Bitmap marks and nothing owns, to be saved too, as they are. Where there are none, a gap tells
   * that they were looked for.
   */
  readonly extra?: BlockSet | null;
  /** Bytes of the device, where that is not the source's size. */
  readonly deviceSize?: number;
  /** Called with the clusters handed over so far. */
  readonly onClusters?: (clusters: number) => void;
}

/**
 * Hands everything that is metadata to `sink`, wiped, in the native tool's order, and the piece after the last cluster
 * at the end. Returns what was wiped. Throws NtfsError, IoError, AbortError.
 */
export async function saveMetadata(
  parts: NtfsParts,
  sink: ClusterSink,
  options: SaveMetadataOptions = {},
): Promise<MetadataCounts> {
  const saver = new Saver(parts, sink, options);
  try {
    await walkMetadata(parts, saver, options);
    await saver.end();
    return saver.counts();
  } finally {
    saver.close();
  }
}

class Saver implements MetadataVisitor {
  private readonly parts: NtfsParts;
  private readonly sink: ClusterSink;
  private readonly options: SaveMetadataOptions;
  private readonly slot: Slot;
  private readonly wipe: WipeCounters;
  private readonly mirror: WipeCounters;
  private readonly deviceSize: number;
  private files = 0;
  /** Cluster after the last one handed over. */
  private next = 0;
  private done = 0;

  constructor(parts: NtfsParts, sink: ClusterSink, options: SaveMetadataOptions) {
    this.parts = parts;
    this.sink = sink;
    this.options = options;
    this.deviceSize = options.deviceSize ?? parts.source.size;
    const { clusterSize, recordSize, indexBlockSize } = parts.boot;
    const unit = Math.max(clusterSize, recordSize, indexBlockSize);
    const kernel = Kernel.get();
    this.slot = kernel.take(Math.max(Math.floor(PIECE_BYTES / unit), 1) * unit);
    this.wipe = new WipeCounters();
    this.mirror = new WipeCounters();
  }

  close(): void {
    this.mirror.close();
    this.wipe.close();
    Kernel.get().give(this.slot);
  }

  counts(): MetadataCounts {
    return this.wipe.counts(this.parts.mft.records, this.mirror);
  }

  count(): void {}

  async raw(lcn: number, clusters: number): Promise<void> {
    const { clusterSize } = this.parts.boot;
    const most = Math.floor(this.slot.bytes.length / clusterSize);
    for (let done = 0; done < clusters; ) {
      const n = Math.min(most, clusters - done);
      const piece = this.slot.bytes.subarray(0, n * clusterSize);
      await this.read(piece, (lcn + done) * clusterSize);
      await this.put(lcn + done, piece);
      done += n;
    }
  }

  again(lcn: number): Promise<void> | void {
    if (lcn + 1 !== this.next) return this.raw(lcn, 1);
  }

  async records(runs: Runs): Promise<void> {
    const { recordSize } = this.parts.boot;
    const wipe = this.files++ === 0 ? this.wipe : this.mirror;
    const keepTimes = this.options.preserveTimestamps === true;
    await this.pieces(runs, recordSize, (piece, at) => {
      const count = Math.floor(piece.length / recordSize);
      wipe.records(this.slot.at, recordSize, count, at / recordSize, keepTimes);
      // Less than a record: nothing that belongs to anybody.
      piece.fill(0, count * recordSize);
    });
  }

  async index(inode: Inode, runs: Runs): Promise<void> {
    const blockSize = this.parts.boot.indexBlockSize;
    const { preserveTimestamps, listedOnly } = this.options;
    if (preserveTimestamps === true) return this.pieces(runs, 1, () => {});
    const bitmap = await readBitmap(this.parts, inode);
    const kernel = Kernel.get();
    const bits = kernel.take(Math.ceil(this.slot.bytes.length / blockSize / 8) + 1);
    try {
      await this.pieces(runs, blockSize, (piece, at) => {
        const count = Math.floor(piece.length / blockSize);
        const first = at / blockSize;
        const from = Math.floor(first / 8);
        const part = bitmap.subarray(from, from + bits.bytes.length);
        bits.bytes.set(part);
        this.wipe.index(
          this.slot.at,
          blockSize,
          count,
          { at: bits.at, bits: part.length * 8, first: first % 8 },
          listedOnly === true,
        );
      });
    } finally {
      kernel.give(bits);
    }
  }

  /** What comes after all files: clusters that nobody owns, and the piece with the backup boot sector. */
  async end(): Promise<void> {
    const { extra } = this.options;
    const { clusters, clusterSize } = this.parts.boot;
    if (extra !== undefined && extra !== null) {
      await this.seek(0);
      const list = new ExtentList();
      for (let from = 0; from < extra.limit; ) {
        list.clear();
        from = extra.runs(from, extra.limit, list, 4096);
        for (let i = 0; i < list.count; i++) await this.raw(list.start(i), list.end(i) - list.start(i));
      }
      await this.seek(0);
    }
    const at = clusters * clusterSize;
    const tail = this.slot.bytes.subarray(0, Math.max(0, Math.min(clusterSize, this.deviceSize - at)));
    await this.read(tail, at);
    await this.put(clusters, tail);
    this.options.onClusters?.(this.done);
  }

  private async seek(lcn: number): Promise<void> {
    const r = this.sink.seek?.(lcn);
    if (r instanceof Promise) await r;
    this.next = lcn;
  }

  /**
   * Reads what `runs` map in pieces of whole units (bytes; the last may be less) from their start on, lets `change`
   * change each and hands it over. `at`: byte of the attribute.
   */
  private async pieces(
    runs: Runs,
    unit: number,
    change: (piece: Uint8Array, at: number) => void,
  ): Promise<void> {
    if (runs.length === 0) return;
    const { source, boot } = this.parts;
    const { clusterSize } = boot;
    const step = Math.max(unit, clusterSize);
    const most = Math.floor(this.slot.bytes.length / step) * step;
    const size = (runs[runs.length - RUN] + runs[runs.length - 1]) * clusterSize;
    for (let at = 0; at < size; ) {
      const i = runOf(runs, Math.floor(at / clusterSize));
      const end = (runs[i] + runs[i + 2]) * clusterSize;
      // Whole units of a hole are nothing to be kept.
      if (runs[i + 1] === HOLE_LCN && end - at >= step) {
        at += Math.floor((end - at) / step) * step;
        continue;
      }
      const piece = this.slot.bytes.subarray(0, Math.min(most, size - at));
      const r = readRuns(source, clusterSize, runs, piece, at, "NTFS metadata");
      if (r instanceof Promise) await r;
      change(piece, at);
      await this.putRuns(runs, piece, at);
      at += piece.length;
    }
  }

  /** Hands over bytes of an attribute that begin at its byte `at`, each run to its place. */
  private async putRuns(runs: Runs, piece: Uint8Array, at: number): Promise<void> {
    const { clusterSize } = this.parts.boot;
    let vcn = at / clusterSize;
    const last = vcn + piece.length / clusterSize;
    for (let i = runOf(runs, vcn); vcn < last; i += RUN) {
      const n = Math.min(last, runs[i] + runs[i + 2]) - vcn;
      const from = vcn * clusterSize - at;
      if (runs[i + 1] !== HOLE_LCN)
        await this.put(runs[i + 1] + vcn - runs[i], piece.subarray(from, from + n * clusterSize));
      vcn += n;
    }
  }

  private async put(lcn: number, bytes: Uint8Array): Promise<void> {
    const r = this.sink.put(lcn, bytes);
    if (r instanceof Promise) await r;
    const n = Math.max(1, Math.ceil(bytes.length / this.parts.boot.clusterSize));
    this.next = lcn + n;
    this.done += n;
    this.options.onClusters?.(this.done);
  }

  private async read(into: Uint8Array, at: number): Promise<void> {
    const { source } = this.parts;
    const r = into.length > 0 ? source.read(into, at) : 0;
    const n = r instanceof Promise ? await r : r;
    if (n < into.length) throw new ReadError("ESHORT", `${source.label}: ends at byte ${at + n}`, at + n);
  }
}

/** Which blocks of a directory's index are in use, one bit each; empty where that cannot be read. */
async function readBitmap(parts: NtfsParts, inode: Inode): Promise<Uint8Array> {
  const stream = openStream(parts, inode, AT.bitmap, DIRECTORY_INDEX);
  if (stream === null) return new Uint8Array(0);
  const bytes = new Uint8Array(Math.min(stream.size, MOST_BITMAP));
  const r = stream.read(bytes, 0);
  if (r instanceof Promise) await r;
  return bytes;
}
