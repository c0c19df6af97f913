import test from "ava";
import { putU16le, u16le } from "../../src/bytes/endian.ts";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";

const kernel = Kernel.get();

/** The rules said plainly: changes the block and the counters, answers with complaints. */
function expected(b: Uint8Array, counters: Uint32Array, index: number): number[] {
  const said: number[] = [];
  let p = 0;
  while (p < b.length - 8) {
    const stored = u16le(b, p + 4);
    const length = stored === 0 || stored === 65535 ? b.length : (stored & 0xfffc) + (stored & 3) * 65536;
    if (length < 8 || length % 4 !== 0 || p + length > b.length) {
      said.push(index, 0, length);
      putU16le(b, p + 4, b.length - p === 65536 ? 65535 : b.length - p);
      break;
    }
    const n = b[p + 6];
    const at = p + 8;
    const end = p + length;
    p = end;
    if (n + 8 > length) {
      said.push(index, 1, n);
      b[at - 2] = (length - 8) & 255;
      continue;
    }
    b.fill(0, at + n, end);
    const name = [...b.subarray(at, at + n)];
    if (name.length <= 2 && name.length > 0 && name.every((c) => c === 46)) continue;
    let id = counters[n]++;
    for (let i = 0; i < n; i++) {
      b[at + i] = 65 + (id % 26);
      id = Math.floor(id / 26);
    }
  }
  return said;
}

/** A directory block, sound or broken. */
function make(random: Random, b: Uint8Array, damage: boolean): void {
  random.fill(b);
  for (let p = 0; p < b.length; ) {
    const left = b.length - p;
    const most = Math.max(1, Math.min(255, left - 8, random.below(6) === 0 ? 255 : 20));
    const n = random.below(9) === 0 ? random.below(3) : random.below(most + 1);
    let length = Math.ceil((8 + n) / 4) * 4 + 4 * random.below(4);
    if (length > left - 12 || random.below(200) === 0) length = left;
    const stored = length === 65536 ? [0, 65535][random.below(2)] : (length & 0xfffc) | (length >> 16);
    putU16le(b, p + 4, stored);
    b[p + 6] = Math.min(n, length - 8);
    if (random.below(12) === 0) b.fill(46, p + 8, p + 8 + b[p + 6]);
    if (damage && random.below(40) === 0) b[p + 6] = random.below(256);
    if (damage && random.below(60) === 0)
      putU16le(b, p + 4, [0, 65535, 4, 7, 10, length + 1, random.below(65536)][random.below(7)]);
    p += length;
  }
}

test("directory blocks: the same names, slack and complaints as a plain reading", (t) => {
  const random = new Random(11);
  for (let round = 0; round < 300; round++) {
    const size = [1024, 2048, 4096, 65536][random.below(4)];
    const blocks = 1 + random.below(size === 65536 ? 3 : 8);
    const slot = kernel.take(size * blocks);
    const counts = kernel.take(1024);
    const counters = new Uint32Array(counts.bytes.buffer, counts.bytes.byteOffset, 256);
    for (let i = 0; i < 256; i++) counters[i] = random.below(2) * random.below(20_000);
    for (let i = 0; i < blocks; i++) {
      const b = slot.bytes.subarray(i * size, (i + 1) * size);
      const kind = random.below(12);
      if (kind === 0) b.fill(0);
      else if (kind === 1) random.fill(b);
      else make(random, b, round % 2 === 1);
    }
    const wanted = slot.bytes.slice();
    const wantedCounters = counters.slice();
    const said: number[] = [];
    for (let i = 0; i < blocks; i++)
      said.push(...expected(wanted.subarray(i * size, (i + 1) * size), wantedCounters, i));
    const n = kernel.raw.scrambleNames(slot.at, size, blocks, counts.at);
    t.deepEqual([...kernel.out.subarray(0, 3 * n)], said, `round ${round}`);
    t.true(Buffer.from(slot.bytes).equals(wanted), `round ${round}: bytes`);
    t.deepEqual(counters, wantedCounters, `round ${round}: counters`);
    kernel.give(counts);
    kernel.give(slot);
  }
});
