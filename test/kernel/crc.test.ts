import test from "ava";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";
import { everywhere } from "./shapes.ts";

const kernel = Kernel.get();

/** Bit by bit, reflected. */
function crc(polynomial: number, r: number, bytes: Uint8Array): number {
  for (const b of bytes) {
    r ^= b;
    for (let k = 0; k < 8; k++) r = (r >>> 1) ^ (r & 1 ? polynomial : 0);
  }
  return r >>> 0;
}

const text = (s: string) => new TextEncoder().encode(s);
const inverted = (bytes: Uint8Array) => ~kernel.crc32cOf(0xffffffff, bytes) >>> 0;

test("crc32c of the published vectors", (t) => {
  t.is(inverted(text("123456789")), 0xe3069283);
  t.is(inverted(new Uint8Array(0)), 0);
  t.is(inverted(text("a")), 0xc1d04330);
  // RFC 3720, B.4
  t.is(inverted(new Uint8Array(32)), 0x8a9136aa);
  t.is(inverted(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  t.is(inverted(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  t.is(inverted(Uint8Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c);
});

test("crc16 of the published vectors", (t) => {
  kernel.borrow(64, (slot) => {
    slot.bytes.set(text("123456789"));
    t.is(kernel.crc16(0, slot.at, 9), 0xbb3d);
    t.is(kernel.crc16(0xffff, slot.at, 9), 0x4b37);
  });
});

test("crc32c and crc16 at every length and address, from any start value", (t) => {
  const random = new Random(19);
  everywhere(0xff, (at, bytes) => {
    random.fill(bytes);
    const start = random.word();
    if (kernel.crc32c(start, at, bytes.length) !== crc(0x82f63b78, start, bytes))
      t.fail(`crc32c: ${bytes.length} at ${at}`);
    if (kernel.crc16(start & 0xffff, at, bytes.length) !== crc(0xa001, start & 0xffff, bytes))
      t.fail(`crc16: ${bytes.length} at ${at}`);
  });
  t.pass();
});

test("a checksum in pieces is the checksum of the whole", (t) => {
  const random = new Random(23);
  const bytes = random.fill(new Uint8Array(200_003));
  const whole = crc(0x82f63b78, 0xffffffff, bytes);
  t.is(kernel.crc32cOf(0xffffffff, bytes), whole);
  kernel.borrow(bytes.length, (slot) => {
    slot.bytes.set(bytes);
    t.is(kernel.crc32c(0xffffffff, slot.at, bytes.length), whole);
    let r32 = 0xffffffff;
    let r16 = 0xffff;
    for (let i = 0; i < bytes.length; ) {
      const n = Math.min(random.below(3000), bytes.length - i);
      r32 = kernel.crc32c(r32, slot.at + i, n);
      r16 = kernel.crc16(r16, slot.at + i, n);
      i += n;
    }
    t.is(r32, whole);
    t.is(r16, crc(0xa001, 0xffff, bytes));
  });
});

test("crc32c of every length up to some chunks of its widest fold", (t) => {
  const length = 10_500;
  kernel.borrow(length + 16, (slot) => {
    const random = new Random(31);
    for (const offset of [0, 5]) {
      const bytes = random.fill(slot.bytes.subarray(offset, offset + length));
      const start = random.word();
      let expected = start;
      for (let n = 0; n <= length; n++) {
        if (n > 0) expected = crc(0x82f63b78, expected, bytes.subarray(n - 1, n));
        if (kernel.crc32c(start, slot.at + offset, n) !== expected) t.fail(`${n} bytes`);
      }
    }
  });
  t.pass();
});

test("single bits anywhere in a long stretch", (t) => {
  kernel.borrow(1024, (slot) => {
    slot.bytes.fill(0);
    for (let i = 0; i < 8192; i += 5) {
      slot.bytes[i >>> 3] = 1 << (i & 7);
      if (kernel.crc32c(0, slot.at, 1024) !== crc(0x82f63b78, 0, slot.bytes)) t.fail(`${i}`);
      slot.bytes[i >>> 3] = 0;
    }
  });
  t.pass();
});
