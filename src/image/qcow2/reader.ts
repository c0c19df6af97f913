import { DATA, HOLE, MapRuns, ZERO } from "../../bytes/runs.ts";
import type { Codecs } from "../../codec/codecs.ts";
import { defaultCodecs } from "../../codec/default.ts";
import { FormatError, RefusedError, UnsupportedError, withNative } from "../../errors.ts";
import type { InfoField } from "../../fs/volume.ts";
import type { Gate } from "../../io/gate.ts";
import { inPieces } from "../../io/pieces.ts";
import type { Source } from "../../io/source.ts";
import type { OpenedImage } from "../format.ts";
import { type LayerRun, layerRun, type StatusRun, type StatusSource, statusOf } from "./block-status.ts";
import { HEADER_BYTES, parseHeader, type Qcow2Header } from "./header.ts";
import { qcow2Info } from "./info.ts";
import { COMPRESSION, CRYPT, H, LIMIT, MAX_CLUSTER_BITS, V2_HEADER_LENGTH } from "./layout.ts";
import { openNamed } from "./named.ts";
import { readSnapshots, type Snapshot } from "./snapshots.ts";
import { COMPRESSED, type OnTruncated, type SliceAt, STORED, Tables, UNALLOCATED, ZEROED } from "./tables.ts";

/** Runs after which `map` ends a batch. */
const BATCH = 8192;
/** Decompressed clusters kept, bytes; one is always kept. */
const KEPT_BYTES = 8 * 1024 * 1024;
/** Layers of a backing chain. */
const DEEPEST = 1000;

export interface OpenQcow2Options {
  /** For a check: see `parseHeader`. The image has no snapshots then. */
  readonly check?: boolean;
  /** Decompressors; those of `useCodecs` by default. */
  readonly codecs?: Codecs;
  /** Layers above this image: 0 for the one the person named. */
  readonly depth?: number;
  /**
   * Opens the disk of the backing file when it is first needed, instead of the gate; it stays open when the image is
   * closed.
   */
  readonly openBacking?: (header: Qcow2Header) => Promise<Source>;
  /** The disk of the backing file, open already: used instead of what the header names. Null: nothing lies below. */
  readonly backing?: Source | null;
  /** The data file, open already. */
  readonly data?: Source;
  /** Picks the snapshot to read instead of the disk as it is now; the size stays the disk's. */
  readonly snapshot?: (list: readonly Snapshot[]) => Snapshot;
  /**
   * Called where a table or data lies beyond the end of the file, which then reads as zeros. Without it such
   * reads throw FormatError.
   */
  readonly onTruncated?: OnTruncated;
}

/** An opened QCOW2 image: the disk inside it. */
export interface Qcow2Image extends OpenedImage, StatusSource {
  /**
   * The file that holds the data, where `status` is to ask the host about holes in it; null (the default) where not.
   * See `looksPreallocated`.
   */
  holes: Source | null;
  readonly header: Qcow2Header;
  readonly snapshots: readonly Snapshot[];
  /** Why the snapshot table cannot be read, or null. */
  readonly snapshotTrouble: FormatError | null;
  /** Opens the data file now, where there is one and it is not open yet; answers with the file that holds the data. */
  openData(): Promise<Source>;
  /** The run of this layer alone at guest byte `at` (up to `end`, bytes) into `run`; promise: call again. */
  layerStatus(at: number, end: number, run: LayerRun): Promise<void> | null;
  /** The end of the guest bytes from `at` on (up to `end`) that no L2 table covers; `at` itself where one does. */
  emptyUntil(at: number, end: number): number;
}

/**
 * Opens a QCOW2 image (version 2 or 3). Its backing file and data file are asked of `gate` when they are
 * first needed, so that an image can be looked at without them. Throws FormatError and UnsupportedError;
 * reads of damaged entries throw FormatError with the entry's offset, reads of encrypted data
 * UnsupportedError. Closing leaves `source` open.
 */
export async function openQcow2(
  source: Source,
  gate: Gate,
  options: OpenQcow2Options = {},
): Promise<Qcow2Image> {
  const depth = options.depth ?? 0;
  if (depth > DEEPEST)
    throw new RefusedError("EDEPTH", `${source.label}: more than ${DEEPEST} layers of backing files`);
  const head = new Uint8Array(V2_HEADER_LENGTH);
  const r = source.read(head, 0);
  const got = r instanceof Promise ? await r : r;
  const bits = got === head.length ? head[H.clusterBits + 3] : 0;
  const whole = Math.min(HEADER_BYTES, 2 ** Math.min(Math.max(bits, 12), MAX_CLUSTER_BITS));
  const { onTruncated } = options;
  const bytes = new Uint8Array(onTruncated === undefined ? Math.min(whole, source.size) : whole);
  const r2 = source.read(bytes, 0);
  const n = r2 instanceof Promise ? await r2 : r2;
  const header = parseHeader(onTruncated === undefined ? bytes.subarray(0, n) : bytes, {
    check: options.check,
  });
  let snapshots: Snapshot[] = [];
  let trouble: FormatError | null = null;
  if (header.snapshots > 0)
    try {
      snapshots = await readSnapshots(source, header, onTruncated);
    } catch (e) {
      // The disk is readable without its snapshots.
      if (!(e instanceof FormatError)) throw e;
      trouble = e;
    }
  const view = options.snapshot === undefined ? header : viewOf(header, options.snapshot(snapshots));
  return new Reader(source, gate, view, snapshots, trouble, options, depth);
}

