import type { Source } from "../io/source.ts";
import type { Target } from "../io/target.ts";
import type { JobResult, OutputOptions } from "./api.ts";
import type { LayoutSpec } from "./copy/spec.ts";
import { layoutFor } from "./layouts.ts";
import { measureData, writeImage } from "./write.ts";

/** Unit in which a raw output leaves zeros out when no filesystem says better, bytes. */
export const ZERO_UNIT = 4096;

/** Writes all of a source (a disk, a partition, an opened image) as raw or QCOW2. Errors: see `writeImage`. */
export async function convert(source: Source, target: Target, options: OutputOptions): Promise<JobResult> {
  let layout: LayoutSpec;
  try {
    layout = layoutFor(options.format, source.size, ZERO_UNIT, options.qcow2);
  } catch (error) {
    await target.abort();
    throw error;
  }
  const r = await writeImage(source, target, { ...options, layout });
  return { format: options.format, guestSize: source.size, ...r, warnings: [] };
}

/** What `convert` would do: bytes that are stored, without writing anything. */
export async function planConvert(source: Source): Promise<{ guestSize: number; selected: number }> {
  return { guestSize: source.size, selected: (await measureData(source)).stored };
}

/** Writes the disk inside an image back as raw bytes: `convert` to raw, by the name people look for. */
export function restore(
  source: Source,
  target: Target,
  options: Omit<OutputOptions, "format">,
): Promise<JobResult> {
  return convert(source, target, { ...options, format: "raw" });
}
