import test from "ava";
import { putU16le, putU32le, putU64le, u16le, u32le } from "../../src/bytes/endian.ts";
import {
  applyFixups,
  RECORD_NO_MAGIC,
  RECORD_OK,
  RECORD_RAW,
  RECORD_TORN,
  removeFixup,
  removeFixups,
} from "../../src/fs/ntfs/fixup.ts";
import { type Attribute, checkRecord, isExtension, recordAttributes } from "../../src/fs/ntfs/record.ts";
import { RUN } from "../../src/fs/ntfs/runlist.ts";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";

const kernel = Kernel.get();
const MAGIC = 0x454c4946;
const VISIT = 0xffff;

/** A record with a sound update sequence array and random bytes. */
function fixedUp(random: Random, size: number): { plain: Uint8Array; stored: Uint8Array } {
  const plain = random.fill(new Uint8Array(size));
  putU32le(plain, 0, MAGIC);
  putU16le(plain, 4, 48);
  putU16le(plain, 6, size / 512 + 1);
  const stored = plain.slice();
  const number = u16le(plain, 48);
  for (let i = 1; i <= size / 512; i++) {
    putU16le(plain, 48 + 2 * i, u16le(plain, i * 512 - 2));
    putU16le(stored, 48 + 2 * i, u16le(plain, i * 512 - 2));
  }
  for (let i = 1; i <= size / 512; i++) putU16le(stored, i * 512 - 2, number);
  return { plain, stored };
}

test("fixups come off as they should, in records of every size; broken records stay as they are", (t) => {
  const random = new Random(5);
  for (const size of [512, 1024, 2048, 4096, 32768])
    kernel.borrow(size * 4 + 64, (slot) =>
      kernel.borrow(64, (states) => {
        const records = Array.from({ length: 4 }, () => fixedUp(random, size));
        records[1].stored[0] = 0x42;
        records[2].stored[size - 1] ^= 1;
        putU16le(records[3].stored, 6, size / 512);
        records.forEach((r, i) => {
          slot.bytes.set(r.stored, i * size);
        });
        t.is(removeFixups(slot, size, 4, MAGIC, states), 3);
        const want = [RECORD_OK, RECORD_NO_MAGIC, RECORD_TORN, RECORD_RAW];
        t.deepEqual([...states.bytes.subarray(0, 4)], want);
        records.forEach((r, i) => {
          const one = r.stored.slice();
          t.is(removeFixup(one, MAGIC), want[i], "one record by itself");
          const expected = i === 0 ? r.plain : r.stored;
          t.deepEqual(one, expected);
          t.deepEqual(slot.bytes.slice(i * size, (i + 1) * size), expected);
        });
      }),
    );
});

test("fixups go on with the next sequence number, past 0 and 0xffff", (t) => {
  const random = new Random(6);
  for (const [before, after] of [
    [1, 2],
    [0xfffd, 0xfffe],
    [0xfffe, 1],
    [0xffff, 1],
    [0, 1],
  ]) {
    const { plain } = fixedUp(random, 1024);
    putU16le(plain, 48, before);
    kernel.borrow(2048, (slot) => {
      slot.bytes.set(plain);
      slot.bytes.set(plain, 1024);
      slot.bytes[1024] = 0;
      t.is(applyFixups(slot, 1024, 2, MAGIC), 1);
      t.is(u16le(slot.bytes, 48), after);
      t.is(u16le(slot.bytes, 510), after);
      t.is(u16le(slot.bytes, 1022), after);
      t.is(slot.bytes[1024 + 510], plain[510], "without the magic nothing changes");
      const back = slot.bytes.slice(0, 1024);
      t.is(removeFixup(back, MAGIC), RECORD_OK);
      putU16le(back, 48, before);
      t.deepEqual(back, plain);
    });
  }
});

const CLUSTER = 4096;
const LIMIT = 1 << 20;

function put(b: Uint8Array, at: number, value: number, bytes: number): void {
  let v = BigInt.asUintN(64, BigInt(value));
  for (let i = 0; i < bytes; i++) {
    b[at + i] = Number(v & 0xffn);
    v >>= 8n;
  }
}

/** A sound record with a few attributes. */
function soundRecord(random: Random, size: number): Uint8Array {
  const b = new Uint8Array(size);
  putU32le(b, 0, MAGIC);
  putU16le(b, 20, 56);
  putU16le(b, 22, random.below(5) === 0 ? 0 : 1);
  putU32le(b, 28, size);
  if (random.below(8) === 0) putU32le(b, 32, 77);
  let at = 56;
  const attribute = (type: number, length: number) => {
    putU32le(b, at, type);
    putU32le(b, at + 4, length);
    at += length;
    return at - length;
  };
  const si = attribute(0x10, 72);
  putU32le(b, si + 16, 48);
  putU16le(b, si + 20, 24);
  for (const type of [0x30, 0x80, 0x80, 0xa0, 0xb0]) {
    if (random.below(3) === 0) continue;
    if (random.below(3) === 0) {
      const a = attribute(type, 40);
      putU32le(b, a + 16, random.below(17));
      putU16le(b, a + 20, 24);
      continue;
    }
    const pairs: number[] = [];
    let vcn = 0;
    let lcn = 0;
    const scratch = new Uint8Array(8);
    for (let runs = random.below(5); runs > 0; runs--) {
      const length = 1 + random.below([5, 127, 3000][random.below(3)]);
      const lengthBytes = 2 + random.below(3);
      put(scratch, 0, length, lengthBytes);
      const bytes = [...scratch.subarray(0, lengthBytes)];
      if (random.below(4) === 0) pairs.push(lengthBytes, ...bytes);
      else {
        const to = random.below(3) === 0 ? lcn + (pairs.length > 0 ? 1 : 0) : random.below(LIMIT - length);
        const lcnBytes = 3 + random.below(3);
        put(scratch, 0, to - lcn, lcnBytes);
        pairs.push(lengthBytes | (lcnBytes << 4), ...bytes, ...scratch.subarray(0, lcnBytes));
        lcn = to;
      }
      vcn += length;
    }
    const a = attribute(type, (64 + pairs.length + 8) & ~7);
    b[a + 8] = 1;
    b[a + 9] = random.below(2);
    putU16le(b, a + 10, 64);
    putU16le(b, a + 32, 64);
    put(b, a + 24, vcn - 1, 8);
    putU64le(b, a + 40, vcn * CLUSTER);
    b.set(pairs, a + 64);
  }
  putU32le(b, at, 0xffffffff);
  putU32le(b, 24, at + 8);
  return b;
}