/** An image whose tables are being changed in memory. */
export interface LiveQcow2Image extends Qcow2Image {
  /** Forgets what was decompressed, and the size of the data file: clusters have been used anew. */
  forget(): void;
}

/**
 * A reader over tables that are being changed in memory. `header` is as it will be; `source` holds the clusters. The
 * rest as `openQcow2`.
 */
export function readLiveTables(
  source: Source,
  gate: Gate,
  header: Qcow2Header,
  tables: Tables,
  options: OpenQcow2Options,
): LiveQcow2Image {
  return new Reader(source, gate, header, [], null, options, 0, tables);
}

/** The header with a snapshot's L1 table in place of the active one. */
function viewOf(header: Qcow2Header, snapshot: Snapshot): Qcow2Header {
  const { l1Offset, l1Entries } = snapshot;
  const entry = () => `snapshot ${snapshot.id} ("${snapshot.name}")`;
  if (l1Entries * 8 > LIMIT.l1)
    throw new FormatError(
      "qcow2 snapshot table",
      header.snapshotsOffset,
      `${entry()}: L1 table of ${l1Entries} entries`,
    );
  if (l1Offset % header.clusterSize !== 0 || l1Offset + l1Entries * 8 > Number.MAX_SAFE_INTEGER)
    throw new FormatError(
      "qcow2 snapshot table",
      header.snapshotsOffset,
      `${entry()}: L1 table at ${l1Offset}`,
    );
  return { ...header, l1Offset, l1Entries };
}

class Reader implements Qcow2Image {
  readonly format = "qcow2";
  readonly size: number;
  readonly label: string;
  readonly header: Qcow2Header;
  holes: Source | null = null;
  readonly statusAlignment: number;
  readonly snapshots: readonly Snapshot[];
  private readonly source: Source;
  private readonly gate: Gate;
  private readonly codecs: Codecs | null;
  private readonly depth: number;
  private readonly openBacking: OpenQcow2Options["openBacking"];
  readonly snapshotTrouble: FormatError | null;
  private readonly tables: Tables;
  private data: Source | null;
  private backing: Source | null = null;
  private backingOpen: boolean;
  private below: StatusSource["status"] | null = null;
  private readonly slice: SliceAt = { words: null, at: 0, index: 0, entries: 0 };
  private readonly layer: LayerRun = { state: HOLE, length: 0, host: -1, place: -1, compressed: false };
  private opening: Promise<void> | null = null;
  private readonly kept = new Map<number, Uint8Array>();

  constructor(
    source: Source,
    gate: Gate,
    header: Qcow2Header,
    snapshots: readonly Snapshot[],
    snapshotTrouble: FormatError | null,
    options: OpenQcow2Options,
    depth: number,
    tables?: Tables,
  ) {
    this.source = source;
    this.gate = gate;
    this.header = header;
    this.snapshots = snapshots;
    this.snapshotTrouble = snapshotTrouble;
    this.codecs = options.codecs ?? null;
    this.openBacking = options.openBacking;
    this.depth = depth;
    this.size = header.size;
    this.statusAlignment = header.clusterSize;
    this.label = source.label;
    this.tables = tables ?? new Tables(source, header, null, options.onTruncated);
    this.data = options.data ?? (header.external ? null : source);
    if (options.data !== undefined) this.tables.dataSize = options.data.size;
    this.backing = options.backing ?? null;
    this.backingOpen = options.backing !== undefined || header.backingFile === null;
  }

  forget(): void {
    this.kept.clear();
    this.tables.forget();
    if (this.data !== null) this.tables.dataSize = this.data.size;
  }

  info(): InfoField[] {
    return qcow2Info(this.header, this.snapshots, this.snapshotTrouble);
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const end = Math.min(this.size, at + into.length);
    return inPieces(Math.max(0, end - at), (done) => this.readRun(into, at + done, done, end));
  }

