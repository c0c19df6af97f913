import test from "ava";
import { applyFixups } from "../../src/fs/ntfs/fixup.ts";
import { WipeCounters } from "../../src/fs/ntfs/metadata/wipe.ts";
import { Kernel } from "../../src/kernel/kernel.ts";
import { noise, random } from "../support/ext-tree.ts";

const kernel = Kernel.get();
const EPOCH = 0x019db1ded53e8000n;
const FILE = 0x454c4946;
const INDX = 0x58444e49;

interface Value {
  readonly type: number;
  readonly value: Buffer;
  readonly name?: string;
}

/** A FILE record without fixups, as it would lie in memory. */
function record(values: readonly Value[], flags: number, size = 1024): Buffer {
  const b = Buffer.alloc(size);
  b.writeUInt32LE(FILE, 0);
  b.writeUInt16LE(48, 4);
  b.writeUInt16LE(size / 512 + 1, 6);
  b.writeUInt16LE(9, 48);
  let at = 48 + Math.ceil((size / 512 + 1) / 4) * 8;
  b.writeUInt16LE(at, 20);
  b.writeUInt16LE(flags, 22);
  b.writeUInt32LE(size, 28);
  for (const v of values) {
    const name = Buffer.from(v.name ?? "", "utf16le");
    const offset = Math.ceil((24 + name.length) / 8) * 8;
    const length = Math.ceil((offset + v.value.length) / 8) * 8;
    b.writeUInt32LE(v.type, at);
    b.writeUInt32LE(length, at + 4);
    b[at + 9] = name.length / 2;
    b.writeUInt16LE(24, at + 10);
    b.set(name, at + 24);
    b.writeUInt32LE(v.value.length, at + 16);
    b.writeUInt16LE(offset, at + 20);
    b.set(v.value, at + offset);
    at += length;
  }
  b.writeUInt32LE(0xffffffff, at);
  b.writeUInt32LE(at + 8, 24);
  return b;
}

/** Wipes records that are given without fixups; returns them without, and what was counted. */
function wipe(records: readonly Buffer[], first: number, keepTimes = false) {
  const size = records[0].length;
  return kernel.borrow(size * records.length, (slot) => {
    const counters = new WipeCounters();
    const none = new WipeCounters();
    try {
      slot.bytes.set(Buffer.concat(records));
      applyFixups(slot, size, records.length, FILE);
      counters.records(slot.at, size, records.length, first, keepTimes);
      const stored = records.map((_, i) => Buffer.from(slot.bytes.slice(i * size, (i + 1) * size)));
      return { stored, plain: stored.map(unfix), counts: counters.counts(0, none) };
    } finally {
      counters.close();
      none.close();
    }
  });
}

function unfix(stored: Buffer): Buffer {
  const b = Buffer.from(stored);
  const from = b.readUInt16LE(4);
  for (let i = 1; i < b.readUInt16LE(6); i++) {
    if (b.readUInt16LE(512 * i - 2) !== b.readUInt16LE(from)) throw new Error("fixups do not match");
    b.writeUInt16LE(b.readUInt16LE(from + 2 * i), 512 * i - 2);
  }
  return b;
}

/** Index entries with a key each, and the end; times are at byte 24 of an entry. */
function entries(keys: readonly Buffer[]): Buffer {
  const all = keys.map((key) => {
    const b = Buffer.alloc(Math.ceil((16 + key.length) / 8) * 8);
    b.writeUInt16LE(b.length, 8);
    b.writeUInt16LE(key.length, 10);
    b.set(key, 16);
    return b;
  });
  const end = Buffer.alloc(16);
  end.writeUInt16LE(16, 8);
  end.writeUInt16LE(2, 12);
  const body = Buffer.concat([...all, end]);
  const header = Buffer.alloc(16);
  header.writeUInt32LE(16, 0);
  header.writeUInt32LE(16 + body.length, 4);
  header.writeUInt32LE(16 + body.length, 8);
  return Buffer.concat([header, body]);
}

