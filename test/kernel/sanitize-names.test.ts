import test from "ava";
import { placeNames, UNPLACED } from "../../src/fs/ext/sanitize/placement.ts";
import { Kernel } from "../../src/kernel/kernel.ts";
import { dirhashOf } from "../support/dirhash.ts";
import { Random } from "../support/random.ts";

const kernel = Kernel.get();
const KEY = [0x12345678, 0x9abcdef0] as const;

function nameAt(length: number, k: number): Uint8Array | null {
  return kernel.borrow(length + 16, (slot) =>
    kernel.raw.nameAt(slot.at, length, KEY[0], KEY[1], k) === 0 ? null : slot.bytes.slice(0, length),
  );
}

const text = (b: Uint8Array) => Buffer.from(b).toString("latin1");

test("every number of a short length has a name of its own, and all legal names are among them", (t) => {
  for (const [length, folded, names] of [
    [1, false, 253],
    [1, true, 66],
    [2, false, 253 ** 2],
    [2, true, 66 ** 2],
  ] as const) {
    const seen = new Set<string>();
    const count = kernel.raw.nameCount(length, folded ? 1 : 0);
    for (let k = 0; k < count; k++) {
      const name = nameAt(length, k);
      if (name === null) continue;
      seen.add(text(name));
      if (name.some((c) => c === 0 || c === 0x2f || c === 0x2e)) t.fail(`${length}, ${k}`);
      if (folded && !/^[!-~]+$/.test(text(name))) t.fail(`${length}, ${k}`);
      if (folded && /[A-Z]/.test(text(name))) t.fail(`${length}, ${k}`);
    }
    t.is(seen.size, names, `${length}, ${folded}`);
  }
});

test("long names differ, keep to sixteen letters, and follow from the key", (t) => {
  for (const length of [3, 5, 8, 9, 16, 24, 25, 40, 255]) {
    const seen = new Set<string>();
    for (let k = 0; k < 3000; k++) {
      const name = text(nameAt(length, k)!);
      t.is(name.length, length);
      if (!/^[bcdfghjkmnpqrtvz]+$/.test(name)) t.fail(name);
      seen.add(name);
    }
    t.is(seen.size, 3000);
  }
});

test("names drawn for a directory hash into their leaves, and each is used once", (t) => {
  const random = new Random(41);
  for (const [total, perLeaf, shortest, longest] of [
    [3000, 40, 6, 45],
    [3000, 3, 248, 255],
    [900, 60, 3, 4],
    [40, 20, 1, 2],
    [500, 500, 1, 30],
  ])
    for (let version = 0; version < 6; version++) {
      const leaves = Math.ceil(total / perLeaf);
      const bounds = Array.from({ length: leaves }, (_, i) => Math.floor((i * 2 ** 32) / leaves / 2) * 2);
      const lengths = Uint8Array.from(
        { length: total },
        () => shortest + random.below(longest - shortest + 1),
      );
      const starts = Uint32Array.from({ length: leaves + 1 }, (_, i) => Math.min(i * perLeaf, total));
      const seed = Uint32Array.of(random.word(), random.word(), random.word(), random.word());
      const { numbers, unplaced } = placeNames({
        lengths,
        starts,
        bounds,
        version,
        seed,
        key: KEY,
        folded: version === 2,
      });
      t.is(unplaced, numbers.filter((n) => n === UNPLACED).length);
      t.true(unplaced === 0 || shortest === 1, `${total} ${version}: ${unplaced} without a name`);
      const seen = new Set<string>();
      for (let leaf = 0; leaf < leaves; leaf++)
        for (let i = starts[leaf]; i < starts[leaf + 1]; i++) {
          if (numbers[i] === UNPLACED) continue;
          const name = nameAt(lengths[i], numbers[i])!;
          seen.add(text(name));
          const hash = dirhashOf(name, version, [...seed]);
          const inside = hash >= bounds[leaf] && (leaf + 1 === leaves || hash < bounds[leaf + 1]);
          if (!inside) t.fail(`${text(name)} in leaf ${leaf}, version ${version}`);
        }
      t.is(seen.size + unplaced, total);
    }
});

interface Entry {
  readonly at: number;
  readonly size: number;
  readonly live: boolean;
  readonly name: string;
}

