import { isSafe, putU32le, putU64le, u32le, u64le } from "../../bytes/endian.ts";
import { FormatError, UnsupportedError } from "../../errors.ts";
import { MOST_CLUSTER } from "../../fs/ntfs/layout.ts";
import { DATA_OFFSET, HEADER, HEADER_BYTES, MAGIC, MAJOR, MINOR, OLD_HEADER_BYTES } from "./layout.ts";

const BACKUP_BOOT_BYTES = 512;

/** What a header says of the volume. */
export interface ImageGeometry {
  /** Bytes. */
  readonly clusterSize: number;
  /** Bytes of the device that was saved. */
  readonly deviceSize: number;
  /** Clusters of the volume; the backup boot sector is in one more, the last that an image can hold. */
  readonly clusters: number;
  /** Clusters in use, as counted by the writer. Informational: it can be anything. */
  readonly inUse: number;
}

/** A header that was read. */
export interface ImageHeader extends ImageGeometry {
  readonly major: number;
  readonly minor: number;
  /** Byte of the image where the commands begin. */
  readonly dataOffset: number;
  /** The same as the header says it, which may be too small; versions before 10 do not say. */
  readonly statedOffset: number;
}

/** An image of a version that is newer than any known. */
export class ImageVersionError extends UnsupportedError {
  /** "11.1". */
  readonly version: string;
  constructor(version: string) {
    super(`ntfsclone image: version ${version} is not known; 10.1 is the newest`);
    this.version = version;
  }
}

/** True where `head` starts as an image of ntfsclone does. */
export function probeHeader(head: Uint8Array): boolean {
  return head.length >= MAGIC.length && MAGIC.every((b, i) => head[i] === b);
}

/** The header of an image written today, and the padding behind it: all bytes before the first command. */
export function encodeHeader(geometry: ImageGeometry): Uint8Array {
  const b = new Uint8Array(DATA_OFFSET);
  b.set(MAGIC, HEADER.magic);
  b[HEADER.major] = MAJOR;
  b[HEADER.minor] = MINOR;
  putU32le(b, HEADER.clusterSize, geometry.clusterSize);
  putU64le(b, HEADER.deviceSize, geometry.deviceSize);
  putU64le(b, HEADER.clusters, geometry.clusters);
  putU64le(b, HEADER.inUse, geometry.inUse);
  putU32le(b, HEADER.dataOffset, DATA_OFFSET);
  return b;
}

/**
 * Reads the header in the first bytes of an image (at least HEADER_BYTES of them, or all there are). Throws FormatError
 * for what is no image ("ENOIMAGE") or has sizes that no volume has, ImageVersionError for a version from 11 on.
 */
export function parseHeader(b: Uint8Array): ImageHeader {
  const fail = (at: number, detail: string, code?: string): never => {
    throw new FormatError("ntfsclone image header", at, detail, code);
  };
  if (b.length < MAGIC.length) fail(b.length, `ends after ${b.length} bytes, ${HEADER_BYTES} are needed`);
  if (!probeHeader(b)) fail(HEADER.magic, "no magic number", "ENOIMAGE");
  const major = b[HEADER.major];
  const minor = b[HEADER.minor];
  const length = major < MAJOR ? OLD_HEADER_BYTES : HEADER_BYTES;
  if (b.length < length) fail(b.length, `ends after ${b.length} bytes, ${length} are needed`);
  if (major > MAJOR) throw new ImageVersionError(`${major}.${minor}`);
  const clusterSize = u32le(b, HEADER.clusterSize);
  if (clusterSize === 0 || clusterSize > MOST_CLUSTER)
    fail(HEADER.clusterSize, `cluster size ${clusterSize}, NTFS has at most ${MOST_CLUSTER}`);
  // It only says where the last cluster ends: beyond what a number holds, nowhere.
  const deviceSize = Math.min(u64le(b, HEADER.deviceSize), Number.MAX_SAFE_INTEGER);
  const clusters = u64le(b, HEADER.clusters);
  if (!isSafe((clusters + 1) * clusterSize)) fail(HEADER.clusters, `${signed(b, HEADER.clusters)} clusters`);
  const statedOffset = major < MAJOR ? DATA_OFFSET : u32le(b, HEADER.dataOffset);
  return {
    major,
    minor,
    clusterSize,
    deviceSize,
    clusters,
    inUse: signed(b, HEADER.inUse),
    dataOffset: major < MAJOR ? length : Math.max(length, statedOffset),
    statedOffset,
  };
}

/** A signed 64-bit field. */
function signed(b: Uint8Array, at: number): number {
  return (u32le(b, at + 4) | 0) * 0x100000000 + u32le(b, at);
}

/** Bytes of the volume with the backup boot sector, as a clone of it has them. */
export function volumeEnd(g: Pick<ImageGeometry, "clusterSize" | "clusters" | "deviceSize">): number {
  return Math.min(g.deviceSize, (g.clusters + 1) * g.clusterSize);
}

/** Bytes that native asks a target to have: the clusters, and a sector for the backup boot sector, whatever its size. */
export function neededBytes(g: Pick<ImageGeometry, "clusterSize" | "clusters">): number {
  return g.clusters * g.clusterSize + BACKUP_BOOT_BYTES;
}

/** Bytes that cluster `lcn` has on the device: fewer than the cluster size at its end, negative behind it. */
export function clusterBytes(g: Pick<ImageGeometry, "clusterSize" | "deviceSize">, lcn: number): number {
  return Math.min(g.clusterSize, g.deviceSize - lcn * g.clusterSize);
}
