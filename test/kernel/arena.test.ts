import test from "ava";
import { Arena, type Slot } from "../../src/kernel/arena.ts";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";

const BASE = 256;

function arena(length: number): Arena {
  return new Arena(new ArrayBuffer(BASE + length), BASE, length);
}

test("slots are aligned, disjoint and as long as asked", (t) => {
  const a = arena(1024);
  const slots = [1, 64, 65, 0, 100].map((n) => a.take(n));
  t.deepEqual(
    slots.map((s) => s.at - BASE),
    [0, 64, 128, 256, 320],
  );
  t.deepEqual(
    slots.map((s) => s.bytes.length),
    [1, 64, 65, 0, 100],
  );
  for (const s of slots) t.is(s.bytes.byteOffset, s.at);
});

test("what is given back joins its neighbours, in every order", (t) => {
  const orders = [
    [0, 1, 2, 3],
    [3, 2, 1, 0],
    [1, 3, 0, 2],
    [0, 2, 1, 3],
    [2, 0, 3, 1],
  ];
  for (const order of orders) {
    const a = arena(1024);
    const slots = [256, 256, 256, 256].map((n) => a.take(n));
    t.throws(() => a.take(1), { instanceOf: RangeError });
    for (const i of order) a.give(slots[i]);
    t.is(a.available, 1024);
    t.is(a.take(1024).at, BASE);
  }
});

test("an exhausted or fragmented arena says so and stays usable", (t) => {
  const a = arena(1024);
  const slots = [256, 256, 256, 256].map((n) => a.take(n));
  a.give(slots[0]);
  a.give(slots[2]);
  t.is(a.available, 512);
  t.throws(() => a.take(257), { instanceOf: RangeError, message: /no 257 bytes left/ });
  t.is(a.take(256).at, slots[0].at);
  t.is(a.take(200).at, slots[2].at);
});

test("nonsense lengths and slots given twice are refused", (t) => {
  const a = arena(1024);
  for (const n of [-1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31, 2 ** 40])
    t.throws(() => a.take(n), { instanceOf: RangeError });
  const first = a.take(128);
  const second = a.take(128);
  a.give(first);
  t.throws(() => a.give(first), { instanceOf: RangeError });
  a.give(second);
  t.throws(() => a.give(second), { instanceOf: RangeError });
  t.is(a.available, 1024);
});

test("random takes and gives never overlap and never leak", (t) => {
  const random = new Random(7);
  const a = arena(65536);
  const held: Slot[] = [];
  for (let step = 0; step < 5000; step++) {
    if (held.length > 0 && random.below(100) < 48) {
      const [slot] = held.splice(random.below(held.length), 1);
      t.true(slot.bytes.every((b) => b === slot.bytes[0]));
      a.give(slot);
      continue;
    }
    try {
      const slot = a.take(1 + random.below(4000));
      slot.bytes.fill(step);
      held.push(slot);
    } catch (e) {
      t.true(e instanceof RangeError);
    }
  }
  for (const slot of held) a.give(slot);
  t.is(a.available, 65536);
});

test("the kernel's own arena: a slot is wasm memory, borrow gives back after a throw", (t) => {
  const kernel = Kernel.get();
  t.is(Kernel.get(), kernel);
  const whole = kernel.raw.arenaLength();
  t.is(whole, 56 << 20);
  const slot = kernel.take(whole);
  t.is(slot.bytes.buffer, kernel.raw.memory.buffer);
  t.throws(() => kernel.take(1), { instanceOf: RangeError });
  kernel.give(slot);
  t.throws(() =>
    kernel.borrow(whole, () => {
      throw new Error("stop");
    }),
  );
  t.is(
    kernel.borrow(whole, (s) => s.bytes.length),
    whole,
  );
});

test("memory cannot grow, and the areas lie apart", (t) => {
  const { raw, out } = Kernel.get();
  t.throws(() => raw.memory.grow(1));
  t.true(out.byteOffset + out.byteLength <= raw.arenaAddress());
  t.true(raw.arenaAddress() + raw.arenaLength() <= raw.memory.buffer.byteLength);
  t.is(out.byteOffset % 65536, 0);
});
