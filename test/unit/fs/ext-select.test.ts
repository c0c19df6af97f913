import test, { type ExecutionContext } from "ava";
import { ExtentList } from "../../../src/bytes/extents.ts";
import { AbortError } from "../../../src/errors.ts";
import { ExtError } from "../../../src/fs/ext/errors.ts";
import { type ExtVolume, openExt } from "../../../src/fs/ext/volume.ts";
import type { Scope, Selection } from "../../../src/fs/volume.ts";
import { MemorySource } from "../../../src/io/memory.ts";
import { slowly } from "../../support/ext-select.ts";
import { EXTENTS, node, TinyVolume } from "./tiny-volume.ts";

/** Superblock, descriptors, inode table and bitmaps of a tiny volume. */
const FIXED = [1, 2, 3, 4, ...Array.from({ length: 8 }, (_, i) => 5 + i)];

function members(s: Selection): number[] {
  const runs = new ExtentList();
  s.blocks.runs(0, s.blocks.limit, runs);
  const list: number[] = [];
  for (let i = 0; i < runs.count; i++) for (let b = runs.start(i); b < runs.end(i); b++) list.push(b);
  return list;
}

async function selected(v: TinyVolume, scope: Scope, options: object = {}): Promise<Selection> {
  const at_once = await (await openExt(v.source())).select({ scope, ...options });
  const slow = await (await openExt(slowly(v.source()))).select({ scope, ...options });
  if (members(at_once).join() !== members(slow).join() || at_once.marks !== slow.marks)
    throw new Error("a slow source gives another selection");
  return at_once;
}

async function own(v: TinyVolume, scope: Scope = "data", options: object = {}): Promise<number[]> {
  return members(await selected(v, scope, options)).filter((b) => !FIXED.includes(b));
}

async function fails(t: ExecutionContext, v: TinyVolume, code: string, doing: string): Promise<void> {
  for (const source of [v.source(), slowly(v.source())]) {
    const volume = await openExt(source);
    const e = await t.throwsAsync(volume.select({ scope: "data" }), { instanceOf: ExtError });
    t.is(e.code, code);
    t.is(e.doing, doing);
  }
}

test("the fixed parts alone", async (t) => {
  const s = await selected(new TinyVolume(), "metadata");
  t.deepEqual(members(s), FIXED);
  t.is(s.marks, FIXED.length);
});

test("extents: leaves in the inode, in a node, uninitialised ones, and the node itself", async (t) => {
  const v = new TinyVolume();
  v.inode(12, {
    flags: EXTENTS,
    map: node(0, 4, [
      [0, 2, 100],
      [9, 32768 + 3, 200],
    ]),
  });
  v.inode(13, { flags: EXTENTS, map: node(1, 4, [[0, 300]]) });
  v.words(300, node(0, 84, [[0, 1, 310]]));
  t.deepEqual(await own(v), [100, 101, 200, 201, 202, 300, 310]);
  t.deepEqual(await own(v, "metadata"), [300]);
});

test("of overlapping extents the second keeps its length, or is dropped with the next", async (t) => {
  const v = new TinyVolume();
  v.inode(12, {
    flags: EXTENTS,
    map: node(0, 4, [
      [0, 4, 100],
      [2, 4, 200],
    ]),
  });
  t.deepEqual(await own(v), [100, 101, 102, 103, 202, 203, 204, 205]);
  v.inode(12, {
    flags: EXTENTS,
    map: node(0, 4, [
      [0, 4, 100],
      [1, 2, 200],
      [4, 1, 300],
      [5, 1, 400],
    ]),
  });
  t.deepEqual(await own(v), [100, 101, 102, 103, 400]);
});

test("a root header that makes no sense yields nothing, a node's ends the walk", async (t) => {
  const v = new TinyVolume();
  v.inode(12, { flags: EXTENTS, map: [0xf30b, 4, 0, 0, 1, 100] });
  t.deepEqual(await own(v), []);
  v.inode(12, { flags: EXTENTS, map: node(0, 5, [[0, 1, 100]]) });
  t.deepEqual(await own(v), []);
  v.inode(12, { flags: EXTENTS, map: node(1, 4, [[0, 300]]) });
  await fails(t, v, "EXT_EXTENT_HEADER_BAD", "while iterating over inode 12");
  v.words(300, [0xf30a | (400 << 16), 84, 0]);
  await fails(t, v, "EXT_EXTENT_HEADER_BAD", "while iterating over inode 12");
  v.words(300, [0xf30a, 84, 0]);
  await fails(t, v, "EXT_EXTENT_NO_DOWN", "while iterating over inode 12");
});

test("an extent tree that leads into itself, or past the end", async (t) => {
  const v = new TinyVolume();
  v.inode(12, { flags: EXTENTS, map: node(2, 4, [[0, 300]]) });
  v.words(300, node(1, 84, [[0, 300]]));
  await fails(t, v, "EXT_EXTENT_CYCLE", "while iterating over inode 12");
  v.inode(12, { flags: EXTENTS, map: node(1, 4, [[0, 2000]]) });
  await fails(t, v, "EXT_SHORT_READ", "while iterating over inode 12");
});

