import { turnWords } from "../../bytes/turn-words.ts";
import { FormatError, IoError } from "../../errors.ts";
import type { Source } from "../../io/source.ts";
import type { Qcow2Header } from "./header.ts";
import {
  COMPRESSED_HIGH,
  COPIED_HIGH,
  L1_RESERVED_HIGH,
  L1_RESERVED_LOW,
  L2_RESERVED_HIGH,
  L2_RESERVED_LOW,
  L2_SLICE_BYTES,
  OFFSET_HIGH,
  OFFSET_LOW,
  SUBCLUSTERS,
  ZERO_LOW,
} from "./layout.ts";
import { longRun } from "./run-length.ts";

/** Slices of L2 tables that are kept. */
const SLICES = 64;

export const UNALLOCATED = 0;
export const ZEROED = 1;
export const STORED = 2;
export const COMPRESSED = 3;

/** What `locate` found: a run of guest bytes that share a state. */
export interface Located {
  state: typeof UNALLOCATED | typeof ZEROED | typeof STORED | typeof COMPRESSED;
  /** Guest bytes from the asked-for offset on. */
  length: number;
  /** Byte offset of the run's first byte in the data file; of the stream, where compressed. -1 otherwise. */
  host: number;
  /** Bytes the compressed stream has at most. */
  compressed: number;
}

/** What `entriesAt` found. */
export interface SliceAt {
  /** Entries as words, high first: pairs, or two pairs an entry where L2 entries are extended. */
  words: Uint32Array | null;
  /** Byte offset of the slice in the image. */
  at: number;
  /** Entry of the asked-for cluster. */
  index: number;
  /** Entries of a slice. */
  entries: number;
}

/** Tables that are being changed in memory: where `Tables` looks instead of the file. */
export interface LiveTables {
  /** Entries as pairs of words, high first. */
  readonly l1: Uint32Array;
  /** All words of the L2 table of L1 entry `i`, which is not empty. */
  table(i: number): Uint32Array;
}

interface Slice {
  /** Entries as pairs of words, high first. */
  readonly words: Uint32Array;
  /** Byte offset of the slice in the image. */
  readonly at: number;
}

/** Told of a structure at byte `at` that lies (partly) beyond the end of its file, and reads as zeros there. */
export type OnTruncated = (structure: string, at: number) => void;

/** Reads big-endian words in bulk, into `spare` where that is as long. Answers as the source does. */
function readWords(
  source: Source,
  structure: string,
  at: number,
  bytes: number,
  onTruncated: OnTruncated | undefined,
  spare: Uint32Array | null = null,
): Uint32Array | Promise<Uint32Array> {
  const there = Math.max(0, Math.min(bytes, source.size - at));
  if (there < bytes) {
    if (onTruncated === undefined)
      throw new FormatError(
        structure,
        at,
        `${bytes} bytes, but the file ends at 0x${source.size.toString(16)}`,
      );
    onTruncated(structure, at);
  }
  const words = spare?.byteLength === bytes ? spare : new Uint32Array(bytes / 4);
  const b = new Uint8Array(words.buffer);
  b.fill(0, there);
  const swap = (n: number) => {
    if (n !== there) throw new IoError("ESHORT", `${source.label}: ends at byte ${at + n}`, at + n);
    turnWords(words);
    return words;
  };
  if (there === 0) return swap(0);
  const r = source.read(there < bytes ? b.subarray(0, there) : b, at);
  return r instanceof Promise ? r.then(swap) : swap(r);
}

/**
 * The L1 and L2 tables of an image: finds where guest bytes are. Holds the L1 table and a bounded number of
 * L2 slices.
 */
export class Tables {
  /** Result of the last `locate` that returned nothing. */
  readonly run: Located = { state: UNALLOCATED, length: 0, host: -1, compressed: 0 };
  /** Size of the file that holds the data clusters, where known: offsets beyond are refused. */
  dataSize: number;
  private readonly onTruncated: OnTruncated | undefined;
  private readonly source: Source;
  private readonly header: Qcow2Header;
  private readonly clusterSize: number;
  private readonly entryWords: number;
  private readonly entriesPerSlice: number;
  private readonly entriesPerTable: number;
  private l1: Uint32Array | null = null;
  private readonly slices = new Map<number, Slice>();
  private lastNumber = -1;
  private last: Slice | null = null;
  /** Words of a slice that was let go, for the next one. */
  private spare: Uint32Array | null = null;

  private readonly live: LiveTables | null;

