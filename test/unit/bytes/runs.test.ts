import test from "ava";
import { DATA, HOLE, type HostFile, MapRuns, ZERO } from "../../../src/bytes/runs.ts";

const a: HostFile = { path: "a", fd: 3 };
const b: HostFile = { path: "b", fd: 4 };

function rows(runs: MapRuns): (number | string)[][] {
  return Array.from({ length: runs.count }, (_, i) => [
    runs.at[i],
    runs.length[i],
    runs.state[i],
    runs.depth[i],
    runs.host[i],
    runs.file[i] < 0 ? "" : runs.files[runs.file[i]].path,
  ]);
}

test("neighbours merge where state, layer and host bytes go on", (t) => {
  const runs = new MapRuns(1000);
  runs.push(10, HOLE);
  runs.push(10, HOLE);
  runs.push(0, DATA, 0, 5, a);
  runs.push(10, ZERO);
  runs.push(10, DATA, 0, 100, a);
  runs.push(10, DATA, 0, 110, a);
  runs.push(10, DATA, 0, 121, a);
  runs.push(10, DATA, 0, 131, b);
  runs.push(10, DATA, 1, 141, b);
  runs.push(10, DATA, 1);
  runs.push(10, DATA, 1);
  runs.push(10, DATA, 1, 0, a);
  t.deepEqual(rows(runs), [
    [1000, 20, HOLE, 0, -1, ""],
    [1020, 10, ZERO, 0, -1, ""],
    [1030, 20, DATA, 0, 100, "a"],
    [1050, 10, DATA, 0, 121, "a"],
    [1060, 10, DATA, 0, 131, "b"],
    [1070, 10, DATA, 1, 141, "b"],
    [1080, 20, DATA, 1, -1, ""],
    [1100, 10, DATA, 1, 0, "a"],
  ]);
  t.deepEqual(runs.files, [a, b]);
  t.is(runs.end, 1110);
});

test("a batch of many runs keeps them all", (t) => {
  const runs = new MapRuns(2 ** 52);
  for (let i = 0; i < 10_000; i++)
    runs.push(512, i & 1 ? DATA : HOLE, i & 0xff, i & 1 ? i * 4096 : -1, i & 1 ? a : null);
  t.is(runs.count, 10_000);
  t.is(runs.end, 2 ** 52 + 512 * 10_000);
  for (let i = 0; i < 10_000; i++) {
    const same =
      runs.at[i] === 2 ** 52 + 512 * i &&
      runs.length[i] === 512 &&
      runs.state[i] === (i & 1 ? DATA : HOLE) &&
      runs.depth[i] === (i & 0xff) &&
      runs.host[i] === (i & 1 ? i * 4096 : -1) &&
      runs.file[i] === (i & 1 ? 0 : -1);
    if (!same) t.fail(`run ${i}`);
  }
});
