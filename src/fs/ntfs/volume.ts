import { u16le } from "../../bytes/endian.ts";
import { IoError } from "../../errors.ts";
import type { Source } from "../../io/source.ts";
import type { InfoField, Selection, SelectOptions, Volume } from "../volume.ts";
import { type BootSector, readBackupBoot, readBoot } from "./boot.ts";
import { ENOENT, EOPNOTSUPP, NtfsError } from "./errors.ts";
import { describe } from "./info.ts";
import { type Inode, type NtfsParts, readInode } from "./inode.ts";
import { AT, FILE_VOLUME, VI, VOLUME_DIRTY } from "./layout.ts";
import type { Mft, RecordScan } from "./mft.ts";
import { compareMirror } from "./mirror.ts";
import type { FileOnClusters } from "./names.ts";
import { openMft } from "./open-mft.ts";
import { utf16 } from "./record.ts";
import { checkSystemFiles } from "./strict.ts";
import type { NtfsTree } from "./tree.ts";

export interface NtfsOpenOptions {
  /** Use the copy of the boot sector at the end of the source where the first one is destroyed. Default false. */
  readonly backupBoot?: boolean;
  /**
   * Open it as the native tool does: refuse it where system files it needs cannot be read or $MFTMirr differs
   * from $MFT, and leave the version to `checkVersion`, which it looks at later. Default false: no more than what
   * is needed, and a warning.
   */
  readonly strict?: boolean;
}

/** An NTFS volume. */
export class NtfsVolume implements Volume, NtfsParts {
  readonly kind = "ntfs";
  /** Bytes it covers, the backup boot sector after its last sector included where the source has it. */
  readonly size: number;
  /** Bytes a cluster. */
  readonly blockSize: number;
  readonly source: Source;
  readonly boot: BootSector;
  readonly mft: Mft;
  readonly version: { readonly major: number; readonly minor: number };
  /** $Volume flags; bit 0 is "dirty". */
  readonly flags: number;
  readonly label: string;
  /** Lines for a person: what was odd when it was opened. */
  readonly warnings: readonly string[];

  /** Use openNtfs. */
  constructor(source: Source, boot: BootSector, mft: Mft, facts: VolumeFacts, warnings: readonly string[]) {
    this.source = source;
    this.boot = boot;
    this.mft = mft;
    this.version = facts.version;
    this.flags = facts.flags;
    this.label = facts.label;
    this.warnings = warnings;
    this.blockSize = boot.clusterSize;
    const bytes = boot.sectors * boot.bytesPerSector;
    this.size = Math.max(bytes, Math.min(bytes + boot.bytesPerSector, source.size));
  }

  get dirty(): boolean {
    return (this.flags & VOLUME_DIRTY) !== 0;
  }

  /** Records of the master file table: initialized size / record size. */
  get records(): number {
    return this.mft.records;
  }

  info(): InfoField[] {
    return describe(this);
  }

  /** Opens an inode with all its attributes; see readInode for errors. */
  inode(number: number): Promise<Inode> {
    return readInode(this, number);
  }

  /** Batches of records [from, to), fixups removed; `close` what is returned. */
  scan(from?: number, to?: number): RecordScan {
    return this.mft.scan(from, to);
  }

  /** The files that lie on byte ranges (from, to) of the volume; see filesOn in names.ts. */
  async filesOn(ranges: Iterable<readonly [from: number, to: number]>): Promise<FileOnClusters[]> {
    const { clustersOf, filesOn } = await import("./names.ts");
    return filesOn(this, clustersOf(this, ranges));
  }

  /** Its files and folders. */
  async tree(): Promise<NtfsTree> {
    const { NtfsTree } = await import("./tree.ts");
    return new NtfsTree(this);
  }

  /** Decides which clusters to take; see Volume.select. */
  async select(options: SelectOptions): Promise<Selection> {
    const { select } = await import("./select.ts");
    return select(this, options);
  }
}

/**
 * Opens an NTFS volume that starts at byte 0 of `source`. Throws NtfsError (see errors.ts; `nativeText` and `errno` are
 * native's), IoError from the source.
 */
export async function openNtfs(source: Source, options: NtfsOpenOptions = {}): Promise<NtfsVolume> {
  const warnings: string[] = [];
  const boot = await openBoot(source, options, warnings);
  const mft = await openMft(source, boot);
  const parts = { source, boot, mft };
  if (options.strict === true) await checkSystemFiles(parts);
  else {
    const differs = await compareMirror(parts).catch((error: unknown) => {
      if (error instanceof IoError) return error;
      throw error;
    });
    if (differs !== null) warnings.push(differs.message);
  }
  const volume = new NtfsVolume(source, boot, mft, await readVolumeFacts(parts), warnings);
  if (options.strict !== true) checkVersion(volume);
  return volume;
}

/** Throws NtfsError NTFS_VERSION for a version of NTFS that the native tool does not know. */
export function checkVersion(volume: NtfsVolume): void {
  const { major, minor } = volume.version;
  const known = major === 1 ? minor === 1 || minor === 2 : major === 3 ? minor <= 1 : major === 2;
  if (known) return;
  throw new NtfsError("NTFS_VERSION", "$Volume", -1, `version ${major}.${minor} is not known`, {
    text: "Unknown NTFS version",
    errno: EOPNOTSUPP,
  });
}

async function openBoot(source: Source, options: NtfsOpenOptions, warnings: string[]): Promise<BootSector> {
  try {
    return await readBoot(source);
  } catch (error) {
    if (options.backupBoot !== true || !(error instanceof NtfsError)) throw error;
    const boot = await readBackupBoot(source).catch(() => {
      throw error;
    });
    warnings.push(`${error.message}; the copy at byte ${boot.offset} is used`);
    return boot;
  }
}

interface VolumeFacts {
  readonly version: { readonly major: number; readonly minor: number };
  readonly flags: number;
  readonly label: string;
}

async function readVolumeFacts(parts: NtfsParts): Promise<VolumeFacts> {
  const inode = await readInode(parts, FILE_VOLUME);
  const facts = inode.attributes.find((a) => a.type === AT.volumeInformation && !a.nonResident);
  if (facts === undefined || facts.valueLength < VI.flags + 2)
    throw new NtfsError(
      "NTFS_BAD_VOLUME_FILE",
      "$Volume",
      parts.mft.place(FILE_VOLUME),
      "no volume information",
      {
        text: "$VOLUME_INFORMATION attribute not found in $Volume",
        errno: ENOENT,
      },
    );
  const { value } = facts;
  const version = { major: value[VI.major], minor: value[VI.minor] };
  const name = inode.attributes.find((a) => a.type === AT.volumeName && !a.nonResident);
  const label = name === undefined ? "" : utf16(name.value, 0, Math.floor(name.valueLength / 2));
  return { version, flags: u16le(value, VI.flags), label };
}

export { probeNtfs } from "./boot.ts";
