import { fsyncSync } from "node:fs";
import type { BlockSet } from "../../src/bytes/block-set.ts";
import { openNtfsRescue } from "../../src/engine/ntfs/rescue.ts";
import { rescueClone } from "../../src/engine/rescue/clone.ts";
import type { RescueSource } from "../../src/engine/rescue/rescue-source.ts";
import { AbortError } from "../../src/errors.ts";
import type { NtfsVolume } from "../../src/fs/ntfs/volume.ts";
import { Pace } from "../../src/io/pace.ts";
import type { Source } from "../../src/io/source.ts";
import type { Target } from "../../src/io/target.ts";
import { printable } from "../ui/format.ts";
import { readMap, resumes, writeMap } from "./ntfsclone-mapfile.ts";
import type { NtfscloneOptions } from "./ntfsclone-options.ts";
import type { Say } from "./ntfsclone-text.ts";

/** Milliseconds between two map files. */
const SAVE_EVERY = 2000;

/** Milliseconds for a bad stretch where what is written stays as it is; see --patience. */
const PATIENCE = 60_000;

/** Files that are named at the end, and paths of each. */
const MOST_FILES = 1000;
const MOST_PATHS = 4;

/** A failing source that is read with `--rescue`, and the map of what could be read. */
export class Rescue {
  readonly source: RescueSource;
  /** Whether the target holds what an earlier run cloned. */
  readonly resumes: boolean;
  private readonly mapfile: string | null;
  private saved = performance.now();

  private constructor(source: RescueSource, resumes: boolean, mapfile: string | null) {
    this.source = source;
    this.resumes = resumes;
    this.mapfile = mapfile;
  }

  /** Prepares the source of a volume. Throws Refusal for a map file that makes no sense. */
  static async ofVolume(base: Source, o: NtfscloneOptions, say: Say): Promise<Rescue> {
    const going = resumes(o);
    const { source, notes } = await openNtfsRescue(base, options(base, o, say));
    for (const note of notes) say(`${note}\n`);
    return new Rescue(source, going, o.mapfile);
  }

  /** Whether metadata could not be read so far, so that files and $Bitmap need not agree. */
  get lostMetadata(): boolean {
    return this.source.lostWhileOpen > 0;
  }

  /** Says which files lie on what was lost. */
  async report(volume: NtfsVolume, say: Say): Promise<void> {
    for (const [from, to] of this.source.skippedRanges())
      say(`WARNING: Read errors took too long: skipped ${to - from} bytes at ${from}, lost data.\n`);
    await sayLost(this.source.lostRanges(), volume, say);
  }

  /** Writes the map file, where one is kept. `target`: what the map is of, so that it is on the disk before. */
  save(target: Target | null = null): void {
    this.saved = performance.now();
    if (this.mapfile === null) return;
    if (target?.host !== undefined && target.host.fd >= 0) fsyncSync(target.host.fd);
    writeMap(this.mapfile, this.source.domain);
  }

  /** Prepares for copying front to back, and with `later` for putting what is skipped into its place afterwards. */
  startCopying(o: NtfscloneOptions, later: boolean): void {
    const patience = o.patience ?? (later ? null : PATIENCE);
    this.source.startCopying({ defer: later, ...(patience === null ? {} : { patience }) });
  }

  /** Reads again what was left for later; `write` gets what can be read. */
  async settle(
    o: NtfscloneOptions,
    signal: AbortSignal | undefined,
    write: (bytes: Uint8Array, at: number) => void | Promise<void>,
  ): Promise<void> {
    const pace = new Pace(() => {
      if (signal?.aborted) throw new AbortError();
    });
    await this.source.settle(write, o.retries, () => pace.step());
  }

  /** Clones to a target that can be written out of order: what reads well first. */
  async clone(job: RescueCopy): Promise<void> {
    await rescueClone(this.source, job.target, job.blocks, {
      blockSize: job.clusterSize,
      size: job.size,
      retries: job.options.retries,
      ...(job.options.patience === null ? {} : { patience: job.options.patience }),
      resume: this.resumes,
      checkpoint: () => {
        if (performance.now() - this.saved >= SAVE_EVERY) this.save(job.target);
      },
      onProgress(clusters) {
        if (job.signal?.aborted) throw new AbortError();
        job.onProgress(clusters);
      },
      ...(job.change === null ? {} : { change: job.change }),
    });
  }
}

/** Says which files lie on byte ranges of a volume that were lost. */
export async function sayLost(
  ranges: readonly (readonly [from: number, to: number])[],
  volume: NtfsVolume,
  say: Say,
): Promise<void> {
  if (ranges.length === 0) return;
  const bytes = ranges.reduce((n, [from, to]) => n + to - from, 0);
  const places = ranges.length === 1 ? "1 place" : `${ranges.length} places`;
  say(`Lost: ${bytes} bytes in ${places}. Files that lie there:\n`);
  const files = await volume.filesOn(ranges);
  for (const f of files.slice(0, MOST_FILES)) {
    const paths = f.paths.slice(0, MOST_PATHS).map(printable).join(", ");
    say(`  ${paths}${f.part === "" ? "" : ` (${printable(f.part)})`}\n`);
  }
  if (files.length === 0) say("  none\n");
  if (files.length > MOST_FILES) say(`  and ${files.length - MOST_FILES} more\n`);
}

/** A clone of a failing source. */
export interface RescueCopy {
  readonly options: NtfscloneOptions;
  readonly target: Target;
  readonly blocks: BlockSet;
  readonly clusterSize: number;
  /** Bytes of the clone. */
  readonly size: number;
  readonly signal: AbortSignal | undefined;
  /** Called with the clusters done so far. */
  readonly onProgress: (clusters: number) => void;
  readonly change: ((bytes: Uint8Array, at: number) => void) | null;
}

function options(base: Source, o: NtfscloneOptions, say: Say) {
  const domain = readMap(o, base.size);
  return {
    retries: o.retries,
    onLost: (at: number) => say(`WARNING: Can't read sector at ${at}, lost data.\n`),
    ...(domain === null ? {} : { domain }),
  };
}
