import { DATA, HOLE, MapRuns } from "../../bytes/runs.ts";
import { ReadError } from "../../errors.ts";
import type { InfoField } from "../../fs/volume.ts";
import { readZeroFilled, type Source } from "../../io/source.ts";
import { Kernel } from "../../kernel/kernel.ts";
import type { OpenedImage } from "../format.ts";
import { type ImageHeader, parseHeader, volumeEnd } from "./header.ts";
import { ImageIndex, LARGE_CLUSTER, type RunWindow } from "./image-index.ts";
import { HEADER_BYTES } from "./layout.ts";
import type { RunIndex } from "./run-index.ts";

/** Runs in one batch of a map. */
const BATCH = 4096;
/** Image bytes read at a time to take small clusters out of. */
const PIECE_BYTES = 256 * 1024;

/**
 * Opens a special image of ntfsclone as the volume with its backup boot sector: what the image stores at its own place,
 * holes elsewhere. The commands are followed once, when something is first read, and parts of them again where an image has more
 * than `mostRuns` (default: a million). Closing leaves `file` open. Throws FormatError, UnsupportedError.
 */
export async function openNtfscloneImage(file: Source, mostRuns?: number): Promise<OpenedImage> {
  const head = await readZeroFilled(file, 0, Math.min(HEADER_BYTES, file.size));
  return new NtfscloneImage(file, parseHeader(head), mostRuns);
}

class NtfscloneImage implements OpenedImage {
  readonly format = "ntfsclone";
  readonly size: number;
  readonly label: string;
  private readonly file: Source;
  private readonly header: ImageHeader;
  private readonly mostRuns: number | undefined;
  private index: ImageIndex | Promise<ImageIndex> | null = null;

  constructor(file: Source, header: ImageHeader, mostRuns: number | undefined) {
    this.file = file;
    this.header = header;
    this.mostRuns = mostRuns;
    this.size = volumeEnd(header);
    this.label = file.label;
  }

  info(): InfoField[] {
    const h = this.header;
    return [
      { key: "virtualSize", label: "virtual size", value: this.size, unit: "bytes" },
      { key: "formatVersion", label: "format version", value: `${h.major}.${h.minor}` },
      { key: "clusterSize", label: "cluster size", value: h.clusterSize, unit: "bytes" },
      { key: "volumeSize", label: "volume size", value: h.clusters * h.clusterSize, unit: "bytes" },
      { key: "deviceSize", label: "device size", value: h.deviceSize, unit: "bytes" },
      { key: "inUse", label: "in use", value: Math.max(h.inUse, 0) * h.clusterSize, unit: "bytes" },
    ];
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const length = Math.max(0, Math.min(into.length, this.size - at));
    if (length === 0) return 0;
    const part = length === into.length ? into : into.subarray(0, length);
    const window = this.window(at);
    if (!(window instanceof Promise) && at + length <= window.to * this.header.clusterSize)
      return this.readFrom(window.index, part, at);
    return this.readWindows(window, part, at);
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    const end = Math.min(to, this.size);
    const window = this.window(from);
    if (window instanceof Promise) return window.then((w) => this.mapOf(w, from, end));
    return this.mapOf(window, from, end);
  }

  close(): void {}

  /** The runs around byte `at`. */
  private window(at: number): RunWindow | Promise<RunWindow> {
    const lcn = Math.floor(at / this.header.clusterSize);
    const index = this.built();
    return index instanceof Promise ? index.then((i) => i.at(lcn)) : index.at(lcn);
  }

  /** Fills `into` from byte `at` on, window by window. */
  private async readWindows(
    window: RunWindow | Promise<RunWindow>,
    into: Uint8Array,
    at: number,
  ): Promise<number> {
    for (let done = 0; done < into.length; ) {
      const w = done === 0 ? window : this.window(at + done);
      const { index, to } = w instanceof Promise ? await w : w;
      const part = into.subarray(done, Math.min(into.length, to * this.header.clusterSize - at));
      const r = this.readFrom(index, part, at + done);
      if (r instanceof Promise) await r;
      done += part.length;
    }
    return into.length;
  }

  private built(): ImageIndex | Promise<ImageIndex> {
    if (this.index === null) {
      const building = ImageIndex.build(this.file, this.header, this.mostRuns);
      this.index = building;
      building.then(
        (index) => {
          this.index = index;
        },
        () => {},
      );
    }
    return this.index;
  }

