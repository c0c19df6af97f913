import test from "ava";
import { DATA, HOLE, type HostFile, MapRuns } from "../../../src/bytes/runs.ts";
import { MemorySource } from "../../../src/io/memory.ts";
import { slice } from "../../../src/io/slice.ts";
import type { Source } from "../../../src/io/source.ts";

const file: HostFile = { path: "disk", fd: 3 };

/** 1000 bytes: data, a hole [300, 600), data stored elsewhere in the file. */
function holey(async: boolean): Source {
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i);
  const inner = new MemorySource(bytes, "disk");
  return {
    size: 1000,
    label: "disk",
    plain: { file, base: 50 },
    read: (into, at) => (async ? Promise.resolve(inner.read(into, at)) : inner.read(into, at)),
    map(from, to) {
      const runs = new MapRuns(from);
      for (const [a, b, state, host] of [
        [0, 300, DATA, 4096],
        [300, 600, HOLE, -1],
        [600, 1000, DATA, 9000],
      ] as const) {
        const start = Math.max(a, from);
        const end = Math.min(b, to);
        if (start < end)
          runs.push(end - start, state, 2, host < 0 ? -1 : host + start - a, host < 0 ? null : file);
      }
      return async ? Promise.resolve(runs) : runs;
    },
    close() {},
  };
}

for (const kind of ["sync", "async"] as const)
  test(`a slice shifts reads and maps (${kind})`, async (t) => {
    const s = slice(holey(kind === "async"), 250, 500);
    t.is(s.size, 500);
    t.is(s.label, "disk");
    const into = new Uint8Array(10);
    t.is(await s.read(into, 0), 10);
    t.deepEqual(
      [...into],
      Array.from({ length: 10 }, (_, i) => (250 + i) & 255),
    );
    t.is(await s.read(into, 495), 5);
    t.is(await s.read(into, 500), 0);
    const runs = await s.map(20, 500);
    t.is(runs.count, 3);
    t.deepEqual([...runs.at.subarray(0, 3)], [20, 50, 350]);
    t.deepEqual([...runs.length.subarray(0, 3)], [30, 300, 150]);
    t.deepEqual([...runs.state.subarray(0, 3)], [DATA, HOLE, DATA]);
    t.deepEqual([...runs.host.subarray(0, 3)], [4096 + 270, -1, 9000]);
    t.deepEqual([...runs.depth.subarray(0, 3)], [2, 2, 2]);
    t.is(runs.files[runs.file[2]], file);
    t.is(runs.end, 500);
    t.deepEqual(s.plain, { file, base: 300 });
  });

test("a slice is clipped to its source and nests", async (t) => {
  const outer = slice(holey(false), 900, 1e6);
  t.is(outer.size, 100);
  const inner = slice(outer, 50, 20, { label: "inner" });
  const into = new Uint8Array(30);
  t.is(inner.read(into, 0), 20);
  t.is(into[0], 950 & 255);
  t.is(inner.label, "inner");
  t.deepEqual(inner.plain, { file, base: 1000 });
  t.is(slice(holey(false), 5000, 10).size, 0);
  t.is((await inner.map(20, 40)).count, 0);
});

test("a slice refuses offsets that are not byte offsets, and closes only what it owns", async (t) => {
  t.throws(() => slice(holey(false), -1, 5), { instanceOf: RangeError });
  t.throws(() => slice(holey(false), 0, 2 ** 53), { instanceOf: RangeError });
  t.throws(() => slice(holey(false), 0.5, 5), { instanceOf: RangeError });
  let closed = 0;
  const source = { ...holey(false), close: () => void closed++ };
  await slice(source, 0, 10).close();
  t.is(closed, 0);
  await slice(source, 0, 10, { owns: true }).close();
  t.is(closed, 1);
});