/** What a record owns, by the plain reader: (kind, LCN, length), or null where it needs a closer look. */
function owned(b: Uint8Array): [number, number, number][] | null {
  if ((u16le(b, 22) & 1) === 0 || isExtension(b)) return [];
  if (checkRecord(b, 0) !== null) return null;
  const { attributes, damage } = recordAttributes(b, 0);
  if (damage !== null || attributes[0]?.type !== 0x10) return null;
  const runs: [number, number, number][] = [];
  for (const a of attributes) {
    if (!a.nonResident) continue;
    try {
      add(a, runs);
    } catch {
      return null;
    }
  }
  return runs;
}

function add(a: Attribute, into: [number, number, number][]): void {
  const runs = a.runsWithin(CLUSTER);
  const kind = (a.type >>> 4) | (a.nameLength > 0 ? 0x1000 : 0);
  for (let i = 0; i < runs.length; i += RUN)
    if (runs[i + 1] >= 0) into.push([kind, runs[i + 1], runs[i + 2]]);
}

/** Joined where one goes on where the one before ends. */
function merged(runs: readonly [number, number, number][]): [number, number, number][] {
  const out: [number, number, number][] = [];
  for (const [kind, lcn, length] of runs) {
    const last = out[out.length - 1];
    if (last !== undefined && last[0] === kind && last[1] + last[2] === lcn) last[2] += length;
    else out.push([kind, lcn, length]);
  }
  return out;
}

function answered(
  records: readonly Uint8Array[],
  states: readonly number[],
  apart: number,
): { runs: [number, number, number][]; visits: number[] } {
  const size = records[0].length;
  return kernel.borrow(records.length * size + 8, (slot) =>
    kernel.borrow(64, (stateSlot) =>
      kernel.borrow(records.length * size * 4, (into) => {
        records.forEach((r, i) => {
          slot.bytes.set(r, i * size);
        });
        stateSlot.bytes.set(states);
        const n = kernel.raw.ntfsRecords(
          slot.at,
          size,
          records.length,
          stateSlot.at,
          apart,
          CLUSTER,
          LIMIT,
          into.at,
        );
        const triples = new Uint32Array(into.bytes.buffer, into.at, n * 3);
        const runs: [number, number, number][] = [];
        const visits: number[] = [];
        for (let i = 0; i < triples.length; i += 3) {
          const kind = triples[i + 1] >>> 16;
          if (kind === VISIT) visits.push(triples[i]);
          else runs.push([kind, (triples[i + 1] & 0xffff) * 2 ** 32 + triples[i], triples[i + 2]]);
        }
        return { runs, visits };
      }),
    ),
  );
}

test("sound records are answered without a visit, and as the plain reader answers", (t) => {
  const random = new Random(9);
  for (let round = 0; round < 300; round++) {
    const records = Array.from({ length: 6 }, () => soundRecord(random, 1024));
    const states = records.map(() => [0, 0, 0, 1, 2, 3][random.below(6)]);
    const want = records.flatMap((r, i) => (states[i] === 0 ? owned(r)! : []));
    const got = answered(records, states, 0);
    t.deepEqual(got.visits, []);
    t.deepEqual(got.runs, merged(want));
    const all = records.filter((r, i) => states[i] === 0 && (u16le(r, 22) & 1) !== 0 && !isExtension(r));
    t.is(answered(records, states, 6).visits.length, all.length, "set apart");
    const raw = answered(
      records,
      states.map((s) => (s === 0 ? RECORD_RAW : s)),
      0,
    );
    t.is(raw.visits.length, all.length, "with fixups in them");
  }
});

test("of broken records the kernel answers nothing that the plain reader does not", (t) => {
  const random = new Random(10);
  let visited = 0;
  let same = 0;
  for (let round = 0; round < 6000; round++) {
    const before = soundRecord(random, 1024);
    const b = soundRecord(random, 1024);
    for (let n = 1 + random.below(3); n > 0; n--) b[16 + random.below(u32le(b, 24))] = random.below(256);
    const got = answered([before, b], [0, 0], 0);
    const first = owned(before)!;
    if (got.visits.length > 0) {
      t.deepEqual(got.visits, [1]);
      t.deepEqual(got.runs, merged(first), "what came before a visit stays");
      visited++;
      continue;
    }
    const second = owned(b);
    t.not(second, null, "a record that needs a closer look");
    t.deepEqual(got.runs, merged([...first, ...second!]));
    for (const [, lcn, length] of got.runs) t.true(lcn >= 0 && lcn + length <= LIMIT);
    same++;
  }
  t.true(visited > 500 && same > 500, `${visited} visited, ${same} answered`);
});
