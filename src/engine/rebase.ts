import { DATA } from "../bytes/runs.ts";
import { type StatusRun, statusOf } from "../image/qcow2/block-status.ts";
import type { ImageEditor } from "../image/qcow2/edit/editor.ts";
import { SUBCLUSTERS } from "../image/qcow2/layout.ts";
import type { Source } from "../io/source.ts";
import { Kernel, type Slot } from "../kernel/kernel.ts";

/** Most bytes that are read and written at once. */
const PIECE = 2 * 1024 * 1024;

/** A change of what lies under an image. */
export interface RebaseJob {
  /** Name and format of what will lie under it, as the image will hold them. */
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
  /**
   * The image; its backing source must be `old` (padded with zeros to the image's size, so that zeros are kept apart
   * from what is under them).
   */
  readonly editor: ImageEditor;
  readonly old: Source;
  /** What will lie under it, or null for nothing. */
  readonly next: Source | null;
  /** Bytes of the disk that are done. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Puts `next` under an image in place of `old`, and commits. First the image gets what its disk would lose: only ranges
 * that it does not hold, and of these only the (sub)clusters that differ. What is written reads as before, so that the
 * job may end at any time.
 */
export async function rebaseImage(job: RebaseJob): Promise<void> {
  const { editor, backingFile, backingFormat } = job;
  for (let at = 0; at < editor.size; ) {
    const r = editor.map(at, editor.size);
    const runs = r instanceof Promise ? await r : r;
    for (let i = 0; i < runs.count; i++) {
      if (runs.depth[i] > 0) await new Range(job, runs.at[i], runs.at[i] + runs.length[i]).run();
      job.onProgress?.(runs.at[i] + runs.length[i], editor.size);
    }
    at = runs.end;
  }
  editor.setHeader({ backingFile, backingFormat });
  editor.commit();
}

const emptyRun = (): StatusRun => ({ state: DATA, length: 0, host: -1, file: null });

/** A range that the image does not hold. */
class Range {
  private readonly job: RebaseJob;
  private at: number;
  private readonly end: number;
  private readonly unit: number;

  constructor(job: RebaseJob, from: number, to: number) {
    this.job = job;
    this.at = from;
    this.end = to;
    const { clusterSize, extendedL2 } = job.editor.header;
    this.unit = extendedL2 ? clusterSize / SUBCLUSTERS : clusterSize;
  }

  async run(): Promise<void> {
    const { old, next } = this.job;
    const oldStatus = statusOf(old);
    const newStatus = next === null ? null : statusOf(next);
    const a = emptyRun();
    const b = emptyRun();
    // Where the zeros of what lies under the image now begin, or -1.
    let zeros = -1;
    while (this.at < this.end) {
      const { at, unit } = this;
      const w = oldStatus(at, this.end, false, a);
      if (w !== null) await w;
      let length = Math.min(a.length, this.end - at);
      let zero = true;
      if (next !== null && newStatus !== null && at < next.size) {
        const stop = Math.min(at + length, next.size);
        const w2 = newStatus(at, stop, false, b);
        if (w2 !== null) await w2;
        length = Math.min(length, b.length, stop - at);
        zero = b.state !== DATA;
      }
      const same =
        (a.state !== DATA && zero) ||
        (a.state === DATA && !zero && a.host >= 0 && a.host === b.host && a.file?.path === b.file?.path);
      if (a.state === DATA) zeros = -1;
      else if (zeros < 0) zeros = at;
      if (!same && zeros >= 0) {
        // Whole units, so that they can become zero clusters.
        length = Math.min(Math.ceil((at + length) / unit) * unit - at, a.length, this.end - at);
        await this.compare(Math.max(zeros, Math.floor(at / unit) * unit), at + length, true);
      } else if (!same) await this.compare(at, at + length, false);
      this.at = at + length;
    }
  }

  /** Writes the units of [from, to) that differ; `zero`: they read as zeros now. */
  private async compare(from: number, to: number, zero: boolean): Promise<void> {
    const kernel = Kernel.get();
    const mine = kernel.take(PIECE);
    const theirs = kernel.take(PIECE);
    try {
      for (let at = from; at < to; ) {
        // Pieces end with whole units.
        const stop = Math.min(to, Math.floor((at + PIECE) / this.unit) * this.unit);
        await this.comparePiece(at, stop, zero, mine, theirs);
        at = stop;
      }
    } finally {
      kernel.give(mine);
      kernel.give(theirs);
    }
  }

  private async comparePiece(
    at: number,
    stop: number,
    zero: boolean,
    mine: Slot,
    theirs: Slot,
  ): Promise<void> {
    const { editor, old, next } = this.job;
    const kernel = Kernel.get();
    const n = stop - at;
    if (!zero) await fill(old, mine.bytes.subarray(0, n), at);
    const held = next !== null && at < next.size;
    if (held) await fill(next, theirs.bytes.subarray(0, n), at);
    const differ = (a: number, b: number): boolean => {
      if (zero) return held && !kernel.isZero(theirs.at + a, b - a);
      if (!held) return !kernel.isZero(mine.at + a, b - a);
      return kernel.firstDifference(mine.at + a, theirs.at + a, b - a) >= 0;
    };
    if (!differ(0, n)) return;
    const unitEnd = (p: number): number =>
      Math.min(n, (Math.floor((at + p) / this.unit) + 1) * this.unit - at);
    for (let first = 0; first < n; ) {
      let last = first;
      while (last < n && differ(last, unitEnd(last))) last = unitEnd(last);
      if (last > first) {
        const w = zero
          ? editor.writeZeros(at + first, last - first)
          : editor.write(mine.bytes.subarray(first, last), at + first);
        if (w instanceof Promise) await w;
        first = last;
      } else first = unitEnd(first);
    }
  }
}

async function fill(source: Source, into: Uint8Array, at: number): Promise<void> {
  const r = source.read(into, at);
  const got = r instanceof Promise ? await r : r;
  into.fill(0, got);
}
