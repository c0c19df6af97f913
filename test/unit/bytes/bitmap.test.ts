import test from "ava";
import { bitmapRuns, clearBits, countBits, setBits } from "../../../src/bytes/bitmap.ts";
import { ExtentList } from "../../../src/bytes/extents.ts";

test("every range of three words is set, counted, listed and cleared", (t) => {
  for (let from = 0; from <= 96; from++)
    for (let to = from; to <= 96; to++) {
      const words = new Uint32Array(3);
      const n = to - from;
      const list = new ExtentList();
      const sets = setBits(words, from, to) === n && setBits(words, from, to) === 0;
      bitmapRuns(words, 0, 96, 1000, list);
      const lists = n === 0 ? list.count === 0 : list.start(0) === 1000 + from && list.end(0) === 1000 + to;
      const counts = countBits(words) === n && list.total() === n;
      const clears = clearBits(words, from, to) === n && countBits(words) === 0;
      words.fill(0xffffffff);
      const holes =
        setBits(words, from, to) === 0 && clearBits(words, from, to) === n && countBits(words) === 96 - n;
      if (!(sets && lists && counts && clears && holes)) t.fail(`[${from}, ${to})`);
    }
  t.pass();
});

test("runs are cut to the range asked for", (t) => {
  const words = new Uint32Array(4).fill(0xffffffff);
  clearBits(words, 40, 41);
  const list = new ExtentList();
  bitmapRuns(words, 31, 65, 0, list);
  t.deepEqual([...list.bounds.subarray(0, list.count * 2)], [31, 40, 41, 65]);
});
