import { BlockSet } from "../../src/bytes/block-set.ts";
import type { JobOptions } from "../../src/engine/api.ts";
import { SelectedSource } from "../../src/engine/selected-source.ts";
import { writeImage } from "../../src/engine/write.ts";
import { AbortError, ImprintError, IoError } from "../../src/errors.ts";
import { compareBitmap, differenceError, differenceLines } from "../../src/fs/ntfs/consistency.ts";
import { NtfsError } from "../../src/fs/ntfs/errors.ts";
import { dropBad, type InUse, inUse } from "../../src/fs/ntfs/in-use.ts";
import { checkVersion, type NtfsVolume, openNtfs } from "../../src/fs/ntfs/volume.ts";
import { type ImageGeometry, volumeEnd } from "../../src/image/ntfsclone/header.ts";
import { saveImage } from "../../src/image/ntfsclone/writer.ts";
import type { Source } from "../../src/io/source.ts";
import { withJob } from "../commands/job.ts";
import { printable } from "../ui/format.ts";
import type { NtfscloneOptions } from "./ntfsclone-options.ts";
import {
  AnnouncedTarget,
  type CloneOutput,
  checkFree,
  openCloneOutput,
  writebackOf,
} from "./ntfsclone-output.ts";
import { PercentLines } from "./ntfsclone-progress.ts";
import type { Rescue } from "./ntfsclone-rescue.ts";
import { NewSerial, NewSerialSource } from "./ntfsclone-serial.ts";
import {
  errorName,
  Refusal,
  refusal,
  refusalOf,
  type Say,
  spaceLine,
  systemRefusal,
  volumeSizeLine,
} from "./ntfsclone-text.ts";

/** Room of the backup boot sector, as native counts it when it looks at a target's size. */
const BACKUP_BYTES = 512;

/** Clones a volume, or saves it as a special image. */
export async function clone(o: NtfscloneOptions, output: string, say: Say): Promise<void> {
  const file = await openSource(o.source);
  let source = file;
  let rescue: Rescue | null = null;
  try {
    if (o.rescue) {
      const { Rescue } = await import("./ntfsclone-rescue.ts");
      rescue = await Rescue.ofVolume(file, o, say).catch((error: unknown) => {
        throw openFailure(o, error);
      });
      source = rescue.source;
    }
    const volume = await openVolume(o, source, rescue);
    sayVolume(volume, source, say);
    const { clusters, clusterSize } = volume.boot;
    const opened = await openCloneOutput(output, {
      image: o.save,
      bytes: o.save ? 0 : clusters * clusterSize + BACKUP_BYTES,
      sources: [o.source],
      // What was rescued before an interruption is what a later run goes on from.
      inPlace: o.mapfile !== null && !o.save && !o.metadata,
      resume: o.resume,
    });
    try {
      await withJob((job) => write(o, output, volume, opened, rescue, say, job), { line: false });
      await rescue?.report(volume, say);
    } catch (error) {
      await opened.target.abort();
      throw failure(error, opened);
    } finally {
      rescue?.save();
    }
  } finally {
    await file.close();
  }
}

/** Opens the volume's file or device; refuses one that is mounted read-write. Throws Refusal. */
export async function openSource(path: string): Promise<Source> {
  const m = await import("../../src/node.ts");
  const { realpathSync } = await import("node:fs");
  try {
    realpathSync(path === "" ? "/nonexistent/" : path);
  } catch (error) {
    throw systemRefusal(
      (error as NodeJS.ErrnoException).code ?? "EIO",
      `Failed to check '${path}' mount state`,
    );
  }
  const state = m.mountState(path);
  if (state.mounted && !state.readOnly)
    throw refusal(`Device '${path}' is mounted read-write. You must 'umount' it first.`);
  try {
    return m.openFileSource(path);
  } catch (error) {
    if (!(error instanceof ImprintError)) throw error;
    if (error.code === "EISDIR")
      throw openRefusal(path, "EISDIR", "Error reading bootsector: Is a directory\n");
    if (error.code === "ENOTSEEKABLE") throw openRefusal(path, "EINVAL", `${error.message}\n`);
    throw openRefusal(path, error.code, "");
  }
}

