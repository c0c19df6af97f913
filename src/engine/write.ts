import { DATA } from "../bytes/runs.ts";
import { ImprintError, type IoError, ReadError, RefusedError, UnsupportedError } from "../errors.ts";
import type { Packer } from "../image/packer.ts";
import { planQcow2, streamQcow2 } from "../image/qcow2/stream.ts";
import { Pace } from "../io/pace.ts";
import type { Source } from "../io/source.ts";
import type { Target } from "../io/target.ts";
import type { Progress } from "./api.ts";
import type { BulkComparer } from "./compare-pieces.ts";
import type { BulkCopier } from "./copy/bulk.ts";
import { checkAborted } from "./copy/copier.ts";
import { copyInThread, writerOf } from "./copy/in-thread.ts";
import { nonzeroClusters } from "./copy/nonzero.ts";
import { type LayoutSpec, packerOf } from "./copy/spec.ts";
import { PacedTarget, zeroRange } from "./paced-target.ts";
import { streamRaw } from "./raw-stream.ts";
import { clearForTables } from "./reused-target.ts";
import { SelectedSource } from "./selected-source.ts";
import { sourceOfTarget, verifyOutput } from "./verify.ts";

export interface WriteOptions {
  readonly layout: LayoutSpec;
  readonly verify?: boolean;
  readonly onProgress?: (p: Progress) => void;
  readonly signal?: AbortSignal;
  readonly bulk?: BulkCopier;
  /** For `verify`. */
  readonly comparer?: BulkComparer;
  /** Clusters that are all zero are written too (native tools do so on block devices). */
  readonly keepZero?: boolean;
  /** On a target that is not fresh, what the source does not store is left as it is instead of zeroed. */
  readonly keepRest?: boolean;
  /** Replaces writing: comparing with what is there, or only listing. Excludes bulk copies. */
  readonly write?: (bytes: Uint8Array, at: number) => void | Promise<void>;
  /** With `write`: nothing is committed and the target is not touched otherwise. */
  readonly listOnly?: boolean;
}

export interface WriteResult {
  readonly outputSize: number;
  /** Stored bytes of the source that the plan took. */
  readonly selected: number;
  readonly written: number;
  readonly verified: boolean;
}

/** Bytes a source's map says are stored, and whether all of them are plain bytes of host files. */
export async function measureData(
  source: Source,
  pace: Pace = new Pace(() => {}),
): Promise<{ stored: number; plain: boolean }> {
  if (source instanceof SelectedSource) return source.measure();
  let stored = 0;
  let plain = true;
  for (let from = 0; from < source.size; ) {
    const r = source.map(from, source.size);
    const b = r instanceof Promise ? await r : r;
    for (let i = 0; i < b.count; i++) {
      if (b.state[i] !== DATA) continue;
      stored += b.length[i];
      if (b.host[i] < 0 || b.file[i] < 0 || b.files[b.file[i]].fd < 0) plain = false;
    }
    if (b.end <= from) break;
    from = b.end;
    const wait = pace.step();
    if (wait !== undefined) await wait;
  }
  return { stored, plain };
}

/**
 * Writes a source into a target in the given layout and commits it; on any error the target is aborted and nothing is
 * left. Throws RefusedError where the target is too small, IoError, FormatError, AbortError.
 */
export async function writeImage(
  source: Source,
  target: Target,
  options: WriteOptions,
): Promise<WriteResult> {
  try {
    return await write(source, target, options);
  } catch (error) {
    await target.abort();
    throw error;
  }
}

/** Refuses a target that cannot grow to the bytes an output needs. */
function needRoom(target: Target, bytes: number): void {
  if (bytes > target.capacity)
    throw new RefusedError(
      "ETOOSMALL",
      `${target.label}: holds ${target.capacity} bytes, ${bytes} are needed`,
    );
}

