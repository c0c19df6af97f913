// Where saveImage puts a volume's bytes.
import test from "ava";
import { BlockSet } from "../../../src/bytes/block-set.ts";
import { volumeEnd } from "../../../src/image/ntfsclone/header.ts";
import { ImagePlaces } from "../../../src/image/ntfsclone/places.ts";
import { saveImage } from "../../../src/image/ntfsclone/writer.ts";
import { MemorySource, MemoryTarget } from "../../../src/io/memory.ts";
import { random } from "../../support/ext-tree.ts";

test("every byte of every cluster is found, in any order", async (t) => {
  const next = random(9);
  for (const [clusterSize, clusters, tail] of [
    [512, 300, 512],
    [1024, 40, 1024],
    [512, 9000, 0],
    [4096, 12, 100],
  ]) {
    const deviceSize = clusters * clusterSize + tail;
    // Each fourth byte says where it is.
    const bytes = new Uint8Array(deviceSize);
    const words = new DataView(bytes.buffer);
    for (let at = 0; at + 4 <= deviceSize; at += 4) words.setUint32(at, at + 1, true);
    const extra = new BlockSet(clusters);
    const used = new BlockSet(clusters + 1);
    used.add(0);
    used.add(clusters);
    for (let i = 0; i < clusters / 3; i++) {
      const lcn = 1 + (next() % (clusters - 1));
      if (i % 9 === 0 && !used.has(lcn)) extra.add(lcn);
      else if (!extra.has(lcn)) used.add(lcn);
    }
    const sets = [extra, used];
    const geometry = { clusterSize, clusters, deviceSize, inUse: used.count };
    const target = new MemoryTarget();
    await target.commit(await saveImage(new MemorySource(bytes), sets, geometry, target));
    const image = new DataView(target.bytes.buffer, target.bytes.byteOffset);
    const places = new ImagePlaces(sets, geometry);
    const check = (at: number): void => {
      const lcn = Math.floor(at / clusterSize);
      const place = places.of(at);
      if (!extra.has(lcn) && !used.has(lcn)) t.is(place, -1);
      else if (image.getUint32(place, true) !== at + 1) t.fail(`byte ${at} of ${clusterSize}`);
    };
    const end = Math.floor(volumeEnd(geometry) / 4) * 4;
    for (let at = 0; at < end; at += 256) check(at);
    for (let i = 0; i < 200; i++) check((next() % (end / 4)) * 4);
  }
  t.pass();
});