const root = (type: number, keys: readonly Buffer[]): Buffer => {
  const head = Buffer.alloc(16);
  head.writeUInt32LE(type, 0);
  return Buffer.concat([head, entries(keys)]);
};

const times = (b: Buffer, at: number): bigint[] => [0, 8, 16, 24].map((i) => b.readBigUInt64LE(at + i));
const wiped = [EPOCH, EPOCH, EPOCH, EPOCH];

test("contents and times of records in use", (t) => {
  for (const size of [1024, 4096]) {
    const standard = noise(1, 72);
    const name = noise(2, 90);
    const data = noise(3, 100);
    const key = noise(4, 90);
    const make = () =>
      record(
        [
          { type: 0x10, value: standard },
          { type: 0x30, value: name },
          { type: 0x80, value: data },
          { type: 0x80, value: Buffer.from("stream"), name: "named" },
          { type: 0x90, value: root(0x30, [key, key]), name: "$I30" },
        ],
        1,
        size,
      );
    const used = make();
    used.fill(0xab, used.readUInt32LE(24));
    const [user] = wipe([used], 12).plain;
    const find = (b: Buffer, value: Buffer) => b.indexOf(value);
    t.is(find(user, data), -1);
    t.is(find(user, Buffer.from("stream")), -1);
    const at = find(used, standard);
    t.deepEqual(times(user, at), wiped);
    t.true(user.subarray(at + 32, at + 72).equals(standard.subarray(32)));
    const nameAt = find(used, name);
    t.true(user.subarray(nameAt, nameAt + 8).equals(name.subarray(0, 8)));
    t.deepEqual(times(user, nameAt + 8), wiped);
    t.true(user.subarray(nameAt + 40, nameAt + 90).equals(name.subarray(40)));
    for (const from of [find(used, key), used.indexOf(key, find(used, key) + 1)]) {
      t.deepEqual(times(user, from + 8), wiped);
      t.true(user.subarray(from + 40, from + 90).equals(key.subarray(40)));
    }
    t.true(user.subarray(used.readUInt32LE(24)).every((b) => b === 0));
    const { counts } = wipe([used], 12);
    t.is(counts.recordTimes, 32 * 4);
    t.is(counts.resident, [...data, ...Buffer.from("stream")].filter((b) => b !== 0).length);
    t.is(counts.unused, size - used.readUInt32LE(24));
    t.is(counts.usedRecords, 1);
    // System files keep their contents and what lies behind; -t keeps times.
    const system = wipe([used], 11);
    t.true(system.plain[0].includes(data));
    t.is(system.plain[0].at(-3), 0xab);
    t.deepEqual(times(system.plain[0], at), wiped);
    const kept = wipe([used], 12, true);
    t.true(kept.plain[0].includes(standard));
    t.false(kept.plain[0].includes(data));
    t.is(kept.counts.recordTimes, 0);
  }
});

test("records not in use keep their head alone; sequence numbers stay", (t) => {
  const gone = record([{ type: 0x80, value: noise(5, 300) }], 0);
  const { stored, counts } = wipe([gone, record([], 1)], 30);
  t.true(stored[0].subarray(0, 48).equals(gone.subarray(0, 48)));
  t.is(stored[0].readUInt16LE(48), 1, "the sequence number was wiped too, and starts again");
  t.true(counts.deleted > 280);
  t.is(stored[1].readUInt16LE(48), 10, "as it was on the disk");
  for (const [before, after] of [
    [0, 1],
    [1, 1],
    [2, 2],
    [0xfffe, 0xfffe],
  ]) {
    kernel.borrow(1024, (slot) => {
      const counters = new WipeCounters();
      const b = record([], 1);
      for (let i = 1; i < 3; i++) {
        b.writeUInt16LE(b.readUInt16LE(512 * i - 2), 48 + 2 * i);
        b.writeUInt16LE(before, 512 * i - 2);
      }
      b.writeUInt16LE(before, 48);
      slot.bytes.set(b);
      counters.records(slot.at, 1024, 1, 30, false);
      t.is(slot.bytes[48] + slot.bytes[49] * 256, after, `${before}`);
      counters.close();
    });
  }
});