test("a tree of absurd depth ends without memory for it", async (t) => {
  const v = new TinyVolume();
  v.inode(12, { flags: EXTENTS, map: node(65535, 4, [[0, 100]]) });
  for (let b = 100; b < 200; b++) v.words(b, node(1, 84, [[0, b + 1]]));
  await fails(t, v, "EXT_TREE_LOOP", "while iterating over inode 12");
});

test("indirect maps of three levels, sparse", async (t) => {
  const v = new TinyVolume();
  const map = new Array<number>(15).fill(0);
  map[0] = 100;
  map[11] = 101;
  map[12] = 200;
  map[13] = 201;
  map[14] = 202;
  v.inode(12, { map });
  v.words(200, [0, 110, 111]);
  v.words(201, [0, 210]);
  v.words(210, [120]);
  v.words(202, [0, 0, 220]);
  v.words(220, [221]);
  v.words(221, [0, 130]);
  t.deepEqual(await own(v), [100, 101, 110, 111, 120, 130, 200, 201, 202, 210, 220, 221]);
  t.deepEqual(await own(v, "metadata"), [200, 201, 202, 210, 220, 221]);
});

test("a bad indirect pointer is an error unless a later tree can still be read", async (t) => {
  const v = new TinyVolume();
  const map = new Array<number>(15).fill(0);
  map[12] = 5000;
  v.inode(12, { map });
  await fails(t, v, "EXT_BAD_IND_BLOCK", "while iterating over inode 12");
  map[13] = 201;
  v.inode(12, { map });
  const s = await selected(v, "data");
  t.deepEqual(s.warnings, [
    "Illegal block number passed to ext2fs_mark_block_bitmap #5000 for in-use block map",
  ]);
  map[13] = 5001;
  map[14] = 5002;
  v.inode(12, { map });
  await fails(t, v, "EXT_BAD_TIND_BLOCK", "while iterating over inode 12");
});

test("an indirect tree that leads into itself everywhere is walked a bounded number of times", async (t) => {
  const v = new TinyVolume();
  v.words(300, new Array<number>(256).fill(300));
  const map = new Array<number>(15).fill(0);
  map[14] = 300;
  v.inode(12, { map });
  v.inode(13, { map });
  v.inode(14, { map });
  const e = await t.throwsAsync((await openExt(v.source())).select({ scope: "data" }), {
    instanceOf: ExtError,
  });
  t.is(e.code, "EXT_TREE_LOOP");
});

test("an extent tree whose nodes all share one child is walked a bounded number of times", async (t) => {
  const v = new TinyVolume();
  const depth = 6;
  v.inode(12, { flags: EXTENTS, map: node(depth, 4, [[0, 300]]) });
  for (let i = 0; i < depth; i++) {
    const records = Array.from({ length: 84 }, (_, k) => (i === depth - 1 ? [k, 1, 400] : [k, 301 + i]));
    v.words(300 + i, node(i === depth - 1 ? 0 : 1, 84, records));
  }
  const e = await t.throwsAsync((await openExt(v.source())).select({ scope: "data" }), {
    instanceOf: ExtError,
  });
  t.is(e.code, "EXT_TREE_LOOP");
});

test("blocks outside the volume are refused, counted, and said, in a bounded number of lines", async (t) => {
  const v = new TinyVolume();
  v.inode(12, { flags: EXTENTS, map: node(0, 4, [[0, 3, 1022]]), xattr: 77777 });
  const s = await selected(v, "data");
  t.deepEqual(members(s).slice(-2), [1022, 1023]);
  t.is(s.marks, FIXED.length + 4);
  t.deepEqual(
    s.warnings,
    [77777, 1024].map(
      (n) => `Illegal block number passed to ext2fs_mark_block_bitmap #${n} for in-use block map`,
    ),
  );
  for (let ino = 12; ino < 60; ino++)
    v.inode(ino, {
      flags: EXTENTS,
      map: node(0, 4, [
        [0, 32768, 5000],
        [32768, 32768, 50000],
      ]),
    });
  const many = await selected(v, "data");
  t.is(many.marks, FIXED.length + 48 * 65536);
  t.is(many.warnings.length, 65537);
  t.regex(many.warnings[65536], /3080192 more/);
});

test("symlinks, devices, inline data and deleted inodes", async (t) => {
  const v = new TinyVolume();
  v.inode(12, { mode: 0xa1ff, size: 70, sectors: 2, map: [100] });
  v.inode(13, { mode: 0xa1ff, size: 7, sectors: 0, map: [0x61616161, 0x616161] });
  v.inode(14, { mode: 0x61a4, map: [0, 0x802] });
  v.inode(15, { mode: 0x81a4, flags: 0x10000000, map: [110, 111] });
  v.inode(16, { links: 0, map: [120] });
  v.inode(17, { mode: 0xa1ff, size: 70, sectors: 2, map: [130], xattr: 140 });
  v.inode(18, { mode: 0xa1ff, size: 7, sectors: 2, map: [0x61616161, 0x616161], xattr: 141 });
  t.deepEqual(await own(v), [100, 130, 140, 141]);
  v.inode(19, { mode: 0xa1ff, size: 70, sectors: 2, map: [130], xattr: 140, flags: 0x10000000 });
  await fails(t, v, "EXT_INLINE_DATA", "while iterating over inode 19");
});

