import { ImprintError, UnsupportedError } from "../errors.ts";
import { ExtVolume } from "../fs/ext/volume.ts";
import { recognise } from "../fs/signatures.ts";
import type { Selection } from "../fs/volume.ts";
import type { Source } from "../io/source.ts";
import type { Target } from "../io/target.ts";
import type { CaptureOptions, JobResult } from "./api.ts";
import { convert } from "./convert.ts";
import { layoutFor, metadataOptions } from "./layouts.ts";
import type { Opened } from "./open.ts";
import { SelectedSource } from "./selected-source.ts";
import { writeImage } from "./write.ts";

async function whyNoVolume(opened: Opened): Promise<string> {
  if (opened.partition === null && opened.partitions.length > 0)
    return "several partitions; name one with --partition, or take the whole disk with --all";
  const known = await recognise(opened.source);
  const found =
    known === null ? "no filesystem that this version knows" : `${known.kind}, which cannot be read`;
  return `${found}; take every byte with --all`;
}

/** The blocks a capture takes; null for scope "all", which takes every byte and needs no filesystem. */
export async function planCapture(opened: Opened, options: CaptureOptions): Promise<Selection | null> {
  if (options.scope === "all") return null;
  const { volume } = opened;
  if (opened.damage !== null) throw opened.damage;
  if (volume === null) throw new UnsupportedError(`${opened.file.label}: ${await whyNoVolume(opened)}`);
  if (options.nativeSelection === true && !(volume instanceof ExtVolume))
    throw new ImprintError(
      "EOPTION",
      `${opened.file.label}: the native selection is that of e2image, which does not read ${volume.kind}`,
    );
  const { onProgress, signal } = options;
  return volume.select({
    scope: options.scope,
    complete: options.nativeSelection !== true,
    nativeSelection: options.nativeSelection,
    signal,
    onProgress: onProgress && ((done, total) => onProgress({ phase: "scan", done, total })),
  });
}

/** The volume restricted to what was selected. */
export function selectedSource(source: Source, volumeSize: number, selection: Selection): SelectedSource {
  return new SelectedSource(source, selection.blocks, selection.blockSize, volumeSize);
}

/**
 * Captures a filesystem (its metadata, all that is in use, or every byte) into an image; on any error the target is
 * aborted. Errors: those of `writeImage`, and UnsupportedError where there is no filesystem to select from.
 */
export async function capture(opened: Opened, target: Target, options: CaptureOptions): Promise<JobResult> {
  try {
    return await captureInto(opened, target, options);
  } catch (error) {
    await target.abort();
    throw error;
  }
}

async function captureInto(opened: Opened, target: Target, options: CaptureOptions): Promise<JobResult> {
  const { volume } = opened;
  // A first guess that lets helper threads start while the metadata is read; for metadata alone they don't pay.
  if (options.scope !== "metadata") options.bulk?.prepare(opened.source.size, target.host);
  const selection = await planCapture(opened, options);
  if (selection === null || volume === null) return convert(opened.source, target, options);
  const source = selectedSource(opened.source, volume.size, selection);
  const { blockSize } = selection;
  const qcow2 =
    options.scope === "metadata" ? metadataOptions(options.qcow2, blockSize, volume.size) : options.qcow2;
  const layout = layoutFor(options.format, volume.size, blockSize, qcow2, selection);
  const r = await writeImage(source, target, { ...options, layout });
  return { format: options.format, guestSize: volume.size, ...r, warnings: selection.warnings };
}