  /**
   * `live`: tables to be used instead of those in the file; call `forget` when its arrays are replaced. Without
   * `onTruncated`, what lies beyond the end of the file is refused.
   */
  constructor(
    source: Source,
    header: Qcow2Header,
    live: LiveTables | null = null,
    onTruncated?: OnTruncated,
  ) {
    this.source = source;
    this.onTruncated = onTruncated;
    this.live = live;
    this.header = header;
    this.dataSize = source.size;
    this.clusterSize = header.clusterSize;
    this.entryWords = header.extendedL2 ? 4 : 2;
    this.entriesPerTable = header.clusterSize / (this.entryWords * 4);
    this.entriesPerSlice = Math.min(header.clusterSize, L2_SLICE_BYTES) / (this.entryWords * 4);
  }

  /**
   * Finds the run of guest bytes that starts at `at` and ends at `end` at most, into `run`. Returns a promise
   * where a table had to be read asynchronously: call again when it is settled. Throws FormatError for
   * damaged entries.
   */
  locate(at: number, end: number): Promise<void> | null {
    if (this.l1 === null) {
      const r = this.loadL1();
      if (r !== null) return r;
    }
    const l1 = this.l1!;
    const cs = this.clusterSize;
    const cluster = Math.floor(at / cs);
    const perTable = this.entriesPerTable;
    let i = Math.floor(cluster / perTable);
    const high = l1[2 * i];
    const low = l1[2 * i + 1];
    const { run } = this;
    if ((high & OFFSET_HIGH) === 0 && (low & OFFSET_LOW) === 0) {
      this.checkL1(i, high, low);
      // Whole tables that are not there: one step.
      const last = Math.min(l1.length / 2, Math.ceil(end / cs / perTable));
      do i++;
      while (i < last && (l1[2 * i] | l1[2 * i + 1]) === 0);
      run.state = UNALLOCATED;
      run.host = -1;
      run.length = Math.min(end, i * perTable * cs) - at;
      return null;
    }
    const number = Math.floor(cluster / this.entriesPerSlice);
    if (number !== this.lastNumber) {
      const r = this.loadSlice(number, i, high, low);
      if (r !== null) return r;
    }
    if (this.entryWords === 2) this.standard(at, end, cluster);
    else this.extended(at, end, cluster);
    return null;
  }

  /**
   * The words of the L2 entries around guest byte `at`, as far as qemu looks at once (its slices are these). Null where
   * the L1 entry is empty; `index` is then meaningless. Promise: call again when it is settled. Throws FormatError.
   */
  entriesAt(at: number, found: SliceAt): Promise<void> | null {
    if (this.l1 === null) {
      const r = this.loadL1();
      if (r !== null) return r;
    }
    const l1 = this.l1!;
    const cluster = Math.floor(at / this.clusterSize);
    const i = Math.floor(cluster / this.entriesPerTable);
    found.index = cluster % this.entriesPerSlice;
    found.entries = this.entriesPerSlice;
    found.words = null;
    const high = l1[2 * i];
    const low = l1[2 * i + 1];
    if ((high & OFFSET_HIGH) === 0 && (low & OFFSET_LOW) === 0) {
      this.checkL1(i, high, low);
      return null;
    }
    const number = Math.floor(cluster / this.entriesPerSlice);
    if (number !== this.lastNumber) {
      const r = this.loadSlice(number, i, high, low);
      if (r !== null) return r;
    }
    found.words = this.last!.words;
    found.at = this.last!.at;
    return null;
  }

  /**
   * The end of the guest bytes from `at` on (up to `end`) that no L2 table covers; `at` where one
   * does, or none is known.
   */
  emptyUntil(at: number, end: number): number {
    const { l1 } = this;
    if (l1 === null) return at;
    const reach = this.entriesPerTable * this.clusterSize;
    const first = Math.floor(at / reach);
    const last = Math.min(l1.length / 2, Math.ceil(end / reach));
    let i = first;
    while (i < last && (l1[2 * i] | l1[2 * i + 1]) === 0) i++;
    return i === first ? at : Math.min(end, i * reach);
  }

  /** Forgets all tables: they are read again, or asked of the live ones. */
  forget(): void {
    this.l1 = null;
    this.slices.clear();
    this.lastNumber = -1;
    this.last = null;
  }

  private loadL1(): Promise<void> | null {
    if (this.live !== null) {
      this.l1 = this.live.l1;
      return null;
    }
    const { header } = this;
    const needed = Math.ceil(header.size / header.clusterSize / this.entriesPerTable);
    const there = Math.min(needed, header.l1Entries);
    // A snapshot's table may end before the disk does.
    const whole = (words: Uint32Array) => {
      this.refuseCrowd(words);
      this.l1 = words;
      if (there < needed) {
        this.l1 = new Uint32Array(2 * needed);
        this.l1.set(words);
      }
    };
    const r = readWords(this.source, "qcow2 L1 table", header.l1Offset, there * 8, this.onTruncated);
    if (r instanceof Promise) return r.then(whole);
    whole(r);
    return null;
  }

