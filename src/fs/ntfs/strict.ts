import { u16le } from "../../bytes/endian.ts";
import { EINVAL, EIO, ENOENT, NtfsError } from "./errors.ts";
import { extentsOf, type Inode, type NtfsParts, readWholeInode } from "./inode.ts";
import {
  AT,
  FILE_ATTR_DEF,
  FILE_BITMAP,
  FILE_ROOT,
  FILE_SECURE,
  FILE_UPCASE,
  FILE_VOLUME,
  VI,
} from "./layout.ts";
import { compareMirror } from "./mirror.ts";
import { openStream, type Stream } from "./stream.ts";

/** System files the native tool needs before it starts, in its order, and what it says where one is missing. */
const NEEDED: readonly (readonly [number, string])[] = [
  [FILE_BITMAP, "Failed to open inode FILE_Bitmap"],
  [FILE_UPCASE, "Failed to open inode FILE_UpCase"],
  [FILE_VOLUME, "Failed to open inode FILE_Volume"],
  [FILE_ATTR_DEF, "Failed to open $AttrDef"],
  [FILE_ROOT, "Failed to open $Secure"],
  [FILE_SECURE, "Failed to open $Secure"],
];

/** Bytes of $UpCase: one unit for each UTF-16 unit. */
const UPCASE_BYTES = 0x20000;
/** Bytes of $AttrDef that native has room for. */
const MOST_ATTR_DEF = 0xffffff;
/** Least version of NTFS with a $Secure. */
const SECURE_VERSION = 3;

/**
 * What the native tool checks besides when it opens a volume: $MFTMirr, $Bitmap, $UpCase, $Volume, $AttrDef, the root
 * directory, $Secure. Throws NtfsError.
 */
export async function checkSystemFiles(parts: NtfsParts): Promise<void> {
  const differs = await compareMirror(parts);
  if (differs !== null) throw differs;
  let version = 0;
  for (const [number, text] of NEEDED) {
    if (number === FILE_SECURE && version < SECURE_VERSION) continue;
    try {
      const inode = await readWholeInode(parts, number);
      if (number === FILE_VOLUME) version = versionOf(inode);
      else if (number === FILE_UPCASE) await checkUpcase(parts, inode);
      else if (number === FILE_ATTR_DEF) await checkAttrDef(parts, inode);
      else if (number === FILE_BITMAP) hasData(inode);
      else if (number === FILE_ROOT) checkRoot(inode);
    } catch (error) {
      if (!(error instanceof NtfsError)) throw error;
      throw new NtfsError(
        error.code,
        error.structure,
        error.offset,
        `of record ${number}: ${error.message}`,
        {
          text: error.nativeText === "" ? text : error.nativeText,
          errno: error.code === "NTFS_NO_RECORD" && isSecure(number) ? EIO : error.errno,
        },
      );
    }
  }
}

/** Found through the root directory: native's error is another one there. */
function isSecure(number: number): boolean {
  return number === FILE_ROOT || number === FILE_SECURE;
}

function versionOf(inode: Inode): number {
  const facts = inode.attributes.find((a) => a.type === AT.volumeInformation && !a.nonResident);
  return facts === undefined ? 0 : facts.value[VI.major];
}

/** Native looks where the data lies only when it walks the volume. */
function hasData(inode: Inode): void {
  if (extentsOf(inode, AT.data).length === 0) throw noData(inode);
}

function dataOf(parts: NtfsParts, inode: Inode): Stream {
  const stream = openStream(parts, inode, AT.data);
  if (stream === null) throw noData(inode);
  return stream;
}

function noData(inode: Inode): NtfsError {
  return new NtfsError("NTFS_BAD_ATTRIBUTE", `NTFS record ${inode.number}`, -1, "no data", {
    text: "Failed to open ntfs attribute",
    errno: ENOENT,
  });
}

/** Bytes of the unnamed data as its first extent says; 0 where there is none. */
function sizeOf(inode: Inode): number {
  return extentsOf(inode, AT.data)[0]?.size ?? 0;
}

function checkRoot(inode: Inode): void {
  if (extentsOf(inode, AT.indexRoot, "$I30").length > 0) return;
  throw new NtfsError("NTFS_BAD_ATTRIBUTE", "root directory", -1, "no index root", {
    text: `Index root attribute missing in directory inode ${inode.number}`,
    errno: ENOENT,
  });
}

/** Native wants the capitals of the printable ASCII characters in their places. */
async function checkUpcase(parts: NtfsParts, inode: Inode): Promise<void> {
  const size = sizeOf(inode);
  const bad = (detail: string, text: string, errno: number) =>
    new NtfsError("NTFS_BAD_ATTRIBUTE", "$UpCase", -1, detail, { text, errno });
  const hasData = extentsOf(inode, AT.data).length > 0;
  if (hasData && (!(size > 0 && size <= UPCASE_BYTES) || size % 2 !== 0))
    throw bad(`${size} bytes`, `Error: Upcase table is invalid (want size even <= ${UPCASE_BYTES}).`, EINVAL);
  const stream = dataOf(parts, inode);
  const bytes = new Uint8Array(size);
  const r = stream.read(bytes, 0);
  if (r instanceof Promise) await r;
  for (let c = 0x20; c < 0x7f; c++) {
    const capital = c >= 0x61 && c <= 0x7a ? c - 0x20 : c;
    if (c * 2 >= size || u16le(bytes, c * 2) !== capital)
      throw bad(`no capital for character ${c}`, "Corrupted file $UpCase", EIO);
  }
}

async function checkAttrDef(parts: NtfsParts, inode: Inode): Promise<void> {
  const size = sizeOf(inode);
  // A negative size is a large one to native.
  if (size < 0 || size > MOST_ATTR_DEF)
    throw new NtfsError("NTFS_BAD_ATTRIBUTE", "$AttrDef", -1, `${size} bytes`, {
      text: "Attribute definition table is too big (max 24-bit allowed).",
      errno: EINVAL,
    });
  const stream = dataOf(parts, inode);
  const r = stream.read(new Uint8Array(Math.min(stream.size, stream.initialized)), 0);
  if (r instanceof Promise) await r;
}
