import { IoError } from "../../errors.ts";
import { type BootSector, readBackupBoot, readBoot } from "../../fs/ntfs/boot.ts";
import { NtfsError } from "../../fs/ntfs/errors.ts";
import { RECORD_OK, removeFixup } from "../../fs/ntfs/fixup.ts";
import { BOOT_SIZE, FIRST_USER_RECORD, MAGIC_FILE } from "../../fs/ntfs/layout.ts";
import { mirrorRecords } from "../../fs/ntfs/mirror.ts";
import type { Source } from "../../io/source.ts";
import { RescueSource, type RescueSourceOptions } from "../rescue/rescue-source.ts";

/** An NTFS volume on a failing source. */
export interface NtfsRescue {
  readonly source: RescueSource;
  /** What was taken from elsewhere, a line each, for a person. */
  readonly notes: readonly string[];
}

/**
 * Prepares a source with read errors for opening as NTFS: an unreadable boot sector is replaced by its copy, unreadable
 * records of the first system files by those of $MFTMirr and the other way round; clones hold the replacement. Anything
 * else that is unreadable reads as lost sectors. Throws what `readBoot` throws where no boot sector is found.
 */
export async function openNtfsRescue(
  base: Source,
  options: Omit<RescueSourceOptions, "sectorSize">,
): Promise<NtfsRescue> {
  const source = new RescueSource(base, { ...options, sectorSize: BOOT_SIZE });
  const notes: string[] = [];
  let boot: BootSector;
  if (await readable(base, new Uint8Array(BOOT_SIZE), 0)) boot = await readBoot(source);
  else {
    boot = await readBackupBoot(source);
    source.patch(0, boot.raw);
    notes.push(`The boot sector cannot be read: its copy at byte ${boot.offset} is used.`);
  }
  source.sectorSize = boot.bytesPerSector;
  const size = boot.recordSize;
  const count = Math.min(mirrorRecords(boot), FIRST_USER_RECORD);
  const record = new Uint8Array(size);
  for (let i = 0; i < count; i++) {
    const own = boot.mftLcn * boot.clusterSize + i * size;
    const copy = boot.mirrorLcn * boot.clusterSize + i * size;
    for (const [from, to, what] of [
      [copy, own, `Record ${i} of $MFT cannot be read: its copy in $MFTMirr is used.`],
      [own, copy, `Record ${i} of $MFTMirr cannot be read: $MFT's is used.`],
    ] as const) {
      if (await readable(base, record, to)) continue;
      if (!(await readable(base, record, from))) continue;
      if (removeFixup(record.slice(), MAGIC_FILE) !== RECORD_OK) continue;
      source.patch(to, record.slice());
      notes.push(what);
    }
  }
  return { source, notes };
}

/** Fills `into`; false where that is a read error, or the source ends before. */
async function readable(source: Source, into: Uint8Array, at: number): Promise<boolean> {
  if (at >= source.size) return false;
  try {
    const r = source.read(into, at);
    return (r instanceof Promise ? await r : r) === into.length;
  } catch (error) {
    if (error instanceof IoError && error.code === "EIO") return false;
    if (error instanceof NtfsError) return false;
    throw error;
  }
}
