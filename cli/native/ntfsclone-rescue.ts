import { existsSync, fsyncSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { BlockSet } from "../../src/bytes/block-set.ts";
import { openNtfsRescue } from "../../src/engine/ntfs/rescue.ts";
import { rescueClone } from "../../src/engine/rescue/clone.ts";
import type { DomainMap } from "../../src/engine/rescue/domain-map.ts";
import { formatMapfile, parseMapfile } from "../../src/engine/rescue/mapfile.ts";
import type { RescueSource } from "../../src/engine/rescue/rescue-source.ts";
import { AbortError, IoError } from "../../src/errors.ts";
import type { NtfsVolume } from "../../src/fs/ntfs/volume.ts";
import { Pace } from "../../src/io/pace.ts";
import type { Source } from "../../src/io/source.ts";
import type { Target } from "../../src/io/target.ts";
import { printable } from "../ui/format.ts";
import { version } from "../version.ts";
import type { NtfscloneOptions } from "./ntfsclone-options.ts";
import { errorName, refusal, refusalOf, type Say, systemRefusal } from "./ntfsclone-text.ts";

/** Milliseconds between two map files. */
const SAVE_EVERY = 5000;

/** Milliseconds for a bad stretch where what is written stays as it is; see --patience. */
const PATIENCE = 60_000;

/** Files that are named at the end, and paths of each. */
const MOST_FILES = 1000;
const MOST_PATHS = 4;

/** A failing source that is read with `--rescue`, and the map of what could be read. */
export class Rescue {
  readonly source: RescueSource;
  private readonly mapfile: string | null;
  private saved = performance.now();

  private constructor(source: RescueSource, mapfile: string | null) {
    this.source = source;
    this.mapfile = mapfile;
  }

  /** Prepares the source of a volume. Throws Refusal for a map file that makes no sense. */
  static async ofVolume(base: Source, o: NtfscloneOptions, say: Say): Promise<Rescue> {
    const { source, notes } = await openNtfsRescue(base, options(base, o, say));
    for (const note of notes) say(`${note}\n`);
    return new Rescue(source, o.mapfile);
  }

  /** Whether metadata could not be read so far, so that files and $Bitmap need not agree. */
  get lostMetadata(): boolean {
    return this.source.lostWhileOpen > 0;
  }

  /** Says which files lie on what was lost. */
  async report(volume: NtfsVolume, say: Say): Promise<void> {
    const ranges = this.source.lostRanges();
    if (ranges.length === 0) return;
    const bytes = ranges.reduce((n, [from, to]) => n + to - from, 0);
    const places = ranges.length === 1 ? "1 place" : `${ranges.length} places`;
    for (const [from, to] of this.source.skippedRanges())
      say(`WARNING: Read errors took too long: skipped ${to - from} bytes at ${from}, lost data.\n`);
    say(`Lost: ${bytes} bytes in ${places}. Files that lie there:\n`);
    const files = await volume.filesOn(ranges);
    for (const f of files.slice(0, MOST_FILES)) {
      const paths = f.paths.slice(0, MOST_PATHS).map(printable).join(", ");
      say(`  ${paths}${f.part === "" ? "" : ` (${printable(f.part)})`}\n`);
    }
    if (files.length === 0) say("  none\n");
    if (files.length > MOST_FILES) say(`  and ${files.length - MOST_FILES} more\n`);
  }

  /** Writes the map file, where one is kept. `target`: what the map is of, so that it is on the disk before. */
  save(target: Target | null = null): void {
    this.saved = performance.now();
    if (this.mapfile === null) return;
    if (target?.host !== undefined && target.host.fd >= 0) fsyncSync(target.host.fd);
    const text = formatMapfile(this.source.domain, `imprint ${version()}`);
    try {
      writeFileSync(`${this.mapfile}.new`, text);
      renameSync(`${this.mapfile}.new`, this.mapfile);
    } catch (error) {
      throw systemRefusal((error as NodeJS.ErrnoException).code ?? "EIO", `Writing '${this.mapfile}' failed`);
    }
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
      resume: job.options.resume,
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

function readMap(o: NtfscloneOptions, size: number): DomainMap | null {
  if (o.mapfile === null) return null;
  if (!existsSync(o.mapfile)) {
    if (o.resume) throw refusal(`--resume: there is no map file '${o.mapfile}'`);
    return null;
  }
  try {
    return parseMapfile(readFileSync(o.mapfile, "utf8"), size);
  } catch (error) {
    if (error instanceof IoError) throw systemRefusal(error.code, `Reading '${o.mapfile}' failed`);
    const { code, errno } = error as NodeJS.ErrnoException;
    if (errno !== undefined) throw systemRefusal(code ?? errorName(errno), `Reading '${o.mapfile}' failed`);
    throw refusalOf(error);
  }
}
