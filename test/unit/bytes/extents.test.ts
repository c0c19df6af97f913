import test from "ava";
import { ExtentList } from "../../../src/bytes/extents.ts";

function pairs(list: ExtentList): number[][] {
  return Array.from({ length: list.count }, (_, i) => [list.start(i), list.end(i)]);
}

test("touching and overlapping ranges merge, empty ones vanish", (t) => {
  const list = new ExtentList();
  for (const [start, end] of [
    [0, 5],
    [5, 5],
    [5, 9],
    [8, 9],
    [8, 12],
    [20, 30],
    [31, 31],
    [31, 30],
    [31, 40],
  ])
    list.push(start, end);
  t.deepEqual(pairs(list), [
    [0, 12],
    [20, 30],
    [31, 40],
  ]);
  t.is(list.total(), 31);
  list.clear();
  t.is(list.count, 0);
  t.is(list.total(), 0);
  list.push(3, 4);
  t.deepEqual(pairs(list), [[3, 4]]);
});

test("grows past its first size and holds offsets up to 2^53", (t) => {
  const list = new ExtentList();
  for (let i = 0; i < 5000; i++) list.push(i * 10, i * 10 + 9);
  list.push(2 ** 52, 2 ** 53 - 1);
  t.is(list.count, 5001);
  for (let i = 0; i < 5000; i++) if (list.start(i) !== i * 10 || list.end(i) !== i * 10 + 9) t.fail(`${i}`);
  t.is(list.end(5000), Number.MAX_SAFE_INTEGER);
  t.is(list.total(), 45_000 + 2 ** 52 - 1);
});
