import test from "ava";
import { putU16le, putU32le, u16le, u32le } from "../../src/bytes/endian.ts";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";

const kernel = Kernel.get();
const VISIT = 0xffff;

interface Limits {
  readonly flags: number;
  readonly first: number;
  readonly limit: number;
}

/** What an inode adds, said plainly: runs of blocks, or "visit". */
function expected(b: Uint8Array, { flags, first, limit }: Limits): [number, number, number][] | "visit" {
  if (u16le(b, 26) === 0) return [];
  if ((flags & 8) !== 0) return "visit";
  const type = u16le(b, 0) & 0xf000;
  const xattr = u32le(b, 104) + ((flags & 2) !== 0 ? u16le(b, 118) * 2 ** 32 : 0);
  const inside = (from: number, n = 1) => from >= first && from + n <= limit;
  const f = u32le(b, 32);
  const inline = (f & 0x10000000) !== 0;
  const runs: [number, number, number][] = [];
  if (xattr !== 0) {
    if (!inside(xattr) || type === 0xa000) return "visit";
    runs.push([xattr, 1, 2]);
  }
  if (type === 0xa000) return u32le(b, 28) !== 0 || inline ? "visit" : runs;
  if ((type !== 0x8000 && type !== 0x4000) || inline) return runs;
  const kind = type === 0x4000 ? 1 : 0;
  const all = kind === 1 || (flags & 1) !== 0 || ((flags & 4) !== 0 && (f & 0x200000) !== 0);
  if ((f & 0x80000) !== 0) {
    if (u16le(b, 46) !== 0) return "visit";
    if (!all) return runs;
    const [entries, room] = [u16le(b, 42), u16le(b, 44)];
    if (u16le(b, 40) !== 0xf30a || entries > room || room < 2 || room > 4) return "visit";
    let next = 0;
    for (let i = 0; i < entries; i++) {
      const o = 52 + 12 * i;
      const n = u16le(b, o + 4) > 32768 ? u16le(b, o + 4) - 32768 : u16le(b, o + 4);
      const start = u16le(b, o + 6) * 2 ** 32 + u32le(b, o + 8);
      if (n === 0 || u32le(b, o) < next || !inside(start, n)) return "visit";
      next = u32le(b, o) + n;
      runs.push([start, n, kind]);
    }
    return runs;
  }
  if (u32le(b, 88) !== 0 || u32le(b, 92) !== 0 || u32le(b, 96) !== 0) return "visit";
  if (all)
    for (let i = 0; i < 12; i++) {
      const block = u32le(b, 40 + 4 * i);
      if (block === 0) continue;
      if (!inside(block)) return "visit";
      runs.push([block, 1, kind]);
    }
  return runs;
}

function make(random: Random, b: Uint8Array, limit: number): void {
  b.fill(0);
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)];
  const block = () => (random.below(12) === 0 ? random.word() : 1 + random.below(limit));
  putU16le(b, 0, pick([0x81a4, 0x81a4, 0x41ed, 0xa1ff, 0x21b6]));
  putU16le(b, 26, pick([0, 1, 1, 1, 2]));
  putU32le(b, 28, pick([0, 8]));
  putU32le(b, 32, pick([0, 0x80000, 0x80000, 0x80000, 0x10000000, 0x280000]));
  if (random.below(4) === 0) putU32le(b, 104, block());
  if (random.below(16) === 0) putU16le(b, 118, 1);
  if ((u32le(b, 32) & 0x80000) === 0) {
    let at = block();
    for (let i = 0; i < 12; i++) {
      at = random.below(3) === 0 ? block() : at + 1;
      if (random.below(3) !== 0) putU32le(b, 40 + 4 * i, at);
    }
    if (random.below(6) === 0) putU32le(b, 88 + 4 * random.below(3), block());
    return;
  }
  putU16le(b, 40, random.below(20) === 0 ? 0 : 0xf30a);
  const entries = random.below(random.below(10) === 0 ? 7 : 5);
  putU16le(b, 42, entries);
  putU16le(b, 44, pick([4, 4, 4, 4, 3, 2, 1, 5]));
  putU16le(b, 46, random.below(12) === 0 ? 1 : 0);
  let logical = 0;
  for (let i = 0; i < Math.min(entries, 4); i++) {
    const n = pick([1, 2, 5, 32768, 32770, random.below(65536)]);
    putU32le(b, 52 + 12 * i, random.below(15) === 0 ? 0 : logical);
    putU16le(b, 56 + 12 * i, n);
    putU16le(b, 58 + 12 * i, random.below(20) === 0 ? 1 : 0);
    putU32le(b, 60 + 12 * i, block());
    logical += n > 32768 ? n - 32768 : n;
  }
}

test("inode tables: the same blocks as a plain reading, neighbours merged", (t) => {
  const random = new Random(5);
  for (let round = 0; round < 400; round++) {
    const size = [128, 256, 512, 1024][random.below(4)];
    const count = 1 + random.below(60);
    const limit = 200_000;
    const limits: Limits = { flags: round % 16, first: round & 1, limit };
    const slot = kernel.take(size * count);
    const found = kernel.take(count * 13 * 12);
    const wanted: string[] = [];
    for (let i = 0; i < count; i++) {
      const b = slot.bytes.subarray(i * size, (i + 1) * size);
      make(random, b, limit);
      const e = expected(b, limits);
      if (e === "visit") wanted.push(`visit ${i}`);
      else
        for (const [start, n, kind] of e)
          for (let k = 0; k < n; k++)
            if (n < 10 || k === 0 || k === n - 1) wanted.push(`${kind} ${start + k}`);
    }
    const n = kernel.raw.extInodes(slot.at, size, count, limits.flags, limits.first, limit, found.at);
    t.true(n <= count * 13);
    const words = new Uint32Array(found.bytes.buffer, found.bytes.byteOffset, n * 3);
    const got = new Set<string>();
    let blocks = 0;
    for (let i = 0; i < n; i++) {
      const kind = words[3 * i + 1] >>> 16;
      if (kind === VISIT) got.add(`visit ${words[3 * i]}`);
      else {
        const start = (words[3 * i + 1] & 0xffff) * 2 ** 32 + words[3 * i];
        blocks += words[3 * i + 2];
        for (let k = 0; k < words[3 * i + 2]; k++) got.add(`${kind} ${start + k}`);
      }
    }
    const missing = wanted.filter((w) => !got.has(w));
    t.deepEqual(missing, [], `round ${round}`);
    let total = 0;
    for (let i = 0; i < count; i++) {
      const e = expected(slot.bytes.subarray(i * size, (i + 1) * size), limits);
      if (e !== "visit") for (const [, length] of e) total += length;
    }
    t.is(blocks, total, `round ${round}`);
    kernel.give(found);
    kernel.give(slot);
  }
});
