// Files and folders as our reader sees them against what debugfs copies out.
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { inodeFlags } from "../../src/fs/ext/inode.ts";
import { FLAG_INLINE } from "../../src/fs/ext/layout.ts";
import type { ExtNode, ExtTree } from "../../src/fs/ext/tree.ts";
import { openExt } from "../../src/fs/ext/volume.ts";
import { fileSource, slowly } from "../support/ext-select.ts";
import { shapeImage, shapeNamed } from "../support/ext-shapes.ts";
import { inScratch, must, run } from "../support/native.ts";

const SHAPES = [
  "ext2-1k",
  "ext3-1k",
  "ext4-4k",
  "ext4-64k",
  "inline-data",
  "aged-inline-data",
  "htree-2-levels",
  "indirect-directory",
  "triple-indirect",
  "extents-depth-2",
  "extents-unwritten-and-past-end",
  "ext2-revision-0",
  "bigalloc-4k",
  "casefold",
];

async function contents(tree: ExtTree, node: ExtNode): Promise<Buffer> {
  const size = tree.stat(node).size;
  const b = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const n = await tree.read(node, b.subarray(at, at + 65_537), at);
    if (n === 0) throw new Error("a read within the file gave nothing");
    at += n;
  }
  return b;
}

for (const name of SHAPES)
  test(`${name}: the same files as debugfs copies out`, async (t) => {
    const image = await shapeImage(shapeNamed(name));
    await inScratch("tree", async (dir) => {
      const out = join(dir, "out");
      mkdirSync(out);
      await must("debugfs", ["-R", `rdump / ${out}`, image]);
      const source = fileSource(image);
      const tree = (await openExt(slowly(source))).tree();
      let files = 0;
      const walk = async (node: ExtNode, path: string) => {
        const entries = await tree.list(node);
        const names = entries.map((e) => Buffer.from(e.rawName).toString("latin1"));
        const theirs = readdirSync(path, { encoding: "latin1" });
        const there = new Set(theirs);
        const kinds = await Promise.all(entries.map(async (e) => tree.stat(await tree.node(e.ino)).type));
        // debugfs leaves devices and the like out.
        t.deepEqual(
          names.filter((n, i) => there.has(n) || kinds[i] !== "other").sort(),
          [...theirs].sort(),
          path,
        );
        for (const e of entries) {
          const child = await tree.node(e.ino);
          const at = Buffer.from(join(path, Buffer.from(e.rawName).toString("latin1")), "latin1");
          const s = tree.stat(child);
          if (s.type === "directory") await walk(child, at.toString("latin1"));
          else if (s.type === "symlink") t.is(await tree.readLink(child), readlinkSync(at).toString());
          else if (s.type === "file") {
            files++;
            if ((inodeFlags(child.inode, 0) & FLAG_INLINE) !== 0) {
              // debugfs copies the whole inline area out, whatever the file's size.
              const ours = await contents(tree, child);
              const theirs = readFileSync(at);
              const both = Math.min(ours.length, theirs.length);
              t.true(ours.subarray(0, both).equals(theirs.subarray(0, both)), at.toString());
              t.true(
                ours.subarray(both).every((v) => v === 0) && theirs.subarray(both).every((v) => v === 0),
              );
              continue;
            }
            t.is(s.size, lstatSync(at).size, at.toString());
            if (s.size < 100_000_000)
              t.true((await contents(tree, child)).equals(readFileSync(at)), `contents of ${at.toString()}`);
          }
        }
      };
      await walk(await tree.node(2), out);
      t.true(files > 0);
      source.close();
    });
  });

test("paths: names, dots, symlinks, and names that are not there", async (t) => {
  const image = await shapeImage(shapeNamed("ext4-4k"));
  const source = fileSource(image);
  const tree = (await openExt(source)).tree();
  const deep = await tree.resolve("/a/b/../b/./c");
  t.is(tree.stat(deep!).type, "directory");
  t.is((await tree.resolve("/"))?.ino, 2);
  t.is((await tree.resolve("/../.."))?.ino, 2);
  t.is(await tree.resolve("/a/nothing/here"), null);
  const lost = await tree.resolve("lost+found");
  t.is(tree.stat(lost!).mode & 0o777, 0o700);
  source.close();
});

for (const name of ["ea-inode", "xattr-blocks", "xattr-blocks-inode-128"])
  test(`${name}: the same attributes as debugfs lists`, async (t) => {
    const image = await shapeImage(shapeNamed(name));
    const source = fileSource(image);
    const tree = (await openExt(source)).tree();
    let seen = 0;
    await inScratch("xattr", async (dir) => {
      const walk = async (node: ExtNode) => {
        for (const e of await tree.list(node)) {
          const child = await tree.node(e.ino);
          const attributes = await tree.xattrs(child);
          if (attributes.size > 0 && seen < 40) {
            const listed = (await must("debugfs", ["-R", `ea_list <${e.ino}>`, image])).stdout.toString(
              "latin1",
            );
            for (const [key, value] of attributes) {
              seen++;
              t.true(listed.includes(`${key} (${value.length})`), `${key} of inode ${e.ino}: ${listed}`);
              const file = join(dir, `v${seen}`);
              const r = await run("debugfs", ["-R", `ea_get -f ${file} <${e.ino}> ${key}`, image]);
              if (r.code === 0 && !key.startsWith("system."))
                t.true(readFileSync(file).equals(value), `${key} of inode ${e.ino}`);
            }
          }
          if (tree.stat(child).type === "directory") await walk(child);
        }
      };
      await walk(await tree.node(2));
    });
    t.true(seen > 0);
    source.close();
  });
