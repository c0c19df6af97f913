import { BlockSet } from "../../bytes/block-set.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { BITMAP_PIECE, bitmapBytes, eachBitmapPiece, openBitmap } from "./bitmap.ts";
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
  /** Clusters nothing owns of which $Bitmap's mark cannot be read. In `extra` too, but no mismatches. */
  readonly unknown: number;
}

export interface CompareOptions {
  /** Where $Bitmap has read errors, its marks count as set; else they are thrown. */
  readonly survive?: boolean;
}

/**
 * Compares $Bitmap with the clusters in use (before bad ones are dropped), as native does. Bits from the
 * volume's end to the end of their byte must be set. Throws NTFS_BITMAP_TOO_SMALL, NtfsError for a $Bitmap that
 * cannot be read, IoError.
 */
export async function compareBitmap(
  parts: NtfsParts,
  used: InUse,
  options: CompareOptions = {},
): Promise<BitmapDifference> {
  const stream = await openBitmap(parts);
  const bytes = bitmapBytes(parts, stream);
  const limit = parts.boot.clusters + 1;
  const extra = new BlockSet(limit);
  const first: Mismatch[] = [];
  let missing = 0;
  let total = 0;
  let unknown = 0;
  /** Bytes of $Bitmap that cannot be read. */
  const lost = new BlockSet(bytes);
  const note = (cluster: number, kind: "extra" | "missing") => {
    if (lost.has(Math.floor(cluster / 8))) {
      if (kind === "extra" && cluster < limit) unknown += extra.add(cluster);
      return;
    }
    if (first.length < MOST_NAMED) first.push({ cluster, kind });
    total++;
    if (kind === "missing") missing++;
    else extra.add(cluster);
  };
  const kernel = Kernel.get();
  const slot = kernel.take(BITMAP_PIECE);
  const mine = kernel.take(BITMAP_PIECE);
  try {
    await eachBitmapPiece(
      stream,
      bytes,
      (marked, at) => {
        const own = mine.bytes.subarray(0, marked.length);
        used.blocks.bits(at * 8, own);
        const end = (at + marked.length) * 8;
        for (let bit = Math.max(limit, at * 8); bit < end; bit++)
          own[Math.floor(bit / 8) - at] |= 1 << (bit & 7);
        for (let i = 0; i < marked.length; i++) {
          const next = kernel.firstDifference(slot.at + i, mine.at + i, marked.length - i);
          if (next < 0) return;
          i += next;
          for (let bit = 0; bit < 8; bit++)
            if ((((marked[i] ^ own[i]) >>> bit) & 1) === 1)
              note((at + i) * 8 + bit, ((marked[i] >>> bit) & 1) === 1 ? "extra" : "missing");
        }
      },
      slot.bytes,
      options.survive === true ? (from, to) => lost.add(from, to) : undefined,
    );
  } finally {
    kernel.give(mine);
    kernel.give(slot);
  }
  return { extra, missing, total, first, unknown };
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
