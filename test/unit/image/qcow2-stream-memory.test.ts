// In a file of its own: it measures this process.
import test from "ava";
import { BlockSet } from "../../../src/bytes/block-set.ts";
import type { PackerSpec } from "../../../src/image/packer.ts";
import { createPacker } from "../../../src/image/qcow2/packer.ts";
import { planQcow2, streamQcow2 } from "../../../src/image/qcow2/stream.ts";

test.serial("a sparse image of 1 TiB streams in little memory", async (t) => {
  for (const kind of ["qemu", "e2image"] as const) {
    const clusterSize = 4096;
    const guestSize = 2 ** 40;
    const clusters = new BlockSet(guestSize / clusterSize);
    // One cluster in each of 20000 L2 tables, and some runs.
    for (let i = 0; i < 20_000; i++) clusters.add(i * 13000, i * 13000 + (i % 1000 === 0 ? 600 : 1));
    const spec: PackerSpec =
      kind === "e2image"
        ? { kind, clusterSize, guestSize, marks: 3_000_000 }
        : {
            kind,
            clusterSize,
            guestSize,
            version: 3,
            refcountOrder: 4,
            backingFile: null,
            backingFormat: null,
          };
    let end = 0;
    let peak = 0;
    const before = process.memoryUsage();
    const size = await streamQcow2({
      spec,
      clusters,
      source: {
        size: guestSize,
        label: "pattern",
        read: (b) => b.fill(1).length,
        map: () => {
          throw new Error("not asked for");
        },
        close() {},
      },
      target: {
        label: "nowhere",
        seekable: false,
        fresh: true,
        capacity: Number.POSITIVE_INFINITY,
        write(b, at) {
          if (at < end) throw new Error("not ascending");
          end = at + b.length;
          const now = process.memoryUsage();
          peak = Math.max(peak, now.heapUsed + now.arrayBuffers - before.heapUsed - before.arrayBuffers);
        },
        zero() {},
        commit() {},
        abort() {},
      },
    });
    t.is(planQcow2(spec, clusters).size, size);
    t.true(peak < 64 * 2 ** 20, `${kind}: ${peak} bytes`);
  }
});

test.serial("the state of e2image's layout goes with the marks, not with the volume", (t) => {
  const packer = createPacker({
    kind: "e2image",
    clusterSize: 1024,
    guestSize: 16 * 2 ** 40,
    marks: 100_000,
  });
  t.true(packer.state.byteLength < 64 * 2 ** 20, `${packer.state.byteLength} bytes`);
});
