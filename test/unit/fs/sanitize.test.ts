import test from "ava";
import { ranks } from "../../../src/fs/ext/sanitize/block-table.ts";
import { parseJournal } from "../../../src/fs/ext/sanitize/journal.ts";
import { DOMAIN, Keys, replacePath } from "../../../src/fs/ext/sanitize/keys.ts";
import { NameCounter } from "../../../src/fs/ext/sanitize/names.ts";
import { NumberPool } from "../../../src/fs/ext/sanitize/number-pool.ts";
import { UNPLACED } from "../../../src/fs/ext/sanitize/placement.ts";
import { searchWords } from "../../../src/fs/ext/sanitize/search.ts";
import { Words } from "../../../src/fs/ext/sanitize/words.ts";
import { AttributeNames } from "../../../src/fs/ext/sanitize/xattrs.ts";
import { MemorySource } from "../../../src/io/memory.ts";
import { slowly } from "../../support/ext-select.ts";
import { Random } from "../../support/random.ts";

const bytes = (s: string) => Uint8Array.from(s, (c) => c.charCodeAt(0));
const text = (b: Uint8Array) => Buffer.from(b).toString("latin1");

test("words are found wherever they begin, each place once", async (t) => {
  const piece = 512 * 1024;
  const image = new Uint8Array(3 * piece + 777);
  const words = new Words();
  const long = "L".repeat(3000) + "ong";
  for (const w of ["word", "another word", long, "end!", "wordy"]) words.add(bytes(w), "name");
  const places = new Map<string, number[]>();
  const plant = (w: string, at: number) => {
    image.set(bytes(w), at);
    places.set(w, [...(places.get(w) ?? []), at]);
  };
  for (const at of [0, piece - 4100, piece - 4096, piece - 2, 2 * piece + 4000, 2 * piece - 4097])
    plant("word", at);
  plant("another word", piece + 5000);
  plant(long, 2 * piece - 1500);
  plant("end!", image.length - 4);
  places.get("word")!.push(piece + 5000 + 8);
  for (const source of [new MemorySource(image), slowly(new MemorySource(image))]) {
    const r = await searchWords(source, words, { searched: "stream" });
    t.is(r.words, 5);
    t.is(r.bytes, image.length);
    const found = new Map(r.found.map((f) => [f.text.slice(0, 12), f]));
    for (const [w, at] of places) {
      const f = found.get(w.slice(0, 12))!;
      t.is(f.count, at.length, w.slice(0, 12));
      t.deepEqual(f.offsets, at.sort((a, b) => a - b).slice(0, 8));
    }
    t.is(r.found.length, places.size);
  }
});

test("many words, none of them in random bytes, all of them when they are planted", async (t) => {
  const random = new Random(5);
  const words = new Words();
  const list: string[] = [];
  for (let i = 0; i < 20_000; i++) list.push(`name ${random.word()} ${i}`);
  for (const w of list) words.add(bytes(w), "name");
  for (const w of list) words.add(bytes(w), "target");
  t.is(words.count, list.length);
  const noise = random.fill(new Uint8Array(1 << 20));
  t.deepEqual((await searchWords(new MemorySource(noise), words, { searched: "stream" })).found, []);
  const all = bytes(list.join("\0"));
  const r = await searchWords(new MemorySource(all), words, { searched: "stream" });
  t.is(r.found.length + r.unlisted, list.length);
  t.is(r.found[0].kind, "name");
});

test("short words don't count, words of one byte are told apart", (t) => {
  const words = new Words();
  words.add(bytes("abc"), "name");
  words.add(new Uint8Array(64), "value");
  words.addPath(bytes("/usr/share/x"), "target");
  t.is(words.count, 2);
  t.is(words.uniform, 1);
});

test("paths keep their slashes and dots and nothing else", (t) => {
  const keys = new Keys("seed");
  for (const path of [
    "/",
    ".",
    "../../a/./b",
    "/usr/local/lib/.hidden",
    "..x/...",
    "a//b",
    "x".repeat(300),
  ]) {
    const b = bytes(path);
    replacePath(b, keys, DOMAIN.target, 12);
    t.is(
      text(b).replace(/[^/]+/g, (c) => (c === "." || c === ".." ? c : "x".repeat(c.length))),
      path.replace(/[^/]+/g, (c) => (c === "." || c === ".." ? c : "x".repeat(c.length))),
    );
    t.notRegex(text(b), /usr|local|hidden|lib|x/);
  }
  const [a, b, c] = [1, 1, 2].map((n) => {
    const p = bytes("/some/where");
    replacePath(p, keys, DOMAIN.target, n);
    return text(p);
  });
  t.is(a, b);
  t.not(a, c);
});

test("attribute names keep their order within a length", (t) => {
  const names = new AttributeNames();
  const list = ["zeta", "beta", "alfa", "x", "y", "comment", "checksum"];
  for (const n of [...list, ...list]) names.add(n);
  t.is(names.count, list.length);
  names.assign(new Keys("k"));
  const seen = new Set<string>();
  for (const n of list) {
    const other = text(names.get(n)!);
    t.is(other.length, n.length);
    seen.add(other);
  }
  t.is(seen.size, list.length);
  const fours = ["alfa", "beta", "zeta"].map((n) => text(names.get(n)!));
  t.deepEqual(fours, [...fours].sort());
});

test("a directory counts its names off, until a length has no more", (t) => {
  for (const [folded, most] of [
    [false, 253],
    [true, 66],
  ] as const) {
    const counter = new NameCounter(folded, [1, 2]);
    const seen = new Set<number>();
    for (let i = 0; i < most; i++) seen.add(counter.next(1));
    t.is(seen.size, most);
    t.false(seen.has(UNPLACED));
    t.is(counter.next(1), UNPLACED);
    t.is(counter.next(9), 0);
  }
});

test("numbers of a block stay together", (t) => {
  const pool = new NumberPool();
  const random = new Random(9);
  const kept: [number, number, number][] = [];
  for (let i = 0; i < 400; i++) {
    const n = 1 + random.below(5000);
    const at = pool.take(n);
    pool.view(at, n).fill(i);
    kept.push([at, n, i]);
  }
  for (const [at, n, i] of kept)
    t.true(pool.view(at, n).length === n && pool.view(at, n).every((x) => x === i));
});

test("ranks order by key, then by place", (t) => {
  const random = new Random(11);
  for (const scale of [1, 2 ** 45]) {
    const keys = Float64Array.from({ length: 500 }, () => random.below(100) * scale);
    const order = ranks(keys);
    for (let i = 1; i < order.length; i++) {
      const [a, b] = [order[i - 1], order[i]];
      t.true(keys[a] < keys[b] || (keys[a] === keys[b] && a < b));
    }
  }
});

test("journals that are none are named", (t) => {
  const b = new Uint8Array(1024);
  const view = new DataView(b.buffer);
  t.is(parseJournal(b, 1024), "it has no superblock");
  view.setUint32(0, 0xc03b3998);
  view.setUint32(4, 4);
  view.setUint32(12, 1024);
  view.setUint32(16, 100);
  view.setUint32(20, 1);
  t.is(typeof parseJournal(b, 1024), "object");
  t.regex(String(parseJournal(b, 4096)), /1024 bytes/);
  view.setUint32(28, 100);
  t.regex(String(parseJournal(b, 1024)), /bounds/);
  view.setUint32(28, 0);
  view.setUint32(40, 0x80000000);
  t.regex(String(parseJournal(b, 1024)), /features/);
});