function openRefusal(path: string, code: string, library: string): Refusal {
  const hint =
    code === "EINVAL"
      ? `Apparently device '${path}' doesn't have a valid NTFS. Maybe you selected\n` +
        "the whole disk instead of a partition (e.g. /dev/hda, not /dev/hda1)?\n"
      : "";
  return systemRefusal(code, `Opening '${path}' as NTFS failed`, hint, library);
}

function openFailure(o: NtfscloneOptions, error: unknown): Refusal {
  if (error instanceof NtfsError) {
    const library = error.nativeText === "" ? error.message : error.nativeText;
    return openRefusal(o.source, errorName(error.errno), `${library}\n`);
  }
  if (error instanceof IoError) return openRefusal(o.source, error.code, `${error.message}\n`);
  return refusalOf(error);
}

/** Opens the volume as native does, and refuses what it refuses. Throws Refusal. */
export async function openVolume(
  o: NtfscloneOptions,
  source: Source,
  rescue: Rescue | null = null,
): Promise<NtfsVolume> {
  let volume: NtfsVolume;
  try {
    volume = await openNtfs(source, { strict: true }).catch((error: unknown) => {
      // What native has to know before it starts may be what was lost.
      if (rescue?.lostMetadata !== true || !(error instanceof NtfsError)) throw error;
      return openNtfs(source);
    });
  } catch (error) {
    throw openFailure(o, error);
  }
  if (volume.dirty && o.force === 0)
    throw new Refusal(
      `ERROR: Volume '${o.source}' is scheduled for a check or it was shutdown \n` +
        "uncleanly. Please boot Windows or use the --force option to progress.\n",
    );
  return volume;
}

/** The lines about the volume alone. Throws Refusal for a version that is not known. */
export function sayGeometry(volume: NtfsVolume, say: Say): void {
  const { clusters, clusterSize } = volume.boot;
  const { major, minor } = volume.version;
  say(`NTFS volume version: ${major}.${minor}\n`);
  try {
    checkVersion(volume);
  } catch (error) {
    throw volumeRefusal(error);
  }
  say(`Cluster size       : ${clusterSize} bytes\n`);
  say(volumeSizeLine("Current volume size", clusters * clusterSize));
}

function sayVolume(volume: NtfsVolume, source: Source, say: Say): void {
  const { clusters, clusterSize } = volume.boot;
  sayGeometry(volume, say);
  say(volumeSizeLine("Current device size", source.size));
  if (source.size < clusters * clusterSize)
    throw new Refusal(
      `ERROR: Current NTFS volume size is bigger than the device size (${source.size})!\n` +
        "Corrupt partition table or incorrect device partitioning?\n",
    );
}

/** The line about clusters that $BadClus lists. */
export function sayBad(used: InUse, say: Say): void {
  if (used.bad.count > 0)
    say(`WARNING: The disk has ${used.bad.count} or more bad sectors (hardware faults).\n`);
}

/** The clusters to take. */
export interface Taken {
  readonly used: InUse;
  /** Clusters that $Bitmap marks and nothing owns, where they are to be taken as well. */
  readonly extra: BlockSet | null;
  /** Clusters of `used`, without bad ones and the piece behind the last. */
  readonly count: number;
  /** What was said about clusters that $Bitmap and the files disagree about; "" where they agree. */
  readonly accounts: string;
}

/** Announces a walk over the file table, and returns what follows it. */
export function sayScan(o: NtfscloneOptions, volume: NtfsVolume, say: Say): (done: number) => void {
  say("Scanning volume ...\n");
  const last = Math.max(volume.records - 1, 0);
  const progress = o.quiet ? null : new PercentLines(say, 0, last);
  return (done) => progress?.update(Math.min(done, last));
}

