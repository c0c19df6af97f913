import { u64be } from "../../bytes/endian.ts";
import { FormatError } from "../../errors.ts";
import { bytesOfWords } from "../../image/qcow2/edit/words.ts";
import type { Qcow2Header } from "../../image/qcow2/header.ts";
import { OFFSET_HIGH, OFFSET_LOW, SUBCLUSTERS } from "../../image/qcow2/layout.ts";
import { type SliceAt, Tables } from "../../image/qcow2/tables.ts";
import { readFully, type Source } from "../../io/source.ts";
import type { Target } from "../../io/target.ts";
import type { RequestSink } from "./sink.ts";

/** A new QCOW2 image of which every cluster has its place already. */
export interface MappedImage {
  readonly header: Qcow2Header;
  /** The image as it was made, to look its tables up. */
  readonly source: Source;
  /** Size of the image file, bytes. */
  readonly size: number;
}

/** Writes into the places of an image that was allocated ahead; `disk`: the data file, where there is one. */
export function mappedSink(image: MappedImage, target: Target, disk: Target = target): RequestSink {
  const places = new MappedPlaces(image, target, disk);
  return { write: (bytes, at) => places.store(bytes, at), zero: null, finish: () => image.size };
}

/** Words of an extended L2 entry that hold the subclusters' bits: those that read as zeros, those that are stored. */
const ZEROS = 2;
const STORED = 3;

/**
 * The places of an image that was allocated ahead. Where L2 entries are extended, subclusters are marked as they come.
 */
export class MappedPlaces {
  private readonly header: Qcow2Header;
  private readonly target: Target;
  private readonly disk: Target;
  private readonly source: Source;
  private readonly tables: Tables;
  private readonly slice: SliceAt = { words: null, at: 0, index: 0, entries: 0 };

  /** `disk`: the data file, where there is one. */
  constructor(image: MappedImage, target: Target, disk: Target) {
    this.header = image.header;
    this.target = target;
    this.disk = disk;
    this.source = image.source;
    this.tables = new Tables(image.source, image.header);
  }

  /** Writes bytes; the subclusters they touch are stored then. */
  store(bytes: Uint8Array, at: number): Promise<void> {
    return this.eachRun(at, at + bytes.length, async (from, to, host) => {
      const r = this.disk.write(bytes.subarray(from - at, to - at), host);
      if (r instanceof Promise) await r;
      await this.mark(from, to, STORED);
    });
  }

  /** Makes whole subclusters read as zeros; whole clusters give up their places, as with qemu-img. */
  zero(from: number, to: number): Promise<void> {
    const { clusterSize, size } = this.header;
    return this.eachRun(from, to, async (from, to, host) => {
      const first = Math.ceil(from / clusterSize);
      const end = to === size ? Math.ceil(to / clusterSize) : Math.floor(to / clusterSize);
      await this.mark(from, to, ZEROS, first, end);
      if (first < end && !this.header.external)
        await this.release((host + (first * clusterSize - from)) / clusterSize, end - first);
    });
  }

  /** Sets the refcounts of `n` clusters of the file, which are 1, to 0. */
  private async release(first: number, n: number): Promise<void> {
    const { header, target } = this;
    const width = 2 ** header.refcountOrder;
    const perBlock = (header.clusterSize * 8) / width;
    for (let c = first; c < first + n; ) {
      const k = Math.floor(c / perBlock);
      const from = (c % perBlock) * width;
      const to = Math.min(perBlock, first + n - k * perBlock) * width;
      const entry = new Uint8Array(8);
      await readFully(this.source, entry, header.tableOffset + 8 * k);
      const bytes = new Uint8Array(Math.ceil(to / 8) - Math.floor(from / 8));
      const at = u64be(entry, 0) + Math.floor(from / 8);
      // Refcounts narrower than a byte share it with others.
      if (width < 8) {
        await readFully(this.source, bytes, at);
        for (let bit = from % 8; bit < (from % 8) + to - from; bit++) bytes[bit >>> 3] &= ~(1 << (bit & 7));
      }
      const r = target.write(bytes, at);
      if (r instanceof Promise) await r;
      c = k * perBlock + to / width;
    }
  }

  /** Calls `run` for the runs of [at, end) that lie in one piece of the file, with the first byte's place in it. */
  private async eachRun(
    at: number,
    end: number,
    run: (from: number, to: number, host: number) => Promise<void>,
  ): Promise<void> {
    const { header, slice } = this;
    const cs = header.clusterSize;
    const width = header.extendedL2 ? 4 : 2;
    for (let from = at; from < end; ) {
      const wait = this.tables.entriesAt(from, slice);
      if (wait !== null) {
        await wait;
        continue;
      }
      const { words, index } = slice;
      if (words === null) throw new FormatError("qcow2 L1 table", header.l1Offset, "a place is missing");
      const place = (i: number): number =>
        (words[width * i] & OFFSET_HIGH) * 0x100000000 + ((words[width * i + 1] & OFFSET_LOW) >>> 0);
      const cluster = from - (from % cs);
      const first = place(index);
      let n = 1;
      while (index + n < slice.entries && cluster + n * cs < end && place(index + n) === first + n * cs) n++;
      const to = Math.min(end, cluster + n * cs);
      await run(from, to, first + (from - cluster));
      from = to;
    }
  }

  /**
   * Marks the subclusters of [from, to), which lies in the slice at hand; the guest's clusters [first, end) lose their
   * places.
   */
  private async mark(
    from: number,
    to: number,
    as: typeof ZEROS | typeof STORED,
    first = 0,
    end = 0,
  ): Promise<void> {
    const { header, slice } = this;
    if (!header.extendedL2) return;
    const cs = header.clusterSize;
    const sub = cs / SUBCLUSTERS;
    const words = slice.words!;
    const other = as === STORED ? ZEROS : STORED;
    const cluster = from - (from % cs);
    const n = Math.ceil((to - cluster) / cs);
    let changed = false;
    for (let i = 0; i < n; i++) {
      const start = cluster + i * cs;
      const a = Math.max(0, Math.floor((from - start) / sub));
      const b = Math.min(SUBCLUSTERS, Math.ceil((to - start) / sub));
      const bits = b - a === SUBCLUSTERS ? 0xffffffff : ((2 ** (b - a) - 1) * 2 ** a) >>> 0;
      const p = 4 * (slice.index + i);
      if (start >= first * cs && start < end * cs) {
        words.fill(0, p, p + 4);
        words[p + ZEROS] = 0xffffffff;
        changed = true;
        continue;
      }
      if ((words[p + as] | bits) >>> 0 === words[p + as] && (words[p + other] & bits) === 0) continue;
      words[p + as] = (words[p + as] | bits) >>> 0;
      words[p + other] = (words[p + other] & ~bits) >>> 0;
      changed = true;
    }
    if (!changed) return;
    const entries = bytesOfWords(words.subarray(4 * slice.index, 4 * (slice.index + n)));
    const r = this.target.write(entries, slice.at + 16 * slice.index);
    if (r instanceof Promise) await r;
  }
}
