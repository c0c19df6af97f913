import test from "ava";
import * as e from "../../../src/bytes/endian.ts";
import { Random } from "../../support/random.ts";

test("every field type agrees with DataView at every offset", (t) => {
  const random = new Random(53);
  const bytes = random.fill(new Uint8Array(64));
  const view = new DataView(bytes.buffer);
  for (let o = 0; o <= 56; o++) {
    t.is(e.u16le(bytes, o), view.getUint16(o, true));
    t.is(e.u16be(bytes, o), view.getUint16(o));
    t.is(e.u32le(bytes, o), view.getUint32(o, true));
    t.is(e.u32be(bytes, o), view.getUint32(o));
    t.is(e.u64le(bytes, o), Number(view.getBigUint64(o, true)));
    t.is(e.u64be(bytes, o), Number(view.getBigUint64(o)));
  }
});

test("what is put is read back, and nothing beside it changes", (t) => {
  const b = new Uint8Array(24);
  const values: [number, number][] = [
    [2, 0],
    [2, 0xffff],
    [2, 0x8001],
    [4, 0xffffffff],
    [4, 0x80000001],
    [8, Number.MAX_SAFE_INTEGER],
    [8, 2 ** 52 + 1],
    [8, 2 ** 32],
    [8, 2 ** 32 - 1],
  ];
  for (const [width, v] of values)
    for (const o of [1, 8, 11]) {
      const forms = {
        2: [e.putU16le, e.u16le, e.putU16be, e.u16be],
        4: [e.putU32le, e.u32le, e.putU32be, e.u32be],
        8: [e.putU64le, e.u64le, e.putU64be, e.u64be],
      }[width] as [typeof e.putU16le, typeof e.u16le, typeof e.putU16le, typeof e.u16le];
      for (const [put, get] of [forms.slice(0, 2), forms.slice(2)] as [typeof e.putU16le, typeof e.u16le][]) {
        b.fill(0xa5);
        put(b, o, v);
        t.is(get(b, o), v);
        t.true(b.every((x, i) => (i >= o && i < o + width) || x === 0xa5));
      }
    }
});

test("numbers past 2^53 are told apart", (t) => {
  const b = new Uint8Array(8).fill(0xff);
  t.false(e.isSafe(e.u64le(b, 0)));
  t.false(e.isSafe(e.u64be(b, 0)));
  t.false(e.isSafe(-1));
  t.false(e.isSafe(Number.NaN));
  t.true(e.isSafe(0));
  t.true(e.isSafe(Number.MAX_SAFE_INTEGER));
  t.false(e.isSafe(2 ** 53));
});

test("cString ends at a NUL, at the field's end and at the array's", (t) => {
  const b = Uint8Array.from([0x61, 0x62, 0xe9, 0, 0x63, 0x64]);
  t.is(e.cString(b, 0, 6), "ab\u00e9");
  t.is(e.cString(b, 0, 2), "ab");
  t.is(e.cString(b, 4, 16), "cd");
  t.is(e.cString(b, 3, 3), "");
});