  private mapOf({ index, to: until }: RunWindow, from: number, end: number): MapRuns {
    const { clusterSize } = this.header;
    const to = Math.min(end, until * clusterSize);
    const runs = new MapRuns(from);
    for (let i = index.find(Math.floor(from / clusterSize)); runs.end < to && runs.count < BATCH; i++) {
      const start = i < index.count ? Math.max(index.lcn[i] * clusterSize, runs.end) : to;
      runs.push(Math.min(start, to) - runs.end, HOLE);
      if (i < index.count) {
        const end = (index.lcn[i] + index.clusters[i]) * clusterSize;
        runs.push(Math.min(end, to) - runs.end, DATA);
      }
    }
    return runs;
  }

  private readFrom(index: RunIndex, into: Uint8Array, at: number): number | Promise<number> {
    const { clusterSize } = this.header;
    let pending: Promise<void> | null = null;
    let done = 0;
    for (let i = index.find(Math.floor(at / clusterSize)); i < index.count; i++) {
      const start = index.lcn[i] * clusterSize;
      if (start >= at + into.length) break;
      const from = Math.max(start - at, 0);
      const to = Math.min(start + index.clusters[i] * clusterSize - at, into.length);
      into.fill(0, done, from);
      done = to;
      const part = into.subarray(from, to);
      const offset = at + from - start;
      if (pending !== null) pending = pending.then(() => this.take(part, index.at[i], offset, 0));
      else {
        const r = this.take(part, index.at[i], offset, 0);
        if (r instanceof Promise) pending = r;
      }
    }
    into.fill(0, done);
    return pending === null ? into.length : pending.then(() => into.length);
  }

  /**
   * Fills `into` with the data of a run whose commands begin at byte `run` of the image: from byte `offset` of the run on,
   * `done` bytes of it are there already.
   */
  private take(into: Uint8Array, run: number, offset: number, done: number): void | Promise<void> {
    const { clusterSize } = this.header;
    while (done < into.length) {
      const cluster = Math.floor((offset + done) / clusterSize);
      const within = (offset + done) % clusterSize;
      const from = run + cluster * (clusterSize + 1) + 1 + within;
      const large = clusterSize >= LARGE_CLUSTER;
      const clusters = large ? 1 : Math.floor(PIECE_BYTES / (clusterSize + 1));
      const part = into.subarray(done, done + Math.min(clusters * clusterSize - within, into.length - done));
      const r = large ? this.readWhole(part, from) : this.unpack(part, from, within);
      done += part.length;
      if (r instanceof Promise) {
        const next = done;
        return r.then(() => this.take(into, run, offset, next));
      }
    }
  }

  private readWhole(into: Uint8Array, from: number): void | Promise<void> {
    const check = (n: number): void => {
      if (n !== into.length)
        throw new ReadError("ESHORT", `${this.label}: ends at byte ${from + n}`, from + n);
    };
    const r = this.file.read(into, from);
    return r instanceof Promise ? r.then(check) : check(r);
  }

  /** Fills `into` from byte `from` of the image, which is byte `within` of a cluster, leaving commands out. */
  private unpack(into: Uint8Array, from: number, within: number): void | Promise<void> {
    const { clusterSize } = this.header;
    const length = into.length + Math.ceil((within + into.length) / clusterSize) - 1;
    const kernel = Kernel.get();
    const slot = kernel.take(length);
    const finish = (): void => {
      // In place where `into` is elsewhere; both ways the data moves towards lower addresses or to another area.
      const here = into.buffer === slot.bytes.buffer;
      const to = here ? into.byteOffset : slot.at;
      const { bytes } = slot;
      const first = Math.min(clusterSize - within, into.length);
      if (here) into.set(bytes.subarray(0, first));
      const whole = Math.floor((into.length - first) / clusterSize);
      kernel.raw.dropCommands(to + first, slot.at + first + 1, clusterSize, whole);
      const done = first + whole * clusterSize;
      const rest = into.length - done;
      if (rest > 0) kernel.raw.dropCommands(to + done, slot.at + length - rest, rest, 1);
      if (!here) into.set(bytes.subarray(0, into.length));
    };
    let r: void | Promise<void>;
    try {
      r = this.readWhole(slot.bytes, from);
      if (!(r instanceof Promise)) finish();
    } finally {
      if (!(r! instanceof Promise)) kernel.give(slot);
    }
    if (r instanceof Promise) return r.then(finish).finally(() => kernel.give(slot));
  }
}
