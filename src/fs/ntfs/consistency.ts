import { BlockSet } from "../../bytes/block-set.ts";
import { bitmapBytes, eachBitmapPiece, openBitmap } from "./bitmap.ts";
import { NtfsError } from "./errors.ts";
import type { InUse } from "./in-use.ts";
import type { NtfsParts } from "./inode.ts";

/** Mismatches that are named. */
export const MOST_NAMED = 10;

/** A cluster that $Bitmap and the files disagree about: marked and not owned ("extra"), or owned and not marked. */
export interface Mismatch {
  readonly cluster: number;
  readonly kind: "extra" | "missing";
}

/** How $Bitmap and the clusters in use differ. */
export interface BitmapDifference {
  /** Clusters $Bitmap marks and nothing owns. */
  readonly extra: BlockSet;
  /** Number of clusters that are owned and not marked. */
  readonly missing: number;
  /** Mismatches in all; bits after the last cluster count, as in native. */
  readonly total: number;
  /** The first ten, ascending. */
  readonly first: readonly Mismatch[];
}

/**
 * Compares $Bitmap with the clusters in use (before bad ones are dropped), as native does. Bits from the volume's end to the
 * end of their byte must be set. Throws NTFS_BITMAP_TOO_SMALL, NtfsError for a $Bitmap that cannot be read, IoError.
 */
export async function compareBitmap(parts: NtfsParts, used: InUse): Promise<BitmapDifference> {
  const stream = await openBitmap(parts);
  const bytes = bitmapBytes(parts, stream);
  const bits = bytes * 8;
  const limit = parts.boot.clusters + 1;
  const extra = new BlockSet(limit);
  const first: Mismatch[] = [];
  let missing = 0;
  let total = 0;
  const note = (cluster: number, kind: "extra" | "missing") => {
    if (first.length < MOST_NAMED) first.push({ cluster, kind });
    total++;
    if (kind === "missing") missing++;
    else extra.add(cluster);
  };
  let own = new Uint8Array(0);
  await eachBitmapPiece(stream, bytes, (marked, at) => {
    if (own.length < marked.length) own = new Uint8Array(marked.length);
    const mine = own.subarray(0, marked.length);
    used.blocks.bits(at * 8, mine);
    const to = (at + marked.length) * 8;
    for (let bit = Math.max(limit, at * 8); bit < Math.min(to, bits); bit++)
      mine[(bit >>> 3) - at] |= 1 << (bit & 7);
    for (let i = 0; i < marked.length; i++) {
      let difference = marked[i] ^ mine[i];
      while (difference !== 0) {
        const bit = 31 - Math.clz32(difference & -difference);
        difference &= difference - 1;
        note((at + i) * 8 + bit, (marked[i] >>> bit) & 1 ? "extra" : "missing");
      }
    }
  });
  return { extra, missing, total, first };
}

/** The lines native prints of a difference; empty where there is none. */
export function differenceLines(difference: BitmapDifference): string[] {
  if (difference.total === 0) return [];
  return [
    ...difference.first.map(
      (m) =>
        `Cluster accounting failed at ${m.cluster} (0x${m.cluster.toString(16)}): ${m.kind} cluster in $Bitmap`,
    ),
    `Totally ${difference.total} cluster accounting mismatches.`,
  ];
}

/** What the native tool refuses such a volume with. */
export function differenceError(difference: BitmapDifference): NtfsError {
  return new NtfsError(
    "NTFS_BITMAP_DIFFERS",
    "$Bitmap",
    -1,
    `${difference.extra.count} clusters are marked and not owned, ${difference.missing} owned and not marked`,
    {
      text:
        "Filesystem check failed! Windows wasn't shutdown properly or inconsistent\n" +
        "filesystem. Please run chkdsk /f on Windows then reboot it TWICE.",
      errno: 0,
    },
  );
}