async function write(source: Source, target: Target, options: WriteOptions): Promise<WriteResult> {
  const { layout } = options;
  if (layout.kind === "raw") needRoom(target, layout.guestSize + layout.offset);
  if (options.verify && (target.read === undefined || options.write !== undefined))
    throw new UnsupportedError(`${target.label}: output cannot be read back, so it cannot be verified`);
  const pace = new Pace(() => checkAborted(options.signal));
  const { stored, plain } = await measureData(source, pace);
  const report = (phase: Progress["phase"], done: number) => {
    checkAborted(options.signal);
    options.onProgress?.({ phase, done, total: stored });
  };
  report("copy", 0);
  if (layout.kind !== "raw" && !target.seekable) {
    const clusters = await nonzeroClusters(source, packerOf(layout), (done) => report("scan", done));
    const stream = new PacedTarget(target, pace);
    const outputSize = await streamQcow2({
      spec: layout,
      clusters,
      source,
      target: stream,
      onProgress: (done) => report("copy", done),
    });
    await stream.commit(outputSize);
    return { outputSize, selected: stored, written: clusters.count * layout.clusterSize, verified: false };
  }

  if (layout.kind !== "raw" && target.capacity < mostBytes(stored, layout)) {
    const clusters = await nonzeroClusters(source, packerOf(layout), (done) => report("scan", done));
    needRoom(target, planQcow2(layout, clusters).size);
  }
  const custom = options.write;
  const output = target.seekable ? target : new PacedTarget(target, pace);
  if (custom === undefined) await clearForTables(source, target, layout, pace);
  const packer = packerOf(layout);
  const skipZero = !options.keepZero && (target.fresh || layout.kind !== "raw");
  let written = 0;
  let state: Float64Array | null = null;
  if (options.bulk !== undefined && custom === undefined && plain && target.host !== undefined) {
    const done = await options.bulk.run({
      source,
      target: target.host,
      layout,
      skipZero,
      fresh: target.fresh,
      total: stored,
      onProgress: (walked) => report("copy", walked),
    });
    written = done.written;
    state = done.state;
  } else if (layout.kind === "raw" && custom === undefined && output.pull !== undefined) {
    written = await streamRaw({
      source,
      target: output,
      offset: layout.offset,
      onProgress: (walked) => report("copy", walked),
    });
  } else {
    const counts = await copyInThread({
      source,
      packer,
      skipZero,
      write: custom ?? writerOf(output),
      onProgress: (walked) => report("copy", walked),
    });
    written = counts.written;
  }
  if (state !== null) packer.state = state;
  const outputSize = await finish(packer, custom ?? writerOf(target));
  if (options.listOnly) return { outputSize, selected: stored, written, verified: false };
  if (layout.kind === "raw" && !target.fresh && !options.keepRest)
    await zeroRest(source, target, layout.offset, pace);
  if (options.verify) {
    await verifyOutput(source, sourceOfTarget(target, outputSize, true), layout, {
      comparer: options.comparer,
      onProgress: (done) => report("verify", done),
      storedOnly: layout.kind === "raw" && !target.fresh && options.keepRest === true,
    });
  }
  checkAborted(options.signal);
  await output.commit(outputSize);
  options.onProgress?.({ phase: "copy", done: stored, total: stored });
  return { outputSize, selected: stored, written, verified: options.verify === true };
}

/** More than a QCOW2 image with `stored` bytes can take, roughly: above it, its size need not be counted out. */
function mostBytes(stored: number, layout: Exclude<LayoutSpec, { kind: "raw" }>): number {
  return 2 * stored + layout.guestSize / 8 + 64 * layout.clusterSize;
}

/** Writes a packer's last metadata as it comes: the refcounts of a large image need not fit in memory. */
async function finish(packer: Packer, write: NonNullable<WriteOptions["write"]>): Promise<number> {
  let pending: Promise<void> | null = null;
  const size = packer.finish({
    data() {
      throw new ImprintError("EINTERNAL", "a packer placed data after the last chunk");
    },
    meta(at, bytes) {
      // The packer reuses its bytes; an asynchronous target may still be at work on them.
      const copy = bytes.slice();
      const r = pending === null ? write(copy, at) : pending.then(() => write(copy, at));
      if (r instanceof Promise) pending = r;
    },
  });
  if (pending !== null) await pending;
  return size;
}

/** Makes everything the source does not store read as zeros in a target that held something before. */
async function zeroRest(source: Source, target: Target, offset: number, pace: Pace): Promise<void> {
  for (let from = 0; from < source.size; ) {
    const r = source.map(from, source.size);
    const b = r instanceof Promise ? await r : r;
    for (let i = 0; i < b.count; i++) {
      if (b.state[i] === DATA) continue;
      await zeroRange(target, b.at[i] + offset, b.length[i], pace);
    }
    if (b.end <= from) break;
    from = b.end;
  }
}

/** True for errors of the source that a tolerant job may step over. */
export function isReadFailure(error: unknown): error is IoError {
  return error instanceof ReadError;
}
