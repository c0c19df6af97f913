import test from "ava";
import { ExtError } from "../../../src/fs/ext/errors.ts";
import { openExt } from "../../../src/fs/ext/volume.ts";
import { BLOCK, EXTENTS, node, TinyVolume } from "./tiny-volume.ts";

/** Writes records (ino, length, name) into a directory block. */
function records(v: TinyVolume, block: number, list: readonly (readonly [number, number, string])[]): void {
  let at = block * BLOCK;
  for (const [ino, length, name] of list) {
    const view = new DataView(v.bytes.buffer);
    view.setUint32(at, ino, true);
    view.setUint16(at + 4, length, true);
    v.bytes[at + 6] = name.length;
    v.bytes.set(new TextEncoder().encode(name), at + 8);
    at += length;
  }
}

function root(v: TinyVolume, blocks: number, size = blocks * BLOCK): void {
  v.inode(2, { mode: 0x41ed, links: 2, size, flags: EXTENTS, map: node(0, 4, [[0, blocks, 100]]) });
}

const code = async (
  t: { throwsAsync: (p: Promise<unknown>, e: object) => Promise<unknown> },
  p: Promise<unknown>,
) => ((await t.throwsAsync(p, { instanceOf: ExtError })) as ExtError).code;

test("lists names, resolves paths, reads a file with a hole", async (t) => {
  const v = new TinyVolume();
  root(v, 1);
  records(v, 100, [
    [2, 12, "."],
    [2, 12, ".."],
    [12, 16, "file"],
    [0, 12, "gone"],
    [13, 972, "link"],
  ]);
  v.inode(12, {
    size: 3 * BLOCK - 10,
    flags: EXTENTS,
    map: node(0, 4, [
      [0, 1, 200],
      [2, 1, 202],
    ]),
  });
  v.bytes.fill(1, 200 * BLOCK, 201 * BLOCK);
  v.bytes.fill(3, 202 * BLOCK, 203 * BLOCK);
  v.inode(13, { mode: 0xa1ff, size: 6, map: [0x2f2e2e2f, 0x2e2e] });
  const tree = (await openExt(v.source())).tree();
  const entries = await tree.list((await tree.resolve("/"))!);
  t.deepEqual(
    entries.map((e) => [e.name, e.ino]),
    [
      ["file", 12],
      ["link", 13],
    ],
  );
  t.is((await tree.resolve("/link/file"))?.ino, 12);
  const b = new Uint8Array(5000);
  t.is(await tree.read((await tree.resolve("file"))!, b, 1000), 3 * BLOCK - 1010);
  t.deepEqual([b[0], b[23], b[24], b[1047], b[1048], b[2061]], [1, 1, 0, 0, 3, 3]);
});

test("a symlink to itself ends", async (t) => {
  const v = new TinyVolume();
  root(v, 1);
  records(v, 100, [[13, 1024, "me"]]);
  v.inode(13, { mode: 0xa1ff, size: 2, map: [0x656d] });
  const tree = (await openExt(v.source())).tree();
  t.is(await code(t, tree.resolve("/me")), "EXT_BAD_DIRECTORY");
  t.is((await tree.resolve("/me", false))?.ino, 13);
});

for (const [what, list] of [
  ["a record of no length", [[12, 0, "a"]]],
  ["a record of odd length", [[12, 14, "a"]]],
  ["a record past the block", [[12, 2000, "a"]]],
  ["a name past its record", [[12, 12, "too long a name"]]],
  ["a name of no bytes", [[12, 1024, ""]]],
] as [string, [number, number, string][]][])
  test(`${what} is named`, async (t) => {
    const v = new TinyVolume();
    root(v, 1);
    records(v, 100, list);
    const tree = (await openExt(v.source())).tree();
    t.is(await code(t, tree.list((await tree.resolve("/"))!)), "EXT_BAD_DIRECTORY");
  });

test("a directory that claims petabytes costs what its map holds", async (t) => {
  const v = new TinyVolume();
  root(v, 1, 0x7fffffff);
  records(v, 100, [[12, 1024, "a"]]);
  new DataView(v.bytes.buffer).setUint32(5 * BLOCK + 128 + 108, 0x7fffff, true);
  const tree = (await openExt(v.source())).tree();
  t.is((await tree.list((await tree.resolve("/"))!)).length, 1);
  v.inode(2, {
    mode: 0x41ed,
    size: 0x7fffffff,
    flags: EXTENTS,
    map: node(0, 4, [
      [0, 800, 100],
      [800, 800, 100],
    ]),
  });
  for (let b = 100; b < 900; b++) records(v, b, [[0, 1024, ""]]);
  t.is(await code(t, (await openExt(v.source())).tree().resolve("/x")), "EXT_TREE_LOOP");
});

test("attributes that run over, a block without magic, and an inode that is not there", async (t) => {
  const v = new TinyVolume();
  v.inode(12, { xattr: 300 });
  const tree = (await openExt(v.source())).tree();
  t.is(await code(t, tree.xattrs(await tree.node(12))), "EXT_BAD_XATTR");
  v.words(300, [0xea020000, 1, 1, 0, 0, 0, 0, 0, 1 | (1 << 8) | (1000 << 16), 0, 100, 0, 0x61]);
  t.is(await code(t, tree.xattrs(await tree.node(12))), "EXT_BAD_XATTR");
  v.words(300, [0xea020000, 1, 1, 0, 0, 0, 0, 0, 1 | (1 << 8) | (1000 << 16), 0, 4, 0, 0x61]);
  v.bytes.set([1, 2, 3, 4], 300 * BLOCK + 1000);
  t.deepEqual([...(await tree.xattrs(await tree.node(12)))], [["user.a", new Uint8Array([1, 2, 3, 4])]]);
  t.is(await code(t, tree.node(65)), "EXT_BAD_INODE");
  t.is(await code(t, tree.node(0)), "EXT_BAD_INODE");
});