  /** More L2 tables than the file has clusters: some are named again and again, to keep a reader busy. */
  private refuseCrowd(l1: Uint32Array): void {
    const { size } = this.source;
    let tables = 0;
    for (let i = 0; i < l1.length; i += 2) {
      const at = (l1[i] & OFFSET_HIGH) * 0x100000000 + ((l1[i + 1] & OFFSET_LOW) >>> 0);
      if (at !== 0 && at < size) tables++;
    }
    if (tables > Math.ceil(size / this.clusterSize))
      throw new FormatError(
        "qcow2 L1 table",
        this.header.l1Offset,
        `${tables} L2 tables in a file of ${size} bytes: tables overlap`,
      );
  }

  private checkL1(i: number, high: number, low: number): void {
    if (high & L1_RESERVED_HIGH || low & L1_RESERVED_LOW)
      throw new FormatError("qcow2 L1 entry", this.header.l1Offset + i * 8, "reserved bits set");
  }

  private loadSlice(number: number, i: number, high: number, low: number): Promise<void> | null {
    const kept = this.slices.get(number);
    if (kept !== undefined) {
      // Most recently used goes last.
      this.slices.delete(number);
      this.keep(number, kept);
      return null;
    }
    this.checkL1(i, high, low);
    const table = (high & OFFSET_HIGH) * 0x100000000 + ((low & OFFSET_LOW) >>> 0);
    if (table % this.clusterSize !== 0 || table > Number.MAX_SAFE_INTEGER)
      throw new FormatError(
        "qcow2 L1 entry",
        this.header.l1Offset + i * 8,
        `L2 table at 0x${table.toString(16)} is not aligned`,
      );
    const bytes = this.entriesPerSlice * this.entryWords * 4;
    const from = (number % (this.entriesPerTable / this.entriesPerSlice)) * bytes;
    const at = table + from;
    if (this.live !== null) {
      // Asking can drop tables: nothing of theirs may be kept from before.
      const words = this.live.table(i).subarray(from / 4, (from + bytes) / 4);
      this.keep(number, { words, at });
      return null;
    }
    const { spare } = this;
    this.spare = null;
    const r = readWords(this.source, "qcow2 L2 table", at, bytes, this.onTruncated, spare);
    if (r instanceof Promise)
      return r.then((words) => {
        this.keep(number, { words, at });
      });
    this.keep(number, { words: r, at });
    return null;
  }

  private keep(number: number, slice: Slice): void {
    if (this.slices.size >= SLICES) {
      const oldest = this.slices.keys().next().value;
      if (oldest !== undefined) {
        if (this.live === null) this.spare = this.slices.get(oldest)!.words;
        this.slices.delete(oldest);
      }
    }
    this.slices.set(number, slice);
    this.lastNumber = number;
    this.last = slice;
  }

  private entryError(index: number, detail: string): FormatError {
    return new FormatError("qcow2 L2 entry", this.last!.at + index * this.entryWords * 4, detail);
  }

  /** Offset of a plain cluster, checked. */
  private offset(index: number, high: number, low: number): number {
    const offset = (high & OFFSET_HIGH) * 0x100000000 + ((low & OFFSET_LOW) >>> 0);
    if (offset % this.clusterSize !== 0 || offset > Number.MAX_SAFE_INTEGER)
      throw this.entryError(index, `cluster at 0x${offset.toString(16)} is not aligned`);
    return offset;
  }

  private checkEnd(index: number, offset: number): void {
    if (offset < this.dataSize) return;
    if (this.onTruncated !== undefined) this.onTruncated("qcow2 data cluster", offset);
    else this.refuseEnd(index, offset);
  }

  private refuseEnd(index: number, offset: number): void {
    if (offset >= this.dataSize)
      throw this.entryError(
        index,
        `cluster at 0x${offset.toString(16)}, but the file ends at 0x${this.dataSize.toString(16)}`,
      );
  }

