import { BlockSet } from "../../bytes/block-set.ts";
import type { Packer } from "../../image/packer.ts";
import type { Source } from "../../io/source.ts";
import { copyInThread } from "./in-thread.ts";

/** The clusters of a source that `packer` will be asked to store: what must be known before a stream can start. */
export async function nonzeroClusters(
  source: Source,
  packer: Packer,
  onProgress: (walked: number) => void,
): Promise<BlockSet> {
  const { clusterSize, zeroUnit } = packer;
  const set = new BlockSet(Math.ceil(source.size / clusterSize));
  const collector: Packer = {
    clusterSize,
    zeroUnit,
    guestSize: source.size,
    state: new Float64Array(1),
    place(base, runs, count) {
      for (let i = 0; i < count; i++) set.add(base + runs[2 * i], base + runs[2 * i] + runs[2 * i + 1]);
    },
    finish: () => 0,
  };
  await copyInThread({ source, packer: collector, skipZero: true, write: () => {}, onProgress });
  return set;
}