/** Walks the volume and compares what files own with $Bitmap. Throws Refusal. */
export async function scan(
  o: NtfscloneOptions,
  volume: NtfsVolume,
  say: Say,
  signal: AbortSignal | undefined,
  rescue: Rescue | null = null,
): Promise<Taken> {
  const onProgress = sayScan(o, volume, say);
  let used: InUse;
  try {
    used = await inUse(volume, {
      ...(signal === undefined ? {} : { signal }),
      onProgress,
      ...(o.ignoreFsCheck
        ? { onDuplicate: (cluster: number) => say(`Cluster ${cluster} is referenced twice!\n`) }
        : {}),
    });
  } catch (error) {
    throw volumeRefusal(error);
  }
  let accounts = "Accounting clusters ...\n";
  say(accounts);
  const difference = await compareBitmap(volume, used).catch((error: unknown) => {
    if (rescue?.lostMetadata !== true || !(error instanceof NtfsError)) throw volumeRefusal(error);
    say(`WARNING: $Bitmap cannot be used: ${printable(error.message)}\n`);
    return null;
  });
  if (difference === null) {
    // Nobody knows what belongs to files whose records were lost.
    const all = new BlockSet(volume.boot.clusters);
    all.add(0, all.limit);
    return { used, extra: o.metadata ? null : all, count: dropBad(used), accounts: "" };
  }
  if (difference.total === 0) return { used, extra: null, count: dropBad(used), accounts: "" };
  // Files whose records were lost cannot account for their clusters.
  const lost = rescue?.lostMetadata === true;
  const strict = !o.ignoreFsCheck && o.fsCheck === "strict" && !lost;
  const union = o.fsCheck === "union" ? "--fs-check=union" : "--rescue, as metadata cannot be read";
  const option = o.ignoreFsCheck ? "the --ignore-fs-check option" : union;
  const lines = differenceLines(difference).map((line) => `${line}\n`);
  if (!strict) lines.push(`WARNING: The NTFS inconsistency was overruled by ${option}.\n`);
  say(lines.join(""));
  if (strict) throw volumeRefusal(differenceError(difference));
  accounts += lines.join("");
  // Among what nobody owns may be contents of files: native alone puts them into an image of metadata, where it is told to.
  const extra = o.metadata && !o.ignoreFsCheck ? null : difference.extra;
  return { used, extra, count: dropBad(used), accounts };
}

/** A refusal of the volume in native's words; other errors as they are. */
export function volumeRefusal(error: unknown): unknown {
  if (!(error instanceof NtfsError)) return error;
  const text = error.nativeText === "" ? error.message : error.nativeText;
  if (error.errno === 0) return refusal(text);
  return systemRefusal(errorName(error.errno), text);
}

/** Writes a clone, an image or the metadata, and commits it. */
async function write(
  o: NtfscloneOptions,
  path: string,
  volume: NtfsVolume,
  output: CloneOutput,
  rescue: Rescue | null,
  say: Say,
  job: JobOptions,
): Promise<void> {
  const taken = await scan(o, volume, say, job.signal, rescue);
  if (!o.metadata) return copy(o, path, volume, output, rescue, taken, say, job);
  rescue?.source.startCopying();
  const { writeMetadata } = await import("./ntfsclone-metadata.ts");
  await writeMetadata(o, volume, output, taken, say, job.signal);
}