  private standard(at: number, end: number, cluster: number): void {
    const { run, header } = this;
    const cs = this.clusterSize;
    const words = this.last!.words;
    const first = cluster % this.entriesPerSlice;
    const into = at - cluster * cs;
    const most = Math.min(this.entriesPerSlice, first + Math.ceil((into + end - at) / cs));
    const high = words[2 * first];
    const low = words[2 * first + 1];
    let n = first + 1;
    run.host = -1;
    if (high & COMPRESSED_HIGH) {
      run.state = COMPRESSED;
      this.compressed(first, high, low);
    } else {
      this.check(first, high, low);
      const empty = (high & OFFSET_HIGH) === 0 && (low & OFFSET_LOW) === 0;
      if (low & ZERO_LOW) {
        run.state = ZEROED;
        while (n < most && this.isZero(n, words)) n++;
      } else if (empty && !(header.external && high & COPIED_HIGH)) {
        run.state = UNALLOCATED;
        while (n < most && (words[2 * n] | words[2 * n + 1]) === 0) n++;
      } else {
        run.state = STORED;
        const offset = this.offset(first, high, low);
        // Neighbours in the file: the same flags (no reserved ones: see above), the next offset.
        n = first + longRun(words, first, most, cs);
        let nextHigh = words[2 * n - 2];
        let nextLow = words[2 * n - 1];
        for (; n < most; n++) {
          nextLow += cs;
          if (nextLow > 0xffffffff) {
            nextLow -= 0x100000000;
            nextHigh++;
          }
          if (words[2 * n] !== nextHigh || words[2 * n + 1] !== nextLow) break;
        }
        this.checkEnd(n - 1, offset + (n - 1 - first) * cs);
        run.host = offset + into;
      }
    }
    run.length = Math.min(end, at - into + (n - first) * cs) - at;
  }

  /** Refuses reserved bits, and zero clusters in version 2. */
  private check(index: number, high: number, low: number): void {
    if (high & L2_RESERVED_HIGH || low & L2_RESERVED_LOW) throw this.entryError(index, "reserved bits set");
    if (low & ZERO_LOW && this.header.version < 3)
      throw this.entryError(index, "zero cluster in a version 2 image");
  }

  private isZero(index: number, words: Uint32Array): boolean {
    const high = words[2 * index];
    const low = words[2 * index + 1];
    return (
      (low & ZERO_LOW) !== 0 &&
      ((high & (COMPRESSED_HIGH | L2_RESERVED_HIGH)) | (low & L2_RESERVED_LOW)) === 0
    );
  }

  private compressed(index: number, high: number, low: number): void {
    if (this.header.external) throw this.entryError(index, "compressed cluster in an image with a data file");
    const { run } = this;
    const offsetBits = 62 - (this.header.clusterBits - 8) - 32;
    const rest = high & 0x3fffffff;
    const offset = (rest & (2 ** offsetBits - 1)) * 0x100000000 + low;
    // Half a stream is no stream: this is never zeros.
    this.refuseEnd(index, offset);
    run.host = offset;
    run.compressed = Math.min(((rest >>> offsetBits) + 1) * 512 - (offset & 511), this.dataSize - offset);
  }

  /** Entries with subclusters: merges subclusters that share a state, across clusters. */
  private extended(at: number, end: number, cluster: number): void {
    const { run } = this;
    const cs = this.clusterSize;
    const sub = cs / SUBCLUSTERS;
    const words = this.last!.words;
    let index = cluster % this.entriesPerSlice;
    let start = cluster * cs;
    let expected = -1;
    let first = true;
    let to = at;
    run.host = -1;
    while (to < end && index < this.entriesPerSlice) {
      const high = words[4 * index];
      const low = words[4 * index + 1];
      const zeros = words[4 * index + 2];
      const used = words[4 * index + 3];
      if (high & COMPRESSED_HIGH) {
        if (zeros | used) throw this.entryError(index, "compressed cluster with subclusters");
        if (!first) break;
        run.state = COMPRESSED;
        this.compressed(index, high, low);
        to = Math.min(end, start + cs);
        break;
      }
      if (high & L2_RESERVED_HIGH || low & L2_RESERVED_LOW) throw this.entryError(index, "reserved bits set");
      if (zeros & used) throw this.entryError(index, "subclusters both stored and zero");
      const offset = this.offset(index, high, low);
      const held = offset !== 0 || (this.header.external && (high & COPIED_HIGH) !== 0);
      if (used !== 0) {
        if (!held) throw this.entryError(index, "stored subclusters without a cluster");
        this.checkEnd(index, offset + (31 - Math.clz32(used)) * sub);
      }
      for (let s = Math.floor((to - start) / sub); s < SUBCLUSTERS && to < end; s++) {
        const bit = (1 << s) >>> 0;
        const state = used & bit ? STORED : zeros & bit ? ZEROED : UNALLOCATED;
        const host = offset + (to - start);
        if (first) {
          run.state = state;
          if (state === STORED) run.host = host;
          first = false;
        } else if (state !== run.state || (state === STORED && host !== expected)) {
          run.length = to - at;
          return;
        }
        const step = Math.min(end, start + (s + 1) * sub) - to;
        expected = host + step;
        to += step;
      }
      index++;
      start += cs;
    }
    run.length = to - at;
  }
}
