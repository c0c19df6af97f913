import { type ClusterSink, saveMetadata } from "../../src/fs/ntfs/metadata/save.ts";
import { countMetadata } from "../../src/fs/ntfs/metadata/walk.ts";
import { figureLines, nativeFigures } from "../../src/fs/ntfs/metadata/wipe.ts";
import type { NtfsVolume } from "../../src/fs/ntfs/volume.ts";
import { type ImageGeometry, volumeEnd } from "../../src/image/ntfsclone/header.ts";
import { ImageWriter } from "../../src/image/ntfsclone/writer.ts";
import type { NtfscloneOptions } from "./ntfsclone-options.ts";
import { type CloneOutput, writebackOf } from "./ntfsclone-output.ts";
import { sayBad, sayScan, type Taken } from "./ntfsclone-scan.ts";
import { NewSerial } from "./ntfsclone-serial.ts";
import { type Say, spaceLine } from "./ntfsclone-text.ts";
import { sayGeometry } from "./ntfsclone-volume.ts";

/** `-m`: the metadata, wiped on the way, as a special image or at its own places in a sparse file. */
export async function writeMetadata(
  o: NtfscloneOptions,
  volume: NtfsVolume,
  output: CloneOutput,
  taken: Taken,
  say: Say,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { target } = output;
  const { clusters, clusterSize } = volume.boot;
  const walk = {
    fullLogFile: o.fullLogfile,
    ...(signal === undefined ? {} : { signal }),
    ...(taken.owners === null ? {} : { owners: taken.owners }),
  };
  // Native has copied the piece behind the last cluster by now, and counts it.
  const inUse = o.save ? await countMetadata(volume, walk) : taken.used.clusters + 1;
  const geometry: ImageGeometry = { clusterSize, deviceSize: volume.source.size, clusters, inUse };
  // Native takes the bad ones off later.
  say(spaceLine("", clusterSize, o.save ? inUse + taken.used.bad.count : inUse, clusters));
  sayBad(taken.used, say);
  const onClusters = await writebackOf(target);
  const options = { ...walk, preserveTimestamps: o.keepTimes, extra: taken.extra, onClusters };
  if (o.save) {
    const scanned = sayScan(o, volume, say);
    const onProgress = (done: number, total: number): void => {
      scanned(done);
      // Native looks for clusters that nothing owns once more.
      if (done === total && o.ignoreFsCheck) say(taken.accounts);
    };
    const writer = new ImageWriter(geometry, target);
    try {
      await writer.begin();
      const counts = await saveMetadata(volume, writer, { ...options, onProgress });
      const size = await writer.finish();
      sayFigures(nativeFigures(counts, true), say);
      await target.commit(size);
    } finally {
      writer.dispose();
    }
    return;
  }
  // Native clones first and wipes the clone then, of which these lines tell. Here nothing is written that is not wiped.
  say("Syncing ...\n");
  sayGeometry(volume, say);
  const serial = o.serial === "keep" ? null : new NewSerial(o.serial === "half", say);
  const sink: ClusterSink = {
    put(lcn, bytes) {
      serial?.patch(bytes, lcn * clusterSize);
      return target.write(bytes, lcn * clusterSize);
    },
  };
  const onProgress = sayScan(o, volume, say);
  const counts = await saveMetadata(volume, sink, { ...options, listedOnly: true, onProgress });
  sayFigures(nativeFigures(counts, false), say);
  say("Syncing ...\n");
  await target.commit(volumeEnd(geometry));
}

function sayFigures(figures: ReturnType<typeof nativeFigures>, say: Say): void {
  for (const line of figureLines(figures)) say(`${line}\n`);
}