test("what is no record is zeroed for users only; nothing outside is touched, whatever the fields say", (t) => {
  const next = random(9);
  const most = 8;
  kernel.borrow((most + 2) * 1024, (slot) => {
    const counters = new WipeCounters();
    for (let round = 0; round < 400; round++) {
      const b = noise(round + 1, slot.bytes.length);
      for (let i = 1; i <= most; i++) {
        const r = record(
          [{ type: [0x10, 0x30, 0x80, 0x90][next() % 4], value: root(0x30, [noise(7, 80)]) }],
          next() % 2,
        );
        for (let k = 0; k < 6; k++) r.writeUInt32LE(next(), (next() % 255) * 4);
        if (next() % 4) r.writeUInt32LE(FILE, 0);
        if (next() % 4) {
          r.writeUInt16LE(48, 4);
          r.writeUInt16LE(3, 6);
        }
        b.set(r, i * 1024);
      }
      slot.bytes.set(b);
      counters.records(slot.at + 1024, 1024, most, next() % 30, false);
      t.true(b.subarray(0, 1024).equals(slot.bytes.subarray(0, 1024)));
      t.true(b.subarray((most + 1) * 1024).equals(slot.bytes.subarray((most + 1) * 1024)));
    }
    slot.bytes.fill(0x55);
    counters.records(slot.at, 1024, 2, 11, false);
    t.true(slot.bytes.subarray(0, 1024).every((x) => x === 0x55));
    t.true(slot.bytes.subarray(1024, 2048).every((x) => x === 0));
    counters.close();
  });
});

test("index blocks: times of each entry, in blocks that are in use or in all", (t) => {
  const blockSize = 4096;
  const block = (seed: number): Buffer => {
    const b = Buffer.alloc(blockSize);
    b.writeUInt32LE(INDX, 0);
    b.writeUInt16LE(40, 4);
    b.writeUInt16LE(9, 6);
    const body = entries(Array.from({ length: 20 }, (_, i) => noise(seed + i, 82)));
    body.copy(b, 24);
    const shift = 64 - 24 - 16;
    // Entries begin behind the update sequence.
    b.copyWithin(64, 40, 40 + body.length - 16);
    b.writeUInt32LE(64 - 24, 24);
    b.writeUInt32LE(body.length + shift, 28);
    b.writeUInt32LE(blockSize - 24, 32);
    b.fill(0, 40, 64);
    return b;
  };
  kernel.borrow(3 * blockSize + 64, (slot) => {
    for (const listedOnly of [false, true]) {
      const counters = new WipeCounters();
      const none = new WipeCounters();
      const before = Buffer.concat([block(1), block(100), block(200)]);
      // A length of nothing ends the walk through the last one.
      before.writeUInt16LE(0, 2 * blockSize + 64 + 8);
      slot.bytes.set(before);
      applyFixups(slot, blockSize, 3, INDX);
      slot.bytes[3 * blockSize] = 0b1010;
      counters.index(slot.at, blockSize, 3, { at: slot.at + 3 * blockSize, bits: 8, first: 1 }, listedOnly);
      const after = [0, 1, 2].map((i) =>
        unfix(Buffer.from(slot.bytes.slice(i * blockSize, (i + 1) * blockSize))),
      );
      for (let e = 0, at = 64; e < 20; e++, at += 104) {
        t.deepEqual(times(after[0], at + 24), wiped);
        t.is(listedOnly, times(after[1], at + 24)[0] !== EPOCH);
        t.not(times(after[2], at + 24)[0], EPOCH);
        t.true(after[0].subarray(at + 56, at + 98).equals(before.subarray(at + 56, at + 98)));
      }
      const c = counters.counts(0, none);
      t.is(c.indexTimes, listedOnly ? 640 : 1280);
      t.is(c.listedIndexTimes, 640);
      counters.close();
      none.close();
    }
  });
});
