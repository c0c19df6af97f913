import { ImprintError, UnsupportedError } from "../errors.ts";
import { planSanitize, type SanitizeOptions } from "../fs/ext/sanitize/plan.ts";
import type { LeakSearch, SanitizeReport } from "../fs/ext/sanitize/report.ts";
import { searchWords } from "../fs/ext/sanitize/search.ts";
import { ExtVolume } from "../fs/ext/volume.ts";
import type { Source } from "../io/source.ts";
import type { Target } from "../io/target.ts";
import type { JobResult, OutputOptions } from "./api.ts";
import { layoutFor, metadataOptions } from "./layouts.ts";
import type { Opened } from "./open.ts";
import { SelectedSource } from "./selected-source.ts";
import { writeImage } from "./write.ts";

export type { SanitizeOptions } from "../fs/ext/sanitize/plan.ts";
export type {
  Kept,
  LeakFound,
  LeakSearch,
  SanitizeReport,
  WordKind,
} from "../fs/ext/sanitize/report.ts";

/** A sanitised volume, ready to be written and then searched. */
export interface Sanitized {
  /** The volume's metadata, rewritten as it is read. */
  readonly source: Source;
  readonly selection: { readonly blockSize: number; readonly selected: number; readonly marks: number };
  readonly warnings: readonly string[];
  /** Searches an image's disk (or, without one, the data as it was written) for original words. */
  report(output: Source | null, options?: SearchJob): Promise<SanitizeReport>;
  /** Gives kernel memory back. */
  close(): void;
}

type SearchJob = Pick<OutputOptions, "onProgress" | "signal">;

/**
 * Prepares a volume's metadata with every name hidden. Throws UnsupportedError for filesystems other than
 * ext, and what planSanitize throws.
 */
export async function sanitize(
  volume: ExtVolume,
  options: Omit<SanitizeOptions, "onProgress"> & Pick<OutputOptions, "onProgress">,
): Promise<Sanitized> {
  const { onProgress, ...rest } = options;
  const plan = await planSanitize(volume, {
    ...rest,
    ...(onProgress === undefined
      ? {}
      : { onProgress: (done, total) => onProgress({ phase: "scan", done, total }) }),
  });
  const { selection } = plan;
  const size = volume.size;
  const chosen = new SelectedSource(plan.source, selection.blocks, selection.blockSize, size);
  const source = plan.apply(chosen);
  return {
    source,
    selection: {
      blockSize: selection.blockSize,
      selected: selection.blocks.count * selection.blockSize,
      marks: selection.marks,
    },
    warnings: selection.warnings,
    async report(output, job = {}) {
      const { onProgress: report, signal } = job;
      const search: LeakSearch = await searchWords(output ?? source, plan.words, {
        searched: output === null ? "stream" : "output",
        ...(signal === undefined ? {} : { signal }),
        ...(report === undefined
          ? {}
          : { onProgress: (done, total) => report({ phase: "verify", done, total }) }),
      });
      return plan.report(search);
    },
    close: () => source.close(),
  };
}

export interface SanitizedCaptureOptions extends OutputOptions {
  readonly seed: string;
  readonly journal?: SanitizeOptions["journal"];
  readonly wholeInodeTables?: boolean;
  /** Opens the disk inside the finished output, to be searched; null where it cannot be read back. */
  readonly reopen?: () => Promise<{ readonly source: Source; close(): Promise<void> } | null>;
}

/**
 * Captures a volume's metadata with every name hidden, and searches the result for what it should not hold.
 * Only metadata is ever taken: file data would tell more than names. Errors: those of `sanitize` and
 * `writeImage`.
 */
export async function captureSanitized(
  opened: Pick<Opened, "volume" | "damage" | "file" | "partition" | "partitions">,
  target: Target,
  options: SanitizedCaptureOptions,
): Promise<{ readonly result: JobResult; readonly report: SanitizeReport }> {
  try {
    return await captured(sanitizable(opened), target, options);
  } catch (error) {
    await target.abort();
    throw error;
  }
}

async function captured(
  volume: ExtVolume,
  target: Target,
  options: SanitizedCaptureOptions,
): Promise<{ readonly result: JobResult; readonly report: SanitizeReport }> {
  const clean = await sanitize(volume, {
    seed: options.seed,
    journal: options.journal ?? "replay",
    ...(options.wholeInodeTables === undefined ? {} : { wholeInodeTables: options.wholeInodeTables }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
  });
  try {
    const { blockSize, marks, selected } = clean.selection;
    const qcow2 = metadataOptions(options.qcow2, blockSize, volume.size);
    const layout = layoutFor(options.format, volume.size, blockSize, qcow2, { blockSize, marks });
    const written = await writeImage(clean.source, target, { ...options, layout });
    const output = (await options.reopen?.()) ?? null;
    try {
      const report = await clean.report(output?.source ?? null, options);
      const result: JobResult = {
        format: options.format,
        guestSize: volume.size,
        ...written,
        selected,
        warnings: clean.warnings,
      };
      return { result, report };
    } finally {
      await output?.close();
    }
  } finally {
    clean.close();
  }
}

/** The volume of a source, where it is one whose names can be hidden. */
export function sanitizable(
  opened: Pick<Opened, "volume" | "damage" | "file" | "partition" | "partitions">,
): ExtVolume {
  if (opened.damage !== null) throw opened.damage;
  if (opened.volume instanceof ExtVolume) return opened.volume;
  if (opened.volume !== null)
    throw new UnsupportedError(`${opened.file.label}: names of ${opened.volume.kind} cannot be hidden yet`);
  throw new ImprintError(
    "ENOVOLUME",
    opened.partition === null && opened.partitions.length > 0
      ? `${opened.file.label}: several partitions; name one with --partition`
      : `${opened.file.label}: no filesystem that this version knows`,
  );
}

/** A seed of its own for every run that is given none: 64 random bits. */
export function randomSeed(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}
