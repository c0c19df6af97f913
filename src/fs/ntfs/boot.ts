import { isSafe, u16le, u32le } from "../../bytes/endian.ts";
import { readZeroFilled, type Source } from "../../io/source.ts";
import { EINVAL, NtfsError } from "./errors.ts";
import { BOOT, BOOT_SIZE, MOST_RECORD, OEM_ID } from "./layout.ts";
import { i64le } from "./record.ts";

/** What the boot sector says. Sizes in bytes, places in clusters. */
export interface BootSector {
  readonly bytesPerSector: number;
  readonly sectorsPerCluster: number;
  readonly clusterSize: number;
  /** Sectors of the volume, without the backup boot sector after them. */
  readonly sectors: number;
  /** Whole clusters of the volume. */
  readonly clusters: number;
  readonly mftLcn: number;
  readonly mirrorLcn: number;
  /** Bytes of a FILE record. */
  readonly recordSize: number;
  /** Bytes of an index block (directories; other indexes carry their own). */
  readonly indexBlockSize: number;
  readonly serial: bigint;
  readonly hiddenSectors: number;
  /** Where the sector was read, bytes: 0, or the backup's place. */
  readonly offset: number;
  /** The first 512 bytes as stored. */
  readonly raw: Uint8Array;
}

/** True where `head` starts with an NTFS boot sector. */
export function probeNtfs(head: Uint8Array): boolean {
  return head.length >= BOOT_SIZE && hasOemId(head);
}

function hasOemId(b: Uint8Array): boolean {
  for (let i = 0; i < OEM_ID.length; i++) if (b[BOOT.oemId + i] !== OEM_ID.charCodeAt(i)) return false;
  return true;
}

function isPowerOfTwo(v: number): boolean {
  return v > 0 && 2 ** Math.round(Math.log2(v)) === v;
}

/**
 * Reads a boot sector of at least 512 bytes that was found at byte `offset`. Refuses, in the same order and words, what
 * libntfs-3g refuses when it opens a volume. Throws NtfsError NTFS_NOT_NTFS or NTFS_BAD_BOOT.
 */
export function parseBoot(b: Uint8Array, offset = 0): BootSector {
  const refuse = (detail: string, text: string): never => {
    throw new NtfsError("NTFS_BAD_BOOT", "NTFS boot sector", offset, detail, { text, errno: EINVAL });
  };
  if (b.length < BOOT_SIZE || !hasOemId(b))
    throw new NtfsError("NTFS_NOT_NTFS", "NTFS boot sector", offset, "no NTFS signature", {
      text: "NTFS signature is missing.",
      errno: EINVAL,
    });
  const bytesPerSector = u16le(b, BOOT.bytesPerSector);
  if (bytesPerSector < 256 || bytesPerSector > 4096)
    refuse(`${bytesPerSector} bytes a sector`, `Unexpected bytes per sector value (${bytesPerSector}).`);
  const spcCode = b[BOOT.sectorsPerCluster];
  const spcPlain = spcCode > 0 && spcCode <= 128 && isPowerOfTwo(spcCode);
  if (!spcPlain && (spcCode < 240 || spcCode > 253))
    refuse(
      `sectors per cluster code ${spcCode}`,
      `Unexpected sectors per cluster value (${spcCode > 128 ? `code 0x${spcCode.toString(16)}` : spcCode})${spcCode > 128 ? "" : "."}`,
    );
  const sectorsPerCluster = spcPlain ? spcCode : 2 ** (256 - spcCode);
  const clusterSize = bytesPerSector * sectorsPerCluster;
  const zero = [
    u16le(b, BOOT.reservedSectors),
    u16le(b, BOOT.rootEntries),
    u16le(b, BOOT.sectors16),
    u16le(b, BOOT.sectorsPerFat),
    u32le(b, BOOT.sectors32),
    b[BOOT.fats],
  ];
  if (zero.some((v) => v !== 0))
    refuse(
      `fields that must be zero hold ${zero.join(", ")}`,
      `Reserved fields aren't zero (${zero.join(", ")}).`,
    );
  const recordCode = b[BOOT.clustersPerRecord];
  if (!isSizeCode(recordCode))
    refuse(
      `${recordCode} clusters a record`,
      `Unexpected clusters per mft record (${(recordCode << 24) >> 24}).`,
    );
  const indexCode = b[BOOT.clustersPerIndexBlock];
  if (!isSizeCode(indexCode))
    refuse(
      `${indexCode} clusters an index block`,
      `Unexpected clusters per index record (${(indexCode << 24) >> 24}).`,
    );
  const mftLcn = i64le(b, BOOT.mftLcn);
  const mirrorLcn = i64le(b, BOOT.mirrorLcn);
  if (!(mftLcn > 0) || !(mirrorLcn > 0) || mftLcn === mirrorLcn)
    refuse(`$MFT at cluster ${mftLcn}, $MFTMirr at ${mirrorLcn}`, "Invalid location of MFT or MFTMirr.");
  if (!isPowerOfTwo(bytesPerSector)) refuse(`${bytesPerSector} bytes a sector`, "");
  const sectors = i64le(b, BOOT.sectors);
  if (sectors === 0) refuse("the volume has no sectors", "Volume size is set to zero.");
  const exact = exact64(b, BOOT.sectors);
  // Native looks for the last sector at this byte, overflows included.
  const last = BigInt.asIntN(64, (exact - 1n) * BigInt(bytesPerSector));
  if (last < 0n || last > BigInt(Number.MAX_SAFE_INTEGER))
    refuse(
      `${sectors} sectors`,
      `Failed to read last sector (${exact - 1n})\n` +
        "HINTS: Either the volume is a RAID/LDM but it wasn't setup yet,\n" +
        "   or it was not setup correctly (e.g. by not using mdadm --build ...),\n" +
        "   or a wrong device is tried to be mounted,\n" +
        "   or the partition table is corrupt (partition is smaller than NTFS),\n" +
        "   or the NTFS boot sector is corrupt (NTFS size is not valid).",
    );
  if (sectors < 0 || !isSafe(sectors * bytesPerSector))
    refuse(
      `${sectors} sectors`,
      `$MFT LCN (${mftLcn}) or $MFTMirr LCN (${mirrorLcn}) is greater than the number of clusters ` +
        `(${exact >> BigInt(Math.log2(sectorsPerCluster))}).`,
    );
  const clusters = Math.floor(sectors / sectorsPerCluster);
  if (mftLcn > clusters || mirrorLcn > clusters)
    refuse(
      `$MFT at cluster ${mftLcn}, $MFTMirr at ${mirrorLcn} of ${clusters}`,
      `$MFT LCN (${exact64(b, BOOT.mftLcn)}) or $MFTMirr LCN (${exact64(b, BOOT.mirrorLcn)}) is greater than the number of clusters (${clusters}).`,
    );
  const recordSize = sizeOf(recordCode, clusterSize);
  const indexBlockSize = sizeOf(indexCode, clusterSize);
  if (recordSize < 512 || recordSize > MOST_RECORD)
    throw new NtfsError("NTFS_BAD_BOOT", "NTFS boot sector", offset, `FILE records of ${recordSize} bytes`, {
      text: "Error reading $MFT",
    });
  return {
    bytesPerSector,
    sectorsPerCluster,
    clusterSize,
    sectors,
    clusters,
    mftLcn,
    mirrorLcn,
    recordSize,
    indexBlockSize,
    serial: BigInt(u32le(b, BOOT.serial)) | (BigInt(u32le(b, BOOT.serial + 4)) << 32n),
    hiddenSectors: u32le(b, BOOT.hiddenSectors),
    offset,
    raw: b.slice(0, BOOT_SIZE),
  };
}

