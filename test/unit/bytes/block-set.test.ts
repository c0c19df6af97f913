import test from "ava";
import { BlockSet } from "../../../src/bytes/block-set.ts";
import { ExtentList } from "../../../src/bytes/extents.ts";
import { Random } from "../../support/random.ts";

const PAGE = 32768;

function runsOf(set: BlockSet, from = 0, to = set.limit, most?: number): [number, number][] {
  const list = new ExtentList();
  const all: [number, number][] = [];
  for (let at = from; at < to; ) {
    list.clear();
    const next = set.runs(at, to, list, most);
    if (next <= at) throw new Error(`no progress at ${at}`);
    at = next;
    for (let i = 0; i < list.count; i++) {
      const last = all[all.length - 1];
      if (last !== undefined && last[1] === list.start(i)) last[1] = list.end(i);
      else all.push([list.start(i), list.end(i)]);
    }
  }
  return all;
}

/** Runs of a plain bitmap, one byte a block. */
function plainRuns(bytes: Uint8Array, from: number, to: number): [number, number][] {
  const runs: [number, number][] = [];
  for (let i = from; i < to; i++) {
    if (bytes[i] === 0) continue;
    const start = i;
    while (i < to && bytes[i] !== 0) i++;
    runs.push([start, i]);
  }
  return runs;
}

function plainCount(bytes: Uint8Array, from: number, to: number): number {
  let n = 0;
  for (let i = from; i < to; i++) n += bytes[i];
  return n;
}

/** A range that likes to start and end at pages' ends, to be single blocks, and to cover pages. */
function range(random: Random, limit: number): [number, number] {
  const edge = () =>
    Math.min(Math.max(random.below(limit / PAGE + 2) * PAGE + random.below(5) - 2, 0), limit);
  switch (random.below(5)) {
    case 0: {
      const at = random.below(limit);
      return [at, at + 1];
    }
    case 1: {
      const at = random.below(limit);
      return [at, Math.min(at + random.below(100), limit)];
    }
    case 2: {
      const [a, b] = [edge(), edge()];
      return [Math.min(a, b), Math.max(a, b)];
    }
    case 3: {
      const at = edge();
      return [at, Math.min(at + 1 + random.below(3), limit)];
    }
    default: {
      const [a, b] = [random.below(limit + 1), random.below(limit + 1)];
      return [Math.min(a, b), Math.max(a, b)];
    }
  }
}

for (const [name, livePages] of [
  ["never packed", 8192],
  ["packed all the time", 1],
  ["packed now and then", 3],
] as const)
  test(`random adds and removes against a plain array, ${name}`, (t) => {
    const random = new Random(livePages);
    for (let round = 0; round < 4; round++) {
      const limit = 9 * PAGE + random.below(PAGE);
      const set = new BlockSet(limit, livePages);
      const plain = new Uint8Array(limit);
      for (let step = 0; step < 250; step++) {
        const [from, to] = range(random, limit);
        const before = plainCount(plain, from, to);
        const adds = random.below(10) < 6;
        plain.fill(adds ? 1 : 0, from, to);
        const changed = adds ? set.add(from, to) : set.remove(from, to);
        if (changed !== (adds ? to - from - before : before)) t.fail(`step ${step}: ${changed} changed`);
        const at = random.below(limit);
        if (set.has(at) !== (plain[at] === 1)) t.fail(`step ${step}: has(${at})`);
        if (from < to && (set.has(from) !== adds || set.has(to - 1) !== adds)) t.fail(`step ${step}: ends`);
        if (step % 50 !== 49) continue;
        t.is(set.count, plainCount(plain, 0, limit));
        t.deepEqual(runsOf(set), plainRuns(plain, 0, limit));
        t.deepEqual(runsOf(set, 0, limit, 1 + random.below(4)), plainRuns(plain, 0, limit));
        const [a, b] = range(random, limit);
        t.deepEqual(runsOf(set, a, b, 2), plainRuns(plain, a, b));
      }
    }
  });

test("noise too dense to pack stays correct", (t) => {
  const random = new Random(41);
  const limit = 12 * PAGE;
  const set = new BlockSet(limit, 2);
  const plain = new Uint8Array(limit);
  for (let i = 0; i < 60_000; i++) {
    const at = random.below(limit);
    t.is(set.add(at), plain[at] === 0 ? 1 : 0);
    plain[at] = 1;
  }
  t.is(set.count, plainCount(plain, 0, limit));
  t.deepEqual(runsOf(set), plainRuns(plain, 0, limit));
});

