import { BlockSet } from "../../src/bytes/block-set.ts";
import { compareBitmap, differenceError, differenceLines } from "../../src/fs/ntfs/consistency.ts";
import { NtfsError } from "../../src/fs/ntfs/errors.ts";
import { dropBad, type InUse, inUse } from "../../src/fs/ntfs/in-use.ts";
import type { NtfsVolume } from "../../src/fs/ntfs/volume.ts";
import { printable } from "../ui/format.ts";
import type { NtfscloneOptions } from "./ntfsclone-options.ts";
import { PercentLines } from "./ntfsclone-progress.ts";
import type { Rescue } from "./ntfsclone-rescue.ts";
import type { Say } from "./ntfsclone-text.ts";
import { volumeRefusal } from "./ntfsclone-volume.ts";

/** The line about clusters that $BadClus lists. */
export function sayBad(used: InUse, say: Say): void {
  if (used.bad.count > 0)
    say(`WARNING: The disk has ${used.bad.count} or more bad sectors (hardware faults).\n`);
}

/** The clusters to take. */
export interface Taken {
  readonly used: InUse;
  /** Clusters that $Bitmap marks and nothing owns, where they are to be taken as well. */
  readonly extra: BlockSet | null;
  /** Clusters of `used`, without bad ones and the piece behind the last. */
  readonly count: number;
  /** For -m: the records that may own metadata. */
  readonly owners: BlockSet | null;
  /** What was said about clusters that $Bitmap and the files disagree about; "" where they agree. */
  readonly accounts: string;
}

/** Announces a walk over the file table, and returns what follows it. */
export function sayScan(o: NtfscloneOptions, volume: NtfsVolume, say: Say): (done: number) => void {
  say("Scanning volume ...\n");
  const last = Math.max(volume.records - 1, 0);
  const progress = o.quiet ? null : new PercentLines(say, 0, last);
  return (done) => progress?.update(Math.min(done, last));
}

/** Walks the volume and compares what files own with $Bitmap. Throws Refusal. */
export async function scan(
  o: NtfscloneOptions,
  volume: NtfsVolume,
  say: Say,
  signal: AbortSignal | undefined,
  rescue: Rescue | null = null,
): Promise<Taken> {
  const onProgress = sayScan(o, volume, say);
  const owners = o.metadata ? new BlockSet(volume.records) : null;
  let used: InUse;
  try {
    used = await inUse(volume, {
      ...(signal === undefined ? {} : { signal }),
      onProgress,
      ...(owners === null ? {} : { owners }),
      ...(o.ignoreFsCheck
        ? { onDuplicate: (cluster: number) => say(`Cluster ${cluster} is referenced twice!\n`) }
        : {}),
    });
  } catch (error) {
    throw volumeRefusal(error);
  }
  let accounts = "Accounting clusters ...\n";
  say(accounts);
  const parts =
    rescue === null ? volume : { source: rescue.source.strict, boot: volume.boot, mft: volume.mft };
  const difference = await compareBitmap(parts, used, { survive: rescue !== null }).catch(
    (error: unknown) => {
      if (rescue?.lostMetadata !== true || !(error instanceof NtfsError)) throw volumeRefusal(error);
      say(`WARNING: $Bitmap cannot be used: ${printable(error.message)}\n`);
      return null;
    },
  );
  if (difference === null) {
    // Nobody knows what belongs to files whose records were lost.
    const all = new BlockSet(volume.boot.clusters);
    all.add(0, all.limit);
    return { used, extra: o.metadata ? null : all, count: dropBad(used), owners, accounts: "" };
  }
  if (difference.unknown > 0)
    say(
      `WARNING: A part of $Bitmap cannot be read: ${difference.unknown} clusters that it describes are taken as in use.\n`,
    );
  if (difference.total === 0) {
    const wanted = o.metadata ? o.ignoreFsCheck : difference.unknown > 0;
    // Native counts once more for metadata, and else only where that matters.
    const again = o.metadata ? accounts : "";
    return { used, extra: wanted ? difference.extra : null, count: dropBad(used), owners, accounts: again };
  }
  // Files whose records were lost cannot account for their clusters.
  const lost = rescue?.lostMetadata === true;
  const strict = !o.ignoreFsCheck && o.fsCheck === "strict" && !lost;
  const union = o.fsCheck === "union" ? "--fs-check=union" : "--rescue, as metadata cannot be read";
  const option = o.ignoreFsCheck ? "the --ignore-fs-check option" : union;
  const lines = differenceLines(difference).map((line) => `${line}\n`);
  if (!strict) lines.push(`WARNING: The NTFS inconsistency was overruled by ${option}.\n`);
  say(lines.join(""));
  if (strict) throw volumeRefusal(differenceError(difference));
  accounts += lines.join("");
  // Among what nobody owns may be contents of files: native alone puts them into an image of metadata, where it is told to.
  const extra = o.metadata && !o.ignoreFsCheck ? null : difference.extra;
  return { used, extra, count: dropBad(used), owners, accounts };
}