/** 2^-code bytes (225..247 as i8: -31..-9), or 1, 2, 4 .. 64 clusters. */
function isSizeCode(code: number): boolean {
  return (code >= 0xe1 && code <= 0xf7) || (code >= 1 && code <= 64 && isPowerOfTwo(code));
}

function sizeOf(code: number, clusterSize: number): number {
  return code >= 0xe1 ? 2 ** (256 - code) : code * clusterSize;
}

/** A signed 64-bit field for messages. */
function exact64(b: Uint8Array, at: number): bigint {
  return BigInt.asIntN(64, (BigInt(u32le(b, at + 4)) << 32n) | BigInt(u32le(b, at)));
}

/** The boot sector at byte `at` of a source. Throws NtfsError, IoError. */
export async function readBoot(source: Source, at = 0): Promise<BootSector> {
  if (at + BOOT_SIZE > source.size)
    throw new NtfsError("NTFS_NOT_NTFS", "NTFS boot sector", at, `the source ends at byte ${source.size}`, {
      text:
        source.size <= at
          ? "Failed to read bootsector (size=0)"
          : "Error reading bootsector: Invalid argument",
      errno: EINVAL,
    });
  return parseBoot(await readZeroFilled(source, at, BOOT_SIZE), at);
}

/**
 * The backup boot sector: NTFS keeps a copy in the sector after the volume's last one, which is the last of its
 * partition; very old volumes keep it in the middle. Throws NtfsError where none is found.
 */
export async function readBackupBoot(source: Source): Promise<BootSector> {
  for (const sector of [512, 1024, 2048, 4096, 256]) {
    for (const end of [source.size, Math.floor(source.size / sector) * sector]) {
      const at = end - sector;
      if (at <= 0) continue;
      const found = await tryBoot(source, at);
      if (found !== null && found.bytesPerSector === sector) return found;
    }
  }
  const middle = await tryBoot(source, Math.floor(source.size / 1024) * 512);
  if (middle !== null) return middle;
  throw new NtfsError("NTFS_NOT_NTFS", "NTFS backup boot sector", -1, "no copy at the end of the source", {
    text: "NTFS signature is missing.",
    errno: EINVAL,
  });
}

async function tryBoot(source: Source, at: number): Promise<BootSector | null> {
  try {
    return await readBoot(source, at);
  } catch (error) {
    if (error instanceof NtfsError) return null;
    throw error;
  }
}