  /**
   * Reads the run at guest byte `at` (up to `end`) to into[done...]; returns its length, 0 to be called
   * again.
   */
  private readRun(into: Uint8Array, at: number, done: number, end: number): number | Promise<number> {
    const wait = this.data === null ? this.openFiles() : this.tables.locate(at, end);
    if (wait !== null) return wait.then(() => 0);
    const { state, length, host, compressed } = this.tables.run;
    const part = into.subarray(done, done + length);
    switch (state) {
      case ZEROED:
        part.fill(0);
        return length;
      case UNALLOCATED:
        return this.readBacking(part, at);
      case STORED: {
        this.refuseEncrypted();
        const r = this.data!.read(part, host);
        // Only the last cluster of a file can be short.
        const fill = (n: number) => {
          part.fill(0, n);
          return length;
        };
        return r instanceof Promise ? r.then(fill) : fill(r);
      }
      case COMPRESSED: {
        this.refuseEncrypted();
        const within = at % this.header.clusterSize;
        const copy = (cluster: Uint8Array) => {
          part.set(cluster.subarray(within, within + length));
          return length;
        };
        const r = this.inflated(host, compressed, length < this.header.clusterSize);
        return r instanceof Promise ? r.then(copy) : copy(r);
      }
    }
  }

  private refuseEncrypted(): void {
    const method = this.header.cryptMethod;
    if (method !== CRYPT.none)
      throw new UnsupportedError(
        `${this.label}: encrypted (${method === CRYPT.luks ? "LUKS" : "AES"}); encrypted data cannot be read`,
      );
  }

  private readBacking(part: Uint8Array, at: number): number | Promise<number> {
    if (!this.backingOpen) return this.openFiles()!.then(() => 0);
    const { backing } = this;
    const fill = (n: number) => {
      part.fill(0, n);
      return part.length;
    };
    if (backing === null || at >= backing.size) return fill(0);
    const r = backing.read(part.subarray(0, Math.min(part.length, backing.size - at)), at);
    return r instanceof Promise ? r.then(fill) : fill(r);
  }

  /** The cluster whose compressed stream starts at `host`. */
  private inflated(host: number, most: number, keep: boolean): Uint8Array | Promise<Uint8Array> {
    const kept = this.kept.get(host);
    if (kept !== undefined) return kept;
    const size = this.header.clusterSize;
    const codecs = this.codecs ?? defaultCodecs();
    const store = (cluster: Uint8Array) => {
      if (keep) {
        if ((this.kept.size + 1) * size > KEPT_BYTES)
          for (const old of this.kept.keys()) {
            this.kept.delete(old);
            break;
          }
        this.kept.set(host, cluster);
      }
      return cluster;
    };
    const failed = (e: unknown): never => {
      if (e instanceof FormatError) throw new FormatError("qcow2 compressed cluster", host, e.message);
      throw e;
    };
    const decompress = (input: Uint8Array): Uint8Array | Promise<Uint8Array> => {
      try {
        const r =
          this.header.compressionType === COMPRESSION.zstd
            ? codecs.zstd(input, size)
            : codecs.inflateRaw(input, size);
        return r instanceof Promise ? r.then(store, failed) : store(r);
      } catch (e) {
        return failed(e);
      }
    };
    const input = new Uint8Array(most);
    const r = this.source.read(input, host);
    return r instanceof Promise
      ? r.then((n) => decompress(input.subarray(0, n)))
      : decompress(input.subarray(0, r));
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    const runs = new MapRuns(from);
    const end = Math.min(to, this.size);
    try {
      while (runs.end < end && runs.count < BATCH) {
        const r = this.mapRun(runs, end);
        if (r !== null) return this.mapOn(r, runs, end);
      }
    } catch (error) {
      // What comes before the damage is good: the next call throws.
      if (runs.count === 0) throw error;
    }
    return runs;
  }

  private async mapOn(first: Promise<void>, runs: MapRuns, end: number): Promise<MapRuns> {
    try {
      await first;
      while (runs.end < end && runs.count < BATCH) {
        const r = this.mapRun(runs, end);
        if (r !== null) await r;
      }
    } catch (error) {
      if (runs.count === 0) throw error;
    }
    return runs;
  }

  /** Appends the run at runs.end, or returns what must settle before it can. */
  private mapRun(runs: MapRuns, end: number): Promise<void> | null {
    const at = runs.end;
    const wait = this.data === null ? this.openFiles() : this.tables.locate(at, end);
    if (wait !== null) return wait;
    const { state, length, host } = this.tables.run;
    if (state === UNALLOCATED) return this.mapBacking(runs, at + length);
    if (state === ZEROED) runs.push(length, ZERO);
    else if (state === COMPRESSED || this.header.cryptMethod !== CRYPT.none) runs.push(length, DATA);
    else {
      const plain = this.data!.plain;
      const stored = Math.min(length, this.tables.dataSize - host);
      // A run that the end of the file cuts short is for `read`, as a whole: see `place`.
      if (plain === undefined || stored < length) runs.push(stored, DATA);
      else runs.push(stored, DATA, 0, plain.base + host, plain.file);
      runs.push(length - stored, ZERO);
    }
    return null;
  }

