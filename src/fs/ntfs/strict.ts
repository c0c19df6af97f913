import { EIO, ENOENT, NtfsError } from "./errors.ts";
import { type NtfsParts, readInode } from "./inode.ts";
import { AT, FILE_BITMAP, FILE_ROOT, FILE_UPCASE } from "./layout.ts";
import { compareMirror } from "./mirror.ts";
import { openStream } from "./stream.ts";

/** System files the native tool needs before it starts, and what it says where one is missing. */
const NEEDED: readonly (readonly [number, string])[] = [
  [FILE_BITMAP, "Failed to open inode FILE_Bitmap"],
  [FILE_UPCASE, "Failed to open inode FILE_UpCase"],
  [FILE_ROOT, "Failed to open $Secure"],
];

/** Bytes of $UpCase: one unit for each UTF-16 unit. */
const UPCASE_BYTES = 0x20000;

/**
 * What the native tool checks besides when it opens a volume: $MFTMirr, $Bitmap, $UpCase, the root directory. Throws
 * NtfsError.
 */
export async function checkSystemFiles(parts: NtfsParts): Promise<void> {
  const differs = await compareMirror(parts);
  if (differs !== null) throw differs;
  for (const [number, text] of NEEDED) {
    try {
      const inode = await readInode(parts, number);
      if (number === FILE_ROOT) continue;
      const stream = openStream(parts, inode, AT.data);
      if (stream === null)
        throw new NtfsError("NTFS_BAD_ATTRIBUTE", `NTFS record ${number}`, -1, "no data", {
          text: "Failed to open ntfs attribute",
          errno: ENOENT,
        });
      if (number !== FILE_UPCASE) continue;
      if (stream.size > UPCASE_BYTES * 2)
        throw new NtfsError("NTFS_BAD_ATTRIBUTE", "$UpCase", -1, `${stream.size} bytes`, {
          text: "Error: Upcase table is too big",
        });
      const r = stream.read(new Uint8Array(Math.min(stream.size, UPCASE_BYTES)), 0);
      if (r instanceof Promise) await r;
    } catch (error) {
      if (!(error instanceof NtfsError)) throw error;
      throw new NtfsError(
        error.code,
        error.structure,
        error.offset,
        `of record ${number}: ${error.message}`,
        {
          text: error.nativeText === "" ? text : error.nativeText,
          errno: number === FILE_ROOT ? EIO : error.errno,
        },
      );
    }
  }
}
