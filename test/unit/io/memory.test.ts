import test from "ava";
import { DATA } from "../../../src/bytes/runs.ts";
import { MemorySource, MemoryTarget } from "../../../src/io/memory.ts";

test("a memory source reads any range and ends where its bytes end", (t) => {
  const s = new MemorySource(Uint8Array.from([1, 2, 3, 4, 5]));
  const into = new Uint8Array(3);
  t.is(s.read(into, 1), 3);
  t.deepEqual([...into], [2, 3, 4]);
  t.is(s.read(into, 4), 1);
  t.is(into[0], 5);
  t.is(s.read(into, 5), 0);
  t.is(s.read(into, 2 ** 52), 0);
  const map = s.map(2, 100);
  t.deepEqual([map.count, map.at[0], map.length[0], map.state[0], map.end], [1, 2, 3, DATA, 5]);
});

test("a memory target grows, zeroes, reads back and ends at the committed size", (t) => {
  const target = new MemoryTarget();
  target.write(Uint8Array.from([1, 2, 3]), 100_000);
  target.write(Uint8Array.from([9, 9, 9]), 0);
  target.zero(1, 1);
  target.zero(200_000, 50);
  const into = new Uint8Array(3);
  t.is(target.read(into, 100_001), 2);
  t.deepEqual([...into], [2, 3, 0]);
  target.commit(100_002);
  t.is(target.bytes.length, 100_002);
  t.deepEqual([...target.bytes.subarray(0, 4)], [9, 0, 9, 0]);
  t.deepEqual([...target.bytes.subarray(-2)], [1, 2]);
  target.abort();
  t.is(target.bytes.length, 100_002);
  t.throws(() => target.write(new Uint8Array(1), 0), { code: "ECLOSED" });
});

test("bytes cut off by commit do not come back", (t) => {
  const target = new MemoryTarget();
  target.write(new Uint8Array(10).fill(7), 0);
  target.commit(4);
  t.deepEqual([...target.bytes], [7, 7, 7, 7]);
});

test("a memory target refuses to grow past its capacity", (t) => {
  const target = new MemoryTarget("small", 1000);
  target.write(new Uint8Array(1000), 0);
  t.throws(() => target.write(new Uint8Array(1), 1000), { code: "ENOSPC" });
  t.throws(() => target.write(new Uint8Array(1), 2 ** 53), { code: "ENOSPC" });
  target.abort();
  t.is(target.bytes.length, 0);
});
