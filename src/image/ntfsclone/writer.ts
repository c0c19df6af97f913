import type { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { ReadError } from "../../errors.ts";
import { Pace } from "../../io/pace.ts";
import type { Source } from "../../io/source.ts";
import type { Target } from "../../io/target.ts";
import { Kernel, type Slot } from "../../kernel/kernel.ts";
import { clusterBytes, encodeHeader, type ImageGeometry } from "./header.ts";
import { DATA_OFFSET, GAP_BYTES } from "./layout.ts";

/** Bytes written at a time, where clusters are not larger than that. */
const BATCH_BYTES = 512 * 1024;
/** Runs taken out of a set at a time. */
const RUNS = 4096;
/** Bytes of one entry of the kernel's table: gap and clusters. */
const ENTRY = 16;

/** What a writer is told while it works. */
export interface WriterOptions {
  /** Called with the clusters written so far; throws AbortError to stop. */
  readonly onProgress?: (clusters: number) => void;
}

/**
 * Writes a special image of ntfsclone front to back: clusters in any order, each behind the gap that leads to it. What
 * a command stream has no place for (a cluster beyond the one with the backup boot sector) is the caller's fault.
 */
export class ImageWriter {
  private readonly geometry: ImageGeometry;
  private readonly target: Target;
  private readonly onProgress: (clusters: number) => void;
  private readonly kernel = Kernel.get();
  private slot: Slot;
  /** The batch that is being written, where the target takes its time, and the promise of that. */
  private other: Slot | null = null;
  private writing: Promise<void> | null = null;
  private readonly table: Slot;
  private readonly entries: Float64Array;
  private readonly pace: Pace;
  /** Clusters of a full batch, and the bytes kept free for their commands. */
  private readonly most: number;
  private readonly reserve: number;
  /** Runs, clusters and data bytes of the batch at hand. */
  private runs = 0;
  private held = 0;
  private used = 0;
  /** Cluster that needs no gap. */
  private next = 0;
  private written = 0;
  private offset = 0;

  /** Call `dispose` at the end, whatever happens. */
  constructor(geometry: ImageGeometry, target: Target, options: WriterOptions = {}) {
    this.geometry = geometry;
    this.target = target;
    const report = options.onProgress ?? (() => {});
    this.onProgress = report;
    this.pace = new Pace(() => report(this.written));
    this.most = Math.max(Math.floor(BATCH_BYTES / (geometry.clusterSize + GAP_BYTES + 1)), 1);
    this.reserve = this.most * (GAP_BYTES + 1);
    this.slot = this.takeSlot();
    this.table = this.kernel.take(this.most * ENTRY);
    this.entries = new Float64Array(this.table.bytes.buffer, this.table.at, this.most * 2);
  }

  dispose(): void {
    this.kernel.give(this.table);
    this.kernel.give(this.slot);
    // After a failure it may still be read; what that writes is dropped with the target.
    if (this.other !== null) this.kernel.give(this.other);
  }

  /** Clusters written so far. */
  get clusters(): number {
    return this.written + this.held;
  }

  /** Starts the image: the header. */
  async begin(): Promise<void> {
    const r = this.target.write(encodeHeader(this.geometry), 0);
    if (r instanceof Promise) await r;
    this.offset = DATA_OFFSET;
  }

  /** Appends clusters of `set` in ascending order, read from `source` at their own places. */
  async copy(source: Source, set: BlockSet): Promise<void> {
    const list = new ExtentList();
    for (let from = 0; from < set.limit; ) {
      list.clear();
      from = set.runs(from, set.limit, list, RUNS);
      for (let i = 0; i < list.count; i++) {
        for (let lcn = list.start(i); lcn < list.end(i); ) {
          const count = Math.min(list.end(i) - lcn, this.most - this.held);
          const part = this.place(lcn, count);
          const r = source.read(part, lcn * this.geometry.clusterSize);
          const n = r instanceof Promise ? await r : r;
          if (n !== part.length) {
            const at = lcn * this.geometry.clusterSize + n;
            throw new ReadError("ESHORT", `${source.label}: ends at byte ${at}`, at);
          }
          lcn += count;
          if (this.full) await this.flush();
        }
      }
    }
  }

  /** Appends the clusters that begin with `lcn`: whole ones, but for one that reaches the device's end. */
  async put(lcn: number, bytes: Uint8Array): Promise<void> {
    const { clusterSize } = this.geometry;
    for (let done = 0, left = Math.max(Math.ceil(bytes.length / clusterSize), 1); left > 0; ) {
      const count = Math.min(left, this.most - this.held);
      const part = this.place(lcn, count);
      part.set(bytes.subarray(done, done + part.length));
      done += part.length;
      lcn += count;
      left -= count;
      if (this.full) await this.flush();
    }
  }

  /** Appends a gap that leads to cluster `lcn`, where the next one need not be. */
  seek(lcn: number): Promise<void> | void {
    if (lcn === this.next) return;
    this.entries[2 * this.runs] = lcn - this.next;
    this.entries[2 * this.runs + 1] = 0;
    this.runs++;
    this.next = lcn;
    if (this.full) return this.flush();
  }

  /** Writes what is left; returns the image's size in bytes. */
  async finish(): Promise<number> {
    await this.flush();
    if (this.writing !== null) await this.writing;
    this.onProgress(this.written);
    return this.offset;
  }

  private takeSlot(): Slot {
    return this.kernel.take(this.reserve + this.most * this.geometry.clusterSize);
  }

  private get full(): boolean {
    return this.held === this.most || this.runs === this.most;
  }

  /** The room of the next `count` clusters, which go to `lcn`. */
  private place(lcn: number, count: number): Uint8Array {
    const { geometry, entries } = this;
    if (lcn === this.next && this.runs > 0) entries[2 * this.runs - 1] += count;
    else {
      entries[2 * this.runs] = lcn - this.next;
      entries[2 * this.runs + 1] = count;
      this.runs++;
    }
    const from = this.reserve + this.used;
    this.used += (count - 1) * geometry.clusterSize + clusterBytes(geometry, lcn + count - 1);
    this.held += count;
    this.next = lcn + count;
    return this.slot.bytes.subarray(from, this.reserve + this.used);
  }

  private async flush(): Promise<void> {
    if (this.runs === 0) return;
    const { clusterSize } = this.geometry;
    const last = this.held === 0 ? 0 : this.used - (this.held - 1) * clusterSize;
    const length = this.kernel.raw.writeCommands(
      this.slot.at,
      this.slot.at + this.reserve,
      this.table.at,
      this.runs,
      clusterSize,
      last,
    );
    if (this.writing !== null) await this.writing;
    const r = this.target.write(this.slot.bytes.subarray(0, length), this.offset);
    if (r instanceof Promise) {
      this.writing = r;
      // A failure is met where the next batch waits for this one.
      r.catch(() => {});
      const free = this.other ?? this.takeSlot();
      this.other = this.slot;
      this.slot = free;
    }
    this.offset += length;
    this.written += this.held;
    this.runs = 0;
    this.held = 0;
    this.used = 0;
    const wait = this.pace.step();
    if (wait !== undefined) await wait;
  }
}

/**
 * Saves clusters of a volume as a special image: those of each set in ascending order, one set after the other. Returns the
 * size of the image in bytes; the target is not committed.
 */
export async function saveImage(
  source: Source,
  sets: readonly BlockSet[],
  geometry: ImageGeometry,
  target: Target,
  options: WriterOptions = {},
): Promise<number> {
  const writer = new ImageWriter(geometry, target, options);
  try {
    await writer.begin();
    for (const set of sets) await writer.copy(source, set);
    return await writer.finish();
  } finally {
    writer.dispose();
  }
}
