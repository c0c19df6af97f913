import type { JobOptions } from "../../src/engine/api.ts";
import { SelectedSource } from "../../src/engine/selected-source.ts";
import { writeImage } from "../../src/engine/write.ts";
import { AbortError, ImprintError, IoError } from "../../src/errors.ts";
import { NtfsError } from "../../src/fs/ntfs/errors.ts";
import type { NtfsVolume } from "../../src/fs/ntfs/volume.ts";
import { type ImageGeometry, neededBytes, volumeEnd } from "../../src/image/ntfsclone/header.ts";
import { ImagePlaces } from "../../src/image/ntfsclone/places.ts";
import { saveImage } from "../../src/image/ntfsclone/writer.ts";
import { withJob } from "../commands/job.ts";
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
import { sayBad, scan, type Taken } from "./ntfsclone-scan.ts";
import { NewSerial, NewSerialSource } from "./ntfsclone-serial.ts";
import { Refusal, refusalOf, type Say, spaceLine, systemRefusal } from "./ntfsclone-text.ts";
import { openFailure, openSource, openVolume, sayVolume, volumeRefusal } from "./ntfsclone-volume.ts";

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
    const opened = await openCloneOutput(output, {
      image: o.save,
      bytes: o.save ? 0 : neededBytes(volume.boot),
      stream: o.save && !o.metadata,
      sources: [o.source],
      // What was rescued before an interruption is what a later run goes on from.
      inPlace: o.mapfile !== null && !o.save && !o.metadata,
      resume: rescue?.resumes === true,
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
  rescue?.startCopying(o, false);
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
  if (rescue !== null && (o.save || !output.target.seekable))
    rescue.startCopying(o, o.save && output.target.seekable);
  if (o.save) {
    const sets = [...before, used.blocks];
    const size = await saveImage(source, sets, geometry, target, {
      onProgress(done) {
        if (job.signal?.aborted) throw new AbortError();
        lines?.update(done);
        writeback();
      },
    });
    if (rescue !== null && output.target.seekable) {
      const places = new ImagePlaces(sets, geometry);
      await rescue.settle(o, job.signal, (bytes, at) => target.write(bytes, places.of(at)));
    }
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