  private mapBacking(runs: MapRuns, end: number): Promise<void> | null {
    if (!this.backingOpen) return this.openFiles();
    const { backing } = this;
    const at = runs.end;
    if (backing === null || at >= backing.size) {
      runs.push(end - at, HOLE);
      return null;
    }
    const append = (below: MapRuns) => {
      for (let i = 0; i < below.count; i++) {
        const f = below.file[i];
        const state = below.state[i] as typeof HOLE | typeof ZERO | typeof DATA;
        runs.push(below.length[i], state, below.depth[i] + 1, below.host[i], f < 0 ? null : below.files[f]);
      }
      if (runs.end === at)
        throw new FormatError("backing file map", at, `${backing.label} says nothing of this byte`);
    };
    const r = backing.map(at, Math.min(end, backing.size));
    if (r instanceof Promise) return r.then(append);
    append(r);
    return null;
  }

  layerStatus(at: number, end: number, run: LayerRun): Promise<void> | null {
    return layerRun(this.tables, this.header, this.slice, at, Math.min(end, this.size), run);
  }

  emptyUntil(at: number, end: number): number {
    return this.tables.emptyUntil(at, end);
  }

  status(at: number, end: number, own: boolean, run: StatusRun): Promise<void> | null {
    const wait =
      this.data === null || !this.backingOpen
        ? this.openFiles()
        : layerRun(this.tables, this.header, this.slice, at, Math.min(end, this.size), this.layer);
    if (wait !== null) return wait.then(() => this.status(at, end, own, run) ?? undefined);
    const { state, length, host } = this.layer;
    run.state = state;
    run.length = length;
    run.host = -1;
    run.file = null;
    if (state === DATA && host >= 0 && this.header.cryptMethod === CRYPT.none) {
      this.place(host, run);
      if (this.holes !== null && run.host >= 0) return this.holesOf(host, run);
    }
    if (state !== HOLE) return null;
    if (this.backing === null || at >= this.backing.size) {
      run.state = ZERO;
      return null;
    }
    if (own) return null;
    this.below ??= statusOf(this.backing);
    return this.below(at, Math.min(at + length, this.backing.size), false, run);
  }

  /** Asks the host where stored bytes are holes: they read as zeros. */
  private holesOf(host: number, run: StatusRun): Promise<void> | null {
    const holes = this.holes!;
    const take = (map: MapRuns): void => {
      if (map.count === 0) return;
      const hole = map.state[0] !== DATA;
      if (hole) run.state = ZERO;
      // A hole up to the end of the file goes on behind it.
      if (!hole || host + map.length[0] < holes.size) run.length = Math.min(run.length, map.length[0]);
      if (!hole) return;
      run.host = -1;
      run.file = null;
    };
    const r = holes.map(host, host + run.length);
    if (r instanceof Promise) return r.then(take);
    take(r);
    return null;
  }

  /** Where stored bytes lie; a run that the file's end cuts short is left to `read`. */
  private place(host: number, run: StatusRun): void {
    const plain = this.data!.plain;
    if (plain === undefined || host + run.length > this.tables.dataSize) return;
    run.host = plain.base + host;
    run.file = plain.file;
  }

  /** Opens the data file and the backing file. */
  private openFiles(): Promise<void> | null {
    if (this.data !== null && this.backingOpen) return null;
    this.opening ??= this.open().finally(() => {
      this.opening = null;
    });
    return this.opening;
  }

  async openData(): Promise<Source> {
    const { header, gate } = this;
    if (this.data === null) {
      if (header.dataFile === null)
        throw withNative(
          new FormatError("qcow2 header", 0, "data file feature without the data file's name"),
          "'data-file' is required for this image",
        );
      const data = await gate({
        name: header.dataFile,
        purpose: "data file",
        format: "raw",
        from: this.label,
        depth: this.depth + 1,
      });
      this.tables.dataSize = data.size;
      this.data = data;
    }
    return this.data;
  }

  private async open(): Promise<void> {
    const { header, gate } = this;
    const options = { codecs: this.codecs ?? undefined, depth: this.depth + 1 };
    await this.openData();
    if (this.backingOpen) return;
    this.backing =
      this.openBacking !== undefined
        ? await this.openBacking(header)
        : await openNamed(
            {
              name: header.backingFile!,
              purpose: "backing file",
              format: header.backingFormat,
              from: this.label,
              depth: this.depth + 1,
            },
            gate,
            (source) => openQcow2(source, gate, options),
          );
    this.backingOpen = true;
  }

  async close(): Promise<void> {
    this.kept.clear();
    if (this.data !== null && this.data !== this.source) await this.data.close();
    if (this.backing !== null && this.openBacking === undefined) await this.backing.close();
  }
}