async function copy(
  o: NtfscloneOptions,
  path: string,
  volume: NtfsVolume,
  output: CloneOutput,
  rescue: Rescue | null,
  taken: Taken,
  say: Say,
  job: JobOptions,
): Promise<void> {
  const { source } = volume;
  const { clusters, clusterSize } = volume.boot;
  const { used, extra, count } = taken;
  say(spaceLine("", clusterSize, used.clusters, clusters));
  if (output.kind === "file") checkFree(path, used.clusters * clusterSize);
  sayBad(used, say);
  say(o.save ? "Saving NTFS to image ...\n" : "Cloning NTFS ...\n");
  // Native looks for those that nothing owns once more.
  if (o.ignoreFsCheck) say(taken.accounts);
  const geometry: ImageGeometry = { clusterSize, deviceSize: source.size, clusters, inUse: count };
  const toStdout = path === "-" && !o.save;
  const steps = toStdout ? clusters + 1 : count + 1;
  const lines = o.quiet ? null : new PercentLines(say, 1, steps);
  const finish = () => {
    lines?.update(steps);
    say("Syncing ...\n");
  };
  const target = new AnnouncedTarget(output.target, finish);
  const writeback = await writebackOf(output.target);
  // Native puts what nothing owns before all the rest of an image, which then cannot be restored to a pipe.
  const before = o.save && o.ignoreFsCheck && extra !== null ? [extra] : [];
  if (extra !== null && before.length === 0) used.blocks.union(extra);
  if (rescue !== null && (o.save || !output.target.seekable)) rescue.source.startCopying();
  if (o.save) {
    const size = await saveImage(source, [...before, used.blocks], geometry, target, {
      onProgress(done) {
        if (job.signal?.aborted) throw new AbortError();
        lines?.update(done);
        writeback();
      },
    });
    await target.commit(size);
    return;
  }
  const serial = o.serial === "keep" ? null : new NewSerial(o.serial === "half", say);
  const base = serial === null ? source : new NewSerialSource(source, serial);
  const size = volumeEnd(geometry);
  if (rescue !== null && output.target.seekable) {
    await rescue.clone({
      options: o,
      target,
      blocks: used.blocks,
      clusterSize,
      size,
      signal: job.signal,
      onProgress: (done) => lines?.update(done),
      change: serial === null ? null : (bytes, at) => serial.patch(bytes, at),
    });
    await target.commit(size);
    return;
  }
  await writeImage(new SelectedSource(base, used.blocks, clusterSize, size), target, {
    layout: { kind: "raw", clusterSize, guestSize: size, offset: 0 },
    keepZero: output.kind === "device",
    keepRest: output.kind === "device",
    ...(job.signal === undefined ? {} : { signal: job.signal }),
    ...(job.bulk === undefined || serial !== null ? {} : { bulk: job.bulk }),
    onProgress(p) {
      writeback();
      if (p.phase === "copy" && p.total > 0)
        lines?.update(
          toStdout ? Math.floor((p.done / p.total) * clusters) : Math.floor(p.done / clusterSize),
        );
    },
  });
}

const FAULTY_DISK =
  "*************************************************************************\n" +
  "* WARNING: The disk has one or more bad sectors. This means that damage *\n" +
  "* has occurred on the disk surface, possibly caused by deterioration of *\n" +
  "* the physical media, manufacturing faults or other reasons. The        *\n" +
  "* reliability of the disk may stay stable or degrade fast.              *\n" +
  "* Use the --rescue option to efficiently save as much data as possible! *\n" +
  "*************************************************************************\n";

/** An error of a copy in native's words. */
export function failure(error: unknown, output: CloneOutput): unknown {
  if (error instanceof Refusal || error instanceof AbortError || !(error instanceof ImprintError))
    return error;
  if (error instanceof NtfsError) return volumeRefusal(error);
  if (!(error instanceof IoError)) return refusalOf(error);
  if (error.message.startsWith(`${output.target.label}:`)) return systemRefusal(error.code, "Write failed");
  if (error.code === "EIO")
    return new Refusal(`${FAULTY_DISK}ERROR: Disk is faulty, can't make full backup!`);
  if (error.code === "ESHORT") return refusalOf(error);
  return systemRefusal(error.code, "read_all");
}
