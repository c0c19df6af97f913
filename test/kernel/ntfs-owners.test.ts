// Which base records may own metadata outside of themselves.
import test from "ava";
import { Kernel } from "../../src/kernel/kernel.ts";

const RECORD = 1024;
const IN_USE = 1;

interface Attribute {
  readonly type: number;
  readonly nonResident?: boolean;
  readonly length?: number;
}

/** A record with these attributes, its fixups removed. */
function record(attributes: readonly Attribute[], flags = IN_USE, base = 0n): Buffer {
  const b = Buffer.alloc(RECORD);
  b.write("FILE", "latin1");
  b.writeUInt16LE(56, 20);
  b.writeUInt16LE(flags, 22);
  b.writeBigUInt64LE(base, 32);
  let at = 56;
  for (const { type, nonResident = false, length = 72 } of attributes) {
    b.writeUInt32LE(type, at);
    b.writeUInt32LE(length, at + 4);
    b[at + 8] = nonResident ? 1 : 0;
    at += length;
  }
  b.writeUInt32LE(0xffffffff, Math.min(at, RECORD - 8));
  b.writeUInt32LE(Math.min(at + 8, RECORD), 24);
  return b;
}

/** Indexes of the owners among `records`, whose states are `states`. */
function owners(records: readonly Buffer[], states: readonly number[], apart = 0): number[] {
  const kernel = Kernel.get();
  const at = kernel.take(records.length * RECORD + 8);
  const state = kernel.take(records.length);
  const into = kernel.take(4 * records.length);
  try {
    for (const [i, r] of records.entries()) at.bytes.set(r, i * RECORD);
    state.bytes.set(states);
    const n = kernel.raw.ntfsOwners(at.at, RECORD, records.length, state.at, apart, into.at) >>> 0;
    return [...new Uint32Array(into.bytes.buffer, into.at, n)];
  } finally {
    for (const slot of [at, state, into]) kernel.give(slot);
  }
}

const STANDARD = { type: 0x10 };
const NAME = { type: 0x30 };

test("owners are told by their attributes", (t) => {
  const kinds: [boolean, Buffer][] = [
    [false, record([STANDARD, NAME, { type: 0x80 }])],
    [false, record([STANDARD, NAME, { type: 0x80, nonResident: true }])],
    [true, record([STANDARD, NAME, { type: 0xa0, nonResident: true }])],
    [true, record([STANDARD, { type: 0x20 }])],
    [false, record([{ type: 0xa0, nonResident: true }], 0)],
    [false, record([{ type: 0xa0, nonResident: true }], IN_USE, 5n)],
    [true, record([{ type: 0x80, length: 8 }])],
    [true, record([{ type: 0x80, length: 4096 }])],
  ];
  const records = kinds.map(([, r]) => r);
  const want = kinds.flatMap(([owner], i) => (owner ? [i] : []));
  t.deepEqual(owners(records, new Array(records.length).fill(0)), want);
});

test("the first ones are looked at whatever they hold", (t) => {
  const plain = [0, 1, 2, 3].map(() => record([STANDARD]));
  t.deepEqual(owners(plain, [0, 0, 0, 0], 2), [0, 1]);
});

test("a record with an impossible array is one, records that are none or torn are not", (t) => {
  const records = [0, 1, 2, 3].map(() => record([STANDARD, NAME]));
  t.deepEqual(owners(records, [0, 1, 2, 4]), [3]);
});