/** A directory block with live and deleted entries and rubbish behind names. */
function block(random: Random, size: number): { bytes: Uint8Array; entries: Entry[] } {
  const bytes = random.fill(new Uint8Array(size));
  const view = new DataView(bytes.buffer);
  const entries: Entry[] = [];
  for (let at = 0; at < size; ) {
    const length = 1 + random.below(random.below(3) === 0 ? 255 : 20);
    let n = ((8 + length + 3) & ~3) + 4 * random.below(4);
    if (at + n + 12 > size) n = size - at;
    const live = random.below(4) !== 0;
    const fits = Math.min(length, n - 8);
    const name = fits === 1 && random.below(2) === 0 ? "." : "n".repeat(fits);
    view.setUint32(at, live ? 1 + random.below(1000) : 0, true);
    view.setUint16(at + 4, n, true);
    bytes[at + 6] = fits;
    bytes[at + 7] = 1;
    bytes.set(Buffer.from(name), at + 8);
    entries.push({ at, size: n, live, name });
    at += n;
  }
  return { bytes, entries };
}

test("blocks rewritten: layout stays, names are the numbered ones, nothing is left behind them", (t) => {
  const random = new Random(43);
  for (let round = 0; round < 200; round++) {
    const { bytes, entries } = block(random, round % 2 ? 1024 : 4096);
    const wanted = entries.filter((e) => e.live && e.name !== ".");
    const numbers = wanted.map((_, i) => i % 16);
    kernel.borrow(4096, (slot) =>
      kernel.borrow(8192, (list) => {
        slot.bytes.set(bytes);
        new Uint32Array(list.bytes.buffer, list.bytes.byteOffset, numbers.length).set(numbers);
        t.is(kernel.raw.listNames(slot.at, bytes.length, bytes.length, 1), wanted.length);
        t.is(kernel.out[0], bytes.length);
        wanted.forEach((e, i) => {
          t.is(kernel.out[4 + 6 * i], e.at);
          t.is(kernel.out[5 + 6 * i], e.name.length);
        });
        const n = kernel.raw.rewriteNames(slot.at, bytes.length, bytes.length, 1, KEY[0], KEY[1], list.at);
        t.is(n, wanted.length);
        const b = slot.bytes;
        for (const e of entries) {
          t.deepEqual(b.slice(e.at, e.at + 6), bytes.slice(e.at, e.at + 6));
          const i = wanted.indexOf(e);
          const name = !e.live ? "" : i < 0 ? "." : text(nameAt(e.name.length, numbers[i])!);
          t.is(b[e.at + 6], name.length);
          t.is(text(b.slice(e.at + 8, e.at + e.size)), name.padEnd(e.size - 8, "\0"));
        }
      }),
    );
  }
});

test("behind a bad record nothing is left", (t) => {
  const random = new Random(47);
  for (const bad of [0, 4, 10, 2000]) {
    const { bytes, entries } = block(random, 1024);
    const e = entries[2];
    new DataView(bytes.buffer).setUint16(e.at + 4, bad, true);
    kernel.borrow(1024, (slot) => {
      slot.bytes.set(bytes);
      kernel.raw.rewriteNames(slot.at, 1024, 1024, 1, KEY[0], KEY[1], 0);
      t.is(kernel.out[0], e.at);
      const rest = slot.bytes.slice(e.at, 1024);
      t.is(rest[4] | (rest[5] << 8), bad);
      t.true(rest.every((c, i) => c === 0 || (i >= 4 && i < 7)));
    });
  }
});

test("windows are found wherever they are", (t) => {
  const random = new Random(53);
  const length = 5000;
  kernel.borrow(8192, (slot) =>
    kernel.borrow(1 << 13, (filter) => {
      filter.bytes.fill(0);
      const shift = 16;
      const words = new Set<number>();
      for (let i = 0; i < 40; i++) {
        const w = random.word() & 0x0f0f0f0f;
        words.add(w);
        const h = Math.imul(w, 0x9e3779b1) >>> shift;
        filter.bytes[h >>> 3] |= 1 << (h & 7);
      }
      const b = random.fill(slot.bytes.subarray(0, length));
      for (let i = 0; i < length; i++) b[i] = random.below(3) === 0 ? b[i] & 15 : 0;
      const planted = [...words];
      for (let i = 0; i < 100; i++) {
        const at = random.below(length - 4);
        new DataView(b.buffer, b.byteOffset).setUint32(at, planted[i % planted.length], true);
      }
      const view = new DataView(b.buffer, b.byteOffset);
      const expected: number[] = [];
      for (let i = 0; i + 4 <= length; i++) {
        const w = view.getUint32(i, true);
        const h = Math.imul(w, 0x9e3779b1) >>> shift;
        if (w !== 0 && (filter.bytes[h >>> 3] >> (h & 7)) & 1) expected.push(i);
      }
      const n = kernel.raw.scanWords(slot.at, length, 0, filter.at, shift);
      const found = [...kernel.out.slice(1, 1 + n)].filter((i) => view.getUint32(i, true) !== 0);
      t.deepEqual(found, expected);
    }),
  );
});
