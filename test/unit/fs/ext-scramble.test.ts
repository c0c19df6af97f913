import test from "ava";
import { BlockSet } from "../../../src/bytes/block-set.ts";
import { putU16le } from "../../../src/bytes/endian.ts";
import { DATA, HOLE } from "../../../src/bytes/runs.ts";
import { NameScrambler } from "../../../src/fs/ext/name-scrambler.ts";
import { ScrambledSource } from "../../../src/fs/ext/scramble.ts";
import { MemorySource } from "../../../src/io/memory.ts";
import type { Source } from "../../../src/io/source.ts";
import { slowly } from "../../support/ext-select.ts";
import { Random } from "../../support/random.ts";

const BLOCK = 1024;
const BLOCKS = 6000;

/** Bytes of a volume whose directory blocks hold names of 1 to 40 bytes, some of them corrupt. */
function volume(random: Random): { bytes: Uint8Array; directories: BlockSet } {
  const bytes = random.fill(new Uint8Array(BLOCKS * BLOCK));
  const directories = new BlockSet(BLOCKS);
  for (let block = 0; block < BLOCKS; block += 1 + random.below(4)) {
    if (random.below(4) === 0) continue;
    directories.add(block);
    for (let p = block * BLOCK; p < (block + 1) * BLOCK; ) {
      const left = (block + 1) * BLOCK - p;
      const name = 1 + random.below(40);
      const need = Math.ceil((8 + name) / 4) * 4;
      const length = need + 12 > left ? left : need;
      putU16le(bytes, p + 4, random.below(4000) === 0 ? 6 : length);
      bytes[p + 6] = Math.min(name, length - 8);
      p += length;
    }
  }
  return { bytes, directories };
}

/** The whole volume with its directory blocks rewritten in order, and what was said about them. */
function wanted(bytes: Uint8Array, directories: BlockSet): { bytes: Uint8Array; lines: string[] } {
  const out = bytes.slice();
  const lines: string[] = [];
  const names = new NameScrambler(BLOCK, (_, line) => lines.push(line));
  for (let b = 0; b < BLOCKS; b++)
    if (directories.has(b)) names.scramble(out.subarray(b * BLOCK, (b + 1) * BLOCK), b);
  return { bytes: out, lines };
}

const answers: readonly (readonly [string, (s: Source) => Source])[] = [
  ["at once", (s) => s],
  ["with promises", slowly],
];

for (const [how, make] of answers)
  test(`the same bytes in any order and at any offset, from a base that answers ${how}`, async (t) => {
    const random = new Random(7);
    const { bytes, directories } = volume(random);
    const want = wanted(bytes, directories);
    t.true(want.lines.length > 5);
    const lines: string[] = [];
    const s = new ScrambledSource(make(new MemorySource(bytes)), directories, BLOCK, (_, line) =>
      lines.push(line),
    );
    const reads: Promise<void>[] = [];
    for (let i = 0; i < 150; i++) {
      const at = random.below(bytes.length);
      const into = new Uint8Array(1 + random.below(i % 3 === 0 ? 300_000 : 3000));
      const r = s.read(into, at);
      t.is(r instanceof Promise, how !== "at once");
      const check = (n: number) => {
        t.is(n, Math.min(into.length, bytes.length - at));
        t.true(Buffer.from(into.subarray(0, n)).equals(want.bytes.subarray(at, at + n)), `${at}+${n}`);
      };
      if (r instanceof Promise) reads.push(r.then(check));
      else check(r);
    }
    await Promise.all(reads);
    const all = new Uint8Array(bytes.length);
    t.is(await s.read(all, 0), bytes.length);
    t.true(Buffer.from(all).equals(want.bytes));
    t.deepEqual(lines, want.lines, "each corrupt entry is told once");
  });

test("a failed read leaves the counting as it was", (t) => {
  const { bytes, directories } = volume(new Random(3));
  const want = wanted(bytes, directories);
  const base = new MemorySource(bytes);
  let fail = false;
  const s = new ScrambledSource(
    {
      size: base.size,
      label: "x",
      map: (from, to) => base.map(from, to),
      read(into, at) {
        if (fail) throw new Error("broken");
        return base.read(into, at);
      },
      close() {},
    },
    directories,
    BLOCK,
  );
  const into = new Uint8Array(50_000);
  for (let at = 0; at + into.length <= bytes.length; at += 2 * into.length) {
    fail = true;
    t.throws(() => s.read(into, at), { message: "broken" });
    fail = false;
    s.read(into, at);
    t.true(Buffer.from(into).equals(want.bytes.subarray(at, at + into.length)));
  }
});

test("the map names no host file", (t) => {
  const base = new MemorySource(new Uint8Array(4 * BLOCK));
  const file = { path: "f", fd: 3 };
  const s = new ScrambledSource(
    {
      size: base.size,
      label: "x",
      read: (into, at) => base.read(into, at),
      map(from, to) {
        const runs = base.map(from, from);
        runs.push(BLOCK, HOLE, 0, from, file);
        runs.push(to - from - BLOCK, DATA, 0, from + BLOCK, file);
        return runs;
      },
      close() {},
      plain: { file, base: 0 },
    },
    new BlockSet(4),
    BLOCK,
  );
  t.is((s as Source).plain, undefined);
  const runs = s.map(BLOCK, 4 * BLOCK) as ReturnType<typeof base.map>;
  t.deepEqual([...runs.at.subarray(0, runs.count)], [BLOCK, 2 * BLOCK]);
  t.deepEqual([...runs.state.subarray(0, runs.count)], [HOLE, DATA]);
  t.true(runs.file.subarray(0, runs.count).every((f) => f === -1));
  t.is(runs.end, 4 * BLOCK);
});