test("ranges are clipped to [0, limit)", (t) => {
  const set = new BlockSet(100);
  t.is(set.add(-5, 10), 10);
  t.is(set.add(90, 2 ** 50), 10);
  t.is(set.add(200, 300), 0);
  t.is(set.add(20, 10), 0);
  t.deepEqual(runsOf(set), [
    [0, 10],
    [90, 100],
  ]);
  t.false(set.has(-1));
  t.false(set.has(-40_000));
  t.false(set.has(100));
  t.false(set.has(Number.NaN));
  t.is(set.remove(-5, 5), 5);
  t.is(set.remove(95, 1e9), 5);
  t.is(set.count, 10);
});

test("an empty set and a set of no blocks", (t) => {
  for (const limit of [0, 1, PAGE, 2 ** 53 - 1]) {
    const set = new BlockSet(limit);
    t.is(set.count, 0);
    t.deepEqual(runsOf(set), []);
    t.false(set.has(0));
  }
});

test("huge volumes: full ranges and far blocks cost next to nothing", (t) => {
  for (const limit of [2 ** 40, 2 ** 52 + 12345]) {
    const set = new BlockSet(limit);
    t.is(set.add(0, limit), limit);
    t.is(set.count, limit);
    t.deepEqual(runsOf(set), [[0, limit]]);
    t.is(set.add(5, limit - 5), 0);
    const hole = 2 ** 39 + 77;
    t.is(set.remove(hole, hole + 3), 3);
    t.false(set.has(hole + 2));
    t.true(set.has(hole + 3));
    t.true(set.has(limit - 1));
    t.deepEqual(runsOf(set, 0, limit, 1), [
      [0, hole],
      [hole + 3, limit],
    ]);
    t.is(set.remove(10, limit - 10), limit - 23);
    t.deepEqual(runsOf(set), [
      [0, 10],
      [limit - 10, limit],
    ]);
    t.is(set.count, 20);
  }
});

test("scattered far blocks of a huge volume", (t) => {
  const random = new Random(43);
  const limit = 2 ** 48;
  const set = new BlockSet(limit, 16);
  const blocks = new Set<number>();
  for (let i = 0; i < 3000; i++) {
    const at = Math.floor((random.word() * 2 ** 16 + random.below(65536)) / 2) * 2;
    if (at >= limit) continue;
    set.add(at);
    blocks.add(at);
  }
  t.is(set.count, blocks.size);
  t.deepEqual(
    runsOf(set, 0, limit, 7).map((r) => r[0]),
    [...blocks].sort((a, b) => a - b),
  );
});

test("runs goes on from where it stopped, full pages and bitmaps in turn", (t) => {
  const limit = 64 * PAGE;
  const set = new BlockSet(limit);
  const expected: [number, number][] = [];
  for (let p = 0; p < 64; p += 2) {
    set.add(p * PAGE, (p + 1) * PAGE + (p % 4));
    expected.push([p * PAGE, (p + 1) * PAGE + (p % 4)]);
  }
  for (const most of [1, 2, 3, 10, 1000]) t.deepEqual(runsOf(set, 0, limit, most), expected);
  const list = new ExtentList();
  const stop = set.runs(100, limit, list, 5);
  t.true(list.count >= 5 && list.count <= 7 && stop < limit);
  t.is(list.start(0), 100);
  t.is(set.runs(5, 2 ** 60, new ExtentList()), limit);
});

test("a batch whose list is full at the start never goes backwards", (t) => {
  const set = new BlockSet(4 * PAGE);
  set.add(0, 4 * PAGE - 1);
  const list = new ExtentList();
  list.push(0, 1);
  t.true(set.runs(50, 4 * PAGE, list, 1) >= 50);
  t.true(set.runs(3 * PAGE + 50, 4 * PAGE, list, 1) >= 3 * PAGE + 50);
});

test("union", (t) => {
  const random = new Random(47);
  const limit = 7 * PAGE + 5;
  for (const livePages of [1, 100]) {
    const a = new BlockSet(limit, livePages);
    const b = new BlockSet(limit, livePages);
    const plain = new Uint8Array(limit);
    for (let i = 0; i < 60; i++) {
      const [from, to] = range(random, limit);
      const short = Math.min(to, from + (i % 7 === 0 ? 2 * PAGE : 300));
      (i & 1 ? a : b).add(from, short);
      plain.fill(1, from, short);
    }
    a.union(b);
    t.is(a.count, plainCount(plain, 0, limit));
    t.deepEqual(runsOf(a), plainRuns(plain, 0, limit));
    const count = a.count;
    a.union(a);
    t.is(a.count, count);
  }
  const small = new BlockSet(10);
  const large = new BlockSet(2 ** 40);
  large.add(5, 2 ** 40);
  small.union(large);
  t.deepEqual(runsOf(small), [[5, 10]]);
});
