import test from "ava";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";
import { contents, everywhere, KINDS } from "./shapes.ts";

const kernel = Kernel.get();

function bit(bytes: Uint8Array, i: number): number {
  return (bytes[i >>> 3] >>> (i & 7)) & 1;
}

function seek(bytes: Uint8Array, from: number, to: number, wanted: number): number {
  while (from < to && bit(bytes, from) !== wanted) from++;
  return Math.min(from, to);
}

function runsOf(bytes: Uint8Array, from: number, to: number): number[] {
  const runs: number[] = [];
  while ((from = seek(bytes, from, to, 1)) < to) {
    const end = seek(bytes, from, to, 0);
    runs.push(from, end - from);
    from = end;
  }
  return runs;
}

/** Calls `use` with bitmaps of every kind and a range of bits in each. */
function ranges(use: (at: number, bytes: Uint8Array, from: number, to: number, label: string) => void): void {
  const random = new Random(11);
  for (const around of [0, 0xff])
    for (const kind of KINDS)
      everywhere(around, (at, bytes) => {
        contents(bytes, kind, random);
        const bits = bytes.length * 8;
        const from = random.below(bits + 1);
        const whole = random.below(3) === 0;
        const to = whole ? bits : from + random.below(bits - from + 1);
        use(
          at,
          bytes,
          whole ? 0 : from,
          to,
          `kind ${kind}, ${bytes.length} bytes at ${at}, [${from}, ${to})`,
        );
      });
}

test("nextSet and nextClear against a bit by bit scan", (t) => {
  ranges((at, bytes, from, to, label) => {
    if (kernel.nextSet(at, from, to) !== seek(bytes, from, to, 1)) t.fail(`nextSet: ${label}`);
    if (kernel.nextClear(at, from, to) !== seek(bytes, from, to, 0)) t.fail(`nextClear: ${label}`);
  });
  t.pass();
});

test("nextSet and nextClear on empty and backward ranges", (t) => {
  kernel.borrow(64, (slot) => {
    slot.bytes.fill(0xff);
    t.is(kernel.nextSet(slot.at, 5, 5), 5);
    t.is(kernel.nextSet(slot.at, 9, 5), 5);
    t.is(kernel.nextClear(slot.at, 9, 5), 5);
    t.is(kernel.setRuns(slot.at, 9, 5), 0);
  });
});

test("setRuns against a bit by bit scan", (t) => {
  ranges((at, bytes, from, to, label) => {
    const pairs = kernel.setRuns(at, from, to);
    const expected = runsOf(bytes, from, to);
    const same = pairs * 2 === expected.length && expected.every((v, i) => kernel.out[i] === v);
    if (!same) t.fail(`${label}: ${[...kernel.out.subarray(0, pairs * 2)]}, not ${expected}`);
  });
  t.pass();
});

test("setRuns in batches gives the same runs", (t) => {
  const random = new Random(13);
  kernel.borrow(5000, (slot) => {
    for (const kind of KINDS)
      for (const most of [1, 2, 7, 100]) {
        contents(slot.bytes, kind, random);
        const to = slot.bytes.length * 8 - 3;
        const found: number[] = [];
        for (let from = 5, n = 1; n > 0; ) {
          n = kernel.setRuns(slot.at, from, to, most);
          t.true(n <= most);
          for (let i = 0; i < n * 2; i++) found.push(kernel.out[i]);
          if (n > 0) from = kernel.out[2 * n - 2] + kernel.out[2 * n - 1];
        }
        t.deepEqual(found, runsOf(slot.bytes, 5, to));
      }
    t.is(kernel.setRuns(slot.at, 0, 100, 0), 0);
  });
});

test("setRuns stops at the end of the out area", (t) => {
  const pairs = kernel.out.length / 2;
  kernel.borrow(pairs / 4 + 64, (slot) => {
    slot.bytes.fill(0x55);
    t.is(kernel.setRuns(slot.at, 0, slot.bytes.length * 8, 1e9), pairs);
    t.deepEqual([...kernel.out.subarray(-2)], [2 * pairs - 2, 1]);
    t.is(kernel.setRuns(slot.at, 2 * pairs, slot.bytes.length * 8), slot.bytes.length * 4 - pairs);
  });
});

test("every single bit of a bitmap is found", (t) => {
  kernel.borrow(256, (slot) => {
    slot.bytes.fill(0);
    for (let i = 0; i < 2048; i++) {
      slot.bytes[i >>> 3] = 1 << (i & 7);
      const runs = kernel.setRuns(slot.at, 0, 2048);
      if (kernel.nextSet(slot.at, 0, 2048) !== i || runs !== 1 || kernel.out[0] !== i || kernel.out[1] !== 1)
        t.fail(`${i}`);
      slot.bytes[i >>> 3] = 0;
    }
  });
  t.pass();
});

test("popcount at every length and address", (t) => {
  const random = new Random(17);
  for (const kind of KINDS)
    everywhere(0xff, (at, bytes) => {
      contents(bytes, kind, random);
      let expected = 0;
      for (let i = 0; i < bytes.length * 8; i++) expected += bit(bytes, i);
      if (kernel.popcount(at, bytes.length) !== expected) t.fail(`kind ${kind}: ${bytes.length} at ${at}`);
    });
  kernel.borrow(1 << 20, (slot) => {
    slot.bytes.fill(0xff);
    t.is(kernel.popcount(slot.at, slot.bytes.length), 8 << 20);
  });
});
