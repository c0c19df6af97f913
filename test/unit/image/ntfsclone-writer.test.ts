// Special images to targets that take their time.
import test from "ava";
import { BlockSet } from "../../../src/bytes/block-set.ts";
import { saveImage } from "../../../src/image/ntfsclone/writer.ts";
import { MemorySource, MemoryTarget } from "../../../src/io/memory.ts";
import { breathe } from "../../../src/io/pace.ts";
import { noise } from "../../support/ext-tree.ts";

/** Looks at what it is given only later, one write after the other. */
class LateTarget extends MemoryTarget {
  writing = false;
  overlaps = 0;
  fail = Number.POSITIVE_INFINITY;
  override async write(bytes: Uint8Array, at: number): Promise<void> {
    if (this.writing) this.overlaps++;
    this.writing = true;
    await breathe();
    await breathe();
    this.writing = false;
    if (at >= this.fail) throw new Error(`at ${at}`);
    super.write(bytes, at);
  }
}

const clusterSize = 512;
const clusters = 12_000;
const bytes = noise(3, clusters * clusterSize + 512);
const geometry = { clusterSize, clusters, deviceSize: bytes.length, inUse: clusters + 1 };
const used = new BlockSet(clusters + 1);
used.add(0, clusters + 1);

test("a batch stays as it is until it is written", async (t) => {
  const [now, late] = [new MemoryTarget(), new LateTarget()];
  const source = new MemorySource(bytes);
  const size = await saveImage(source, [used], geometry, now);
  t.is(await saveImage(source, [used], geometry, late), size);
  now.commit(size);
  late.commit(size);
  t.true(size > 6_000_000);
  t.is(late.overlaps, 0);
  t.true(Buffer.from(late.bytes).equals(now.bytes));
});

test("a failure of the last write is met too", async (t) => {
  const source = new MemorySource(bytes);
  for (const fail of [1_000_000, 5_660_000]) {
    const target = new LateTarget();
    target.fail = fail;
    await t.throwsAsync(saveImage(source, [used], geometry, target), { message: /^at \d+$/ });
  }
});