test("contents of the journal, quota and orphan files count as metadata", async (t) => {
  const v = new TinyVolume().sb32(224, 8).sb32(620, 20).sb32(640, 21);
  for (const [i, ino] of [3, 4, 8, 20, 21, 22].entries())
    v.inode(ino, { flags: EXTENTS, map: node(0, 4, [[0, 1, 100 + i]]) });
  t.deepEqual(await own(v, "metadata"), [100, 101, 102, 103, 104]);
  const s = await selected(v, "used", { roles: true });
  t.true(s.roles?.get("journal")?.has(102));
  t.true(s.roles?.get("system")?.has(104));
});

test("inodes in bad blocks of the table do not exist; the list itself is taken on demand", async (t) => {
  const v = new TinyVolume();
  const map = new Array<number>(15).fill(0);
  map[0] = 6;
  map[12] = 400;
  v.inode(1, { mode: 0, links: 0, map });
  v.words(400, [7]);
  v.inode(12, { flags: EXTENTS, map: node(0, 4, [[0, 1, 100]]) });
  v.inode(20, { flags: EXTENTS, map: node(0, 4, [[0, 1, 200]]) });
  v.inode(30, { flags: EXTENTS, map: node(0, 4, [[0, 1, 300]]) });
  t.deepEqual(await own(v), [300]);
  t.deepEqual(await own(v, "data", { complete: true }), [300, 400]);
});

test("orphans are taken where all is wanted, and a looping orphan list ends", async (t) => {
  const v = new TinyVolume().sb32(232, 12);
  v.inode(12, { links: 0, flags: EXTENTS, map: node(1, 4, [[0, 300]]) });
  v.words(300, node(0, 84, [[0, 1, 310]]));
  v.inode(13, { links: 0, map: [320] });
  const time = (ino: number, next: number) =>
    new DataView(v.bytes.buffer).setUint32(5 * 1024 + (ino - 1) * 128 + 20, next, true);
  time(12, 13);
  time(13, 12);
  t.deepEqual(await own(v), []);
  t.deepEqual(await own(v, "metadata", { complete: true }), [300]);
  const s = await selected(v, "data", { complete: true });
  t.deepEqual(
    members(s).filter((b) => !FIXED.includes(b)),
    [300, 310, 320],
  );
  t.regex(s.warnings.join("\n"), /orphan list loops at inode 12/);
});

test("used: what the bitmap says; the whole group where the bitmap lies outside", async (t) => {
  const v = new TinyVolume();
  v.bytes[3 * 1024] = 0xff;
  v.bytes[3 * 1024 + 20] = 0x81;
  const used = await own(v, "used");
  t.deepEqual(used, [0, 161, 168]);
  new DataView(v.bytes.buffer).setUint32(2 * 1024, 0x7fffffff, true);
  const whole = await selected(v, "used");
  t.is(whole.blocks.count, 1024);
  t.regex(whole.warnings.join("\n"), /whole group is taken/);
});

test("used goes on where a map is corrupt, and says so", async (t) => {
  const v = new TinyVolume();
  v.inode(12, { flags: EXTENTS, map: node(1, 4, [[0, 300]]) });
  const s = await selected(v, "used");
  t.deepEqual(s.warnings, ["Corrupt extent header while iterating over inode 12"]);
});

test("all: every block", async (t) => {
  const s = await selected(new TinyVolume(), "all");
  t.is(s.blocks.count, 1024);
});

test("missing, misplaced and cut-off inode tables are named", async (t) => {
  const v = new TinyVolume();
  const table = (n: number) => new DataView(v.bytes.buffer).setUint32(2 * 1024 + 8, n, true);
  table(0);
  await fails(t, v, "EXT_MISSING_INODE_TABLE", "while getting next inode");
  table(1020);
  await fails(t, v, "EXT_BAD_INODE_TABLE", "while opening inode scan");
  const cut = new MemorySource(new TinyVolume().bytes.subarray(0, 9000));
  const e = await t.throwsAsync((await openExt(cut)).select({ scope: "metadata" }), { instanceOf: ExtError });
  t.is(e.code, "EXT_NEXT_INODE_READ");
});

test("aborting stops the scan", async (t) => {
  const volume: ExtVolume = await openExt(new TinyVolume().source());
  const abort = new AbortController();
  abort.abort();
  await t.throwsAsync(volume.select({ scope: "metadata", signal: abort.signal }), { instanceOf: AbortError });
});
