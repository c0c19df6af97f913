import { ImprintError, IoError } from "../../src/errors.ts";
import { NtfsError } from "../../src/fs/ntfs/errors.ts";
import { checkVersion, type NtfsVolume, openNtfs } from "../../src/fs/ntfs/volume.ts";
import type { Source } from "../../src/io/source.ts";
import type { NtfscloneOptions } from "./ntfsclone-options.ts";
import type { Rescue } from "./ntfsclone-rescue.ts";
import {
  errorName,
  Refusal,
  refusal,
  refusalOf,
  type Say,
  systemRefusal,
  volumeSizeLine,
} from "./ntfsclone-text.ts";

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

/** A refusal for what went wrong while the volume was opened. */
export function openFailure(o: NtfscloneOptions, error: unknown): Refusal {
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

/** The lines about the volume and its device. Throws Refusal for a device that is too small. */
export function sayVolume(volume: NtfsVolume, source: Source, say: Say): void {
  const { clusters, clusterSize } = volume.boot;
  sayGeometry(volume, say);
  say(volumeSizeLine("Current device size", source.size));
  if (source.size < clusters * clusterSize)
    throw new Refusal(
      `ERROR: Current NTFS volume size is bigger than the device size (${source.size})!\n` +
        "Corrupt partition table or incorrect device partitioning?\n",
    );
}

/** A refusal of the volume in native's words; other errors as they are. */
export function volumeRefusal(error: unknown): unknown {
  if (!(error instanceof NtfsError)) return error;
  const text = error.nativeText === "" ? error.message : error.nativeText;
  if (error.errno === 0) return refusal(text);
  return systemRefusal(errorName(error.errno), text);
}
