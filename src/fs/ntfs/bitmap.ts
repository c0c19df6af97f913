import { IoError } from "../../errors.ts";
import { NtfsError } from "./errors.ts";
import { type NtfsParts, readInode } from "./inode.ts";
import { AT, FILE_BITMAP } from "./layout.ts";
import { openStream, type Stream } from "./stream.ts";

/** Bytes of $Bitmap read at once. */
export const BITMAP_PIECE = 256 * 1024;

/** $Bitmap's contents. Throws NtfsError NTFS_BAD_BITMAP where it has none. */
export async function openBitmap(parts: NtfsParts): Promise<Stream> {
  const stream = openStream(parts, await readInode(parts, FILE_BITMAP), AT.data);
  if (stream === null)
    throw new NtfsError("NTFS_BAD_BITMAP", "$Bitmap", parts.mft.place(FILE_BITMAP), "it has no $DATA", {
      text: "Couldn't get $Bitmap $DATA",
    });
  return stream;
}

/**
 * Bytes of $Bitmap that are looked at: one bit for each cluster and, where it has one, one for the piece after the
 * last. Throws NTFS_BITMAP_TOO_SMALL where it lacks bits of clusters.
 */
export function bitmapBytes(parts: NtfsParts, stream: Stream): number {
  const { clusters } = parts.boot;
  const wanted = Math.ceil(clusters / 8);
  if (stream.size < wanted)
    throw new NtfsError("NTFS_BITMAP_TOO_SMALL", "$Bitmap", -1, `${stream.size} bytes of ${wanted}`, {
      text: `$Bitmap size is smaller than expected (${stream.size} < ${wanted})`,
      errno: 0,
    });
  return Math.min(stream.size, Math.ceil((clusters + 1) / 8));
}

/** Bytes of $Bitmap that are lost together where they cannot be read. */
const SECTOR = 512;

/**
 * Hands over $Bitmap's first `length` bytes, a piece at a time in `buffer`; `bytes` holds until `use`
 * returns. With `onLost` what cannot be read (EIO) has all bits set, and `onLost` is told which bytes these
 * are, before `use` gets them.
 */
export async function eachBitmapPiece(
  stream: Stream,
  length: number,
  use: (bytes: Uint8Array, at: number) => void,
  buffer: Uint8Array = new Uint8Array(Math.min(BITMAP_PIECE, length)),
  onLost?: (from: number, to: number) => unknown,
): Promise<void> {
  for (let at = 0; at < length; at += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, length - at));
    if (!(await reads(stream, piece, at, onLost !== undefined)))
      for (let i = 0; i < piece.length; i += SECTOR) {
        const sector = piece.subarray(i, i + SECTOR);
        if (await reads(stream, sector, at + i, true)) continue;
        sector.fill(0xff);
        onLost?.(at + i, at + i + sector.length);
      }
    use(piece, at);
  }
}

function unreadable(error: NtfsError): NtfsError {
  return new NtfsError("NTFS_BAD_BITMAP", "$Bitmap", -1, error.message, {
    text: "Couldn't get $Bitmap $DATA",
  });
}

/** False for a read error, where that is to be survived. */
async function reads(stream: Stream, into: Uint8Array, at: number, survive: boolean): Promise<boolean> {
  try {
    const r = stream.read(into, at);
    if (r instanceof Promise) await r;
    return true;
  } catch (error) {
    if (survive && error instanceof IoError && error.code === "EIO") return false;
    if (error instanceof NtfsError && error.nativeText === "") throw unreadable(error);
    throw error;
  }
}
