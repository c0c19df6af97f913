// Files and folders as the NTFS reader sees them, against a mount by ntfs-3g.
import { cpSync, lstatSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import type { Inode } from "../../src/fs/ntfs/inode.ts";
import type { NtfsTree } from "../../src/fs/ntfs/tree.ts";
import { openNtfs } from "../../src/fs/ntfs/volume.ts";
import { openFileSource } from "../../src/io/node/file-source.ts";
import { inScratch, limiter, must } from "../support/native.ts";
import { ntfsShapeImage, ntfsShapeNamed, ntfsShapes } from "../support/ntfs-shapes.ts";

const turn = limiter(2);

/** Shapes whose files differ in kind; the rest differ in geometry, which other tests cover. */
const SHAPES = [
  "c512",
  "c64k",
  "s4096",
  "c2m",
  "attributes",
  "compressed",
  "encrypted",
  "big-directory-s4096",
  "fragmented-mft",
  "fragmented-directory",
  "many-links-and-streams",
];

async function contents(tree: NtfsTree, inode: Inode, name = ""): Promise<Buffer> {
  const stream = tree.open(inode, name);
  if (stream === null) return Buffer.alloc(0);
  const bytes = Buffer.alloc(stream.size);
  for (let at = 0; at < bytes.length; ) {
    // Pieces that end nowhere in particular.
    const n = await tree.read(stream, bytes.subarray(at, at + 70001), at);
    if (n === 0) break;
    at += n;
  }
  return bytes;
}

async function compareFolder(
  t: ExecutionContext,
  tree: NtfsTree,
  inode: Inode,
  path: string,
  counts: { files: number; bytes: number },
): Promise<void> {
  const entries = await tree.list(inode);
  const system = (e: { record: number }) => e.record < 24;
  const mine = entries.filter((e) => !system(e));
  const theirs = readdirSync(path).filter((n) => !n.startsWith("$"));
  t.deepEqual(
    mine
      .map((e) => e.name)
      .filter((n) => !n.startsWith("$"))
      .sort(),
    theirs.sort(),
    path,
  );
  for (const entry of mine) {
    const there = join(path, entry.name);
    const node = await tree.follow(entry);
    const stat = tree.stat(node);
    const want = lstatSync(there);
    if (want.isSymbolicLink()) continue;
    t.is(entry.directory, want.isDirectory(), there);
    t.is(stat.modified, Math.floor(want.mtimeMs / 1000), there);
    if (want.isDirectory()) {
      await compareFolder(t, tree, node, there, counts);
      continue;
    }
    if (!want.isFile()) continue;
    t.is(stat.size, want.size, there);
    if (stat.encrypted) {
      await t.throwsAsync(contents(tree, node), { code: "NTFS_ENCRYPTED" }, there);
      continue;
    }
    t.true((await contents(tree, node)).equals(readFileSync(there)), `${there}: other bytes`);
    for (const s of stat.streams) {
      if (s.includes("\0")) continue;
      t.true((await contents(tree, node, s)).equals(readFileSync(`${there}:${s}`)), `${there}:${s}`);
    }
    counts.files++;
    counts.bytes += want.size;
  }
}

for (const name of SHAPES.filter((n) => ntfsShapes.some((s) => s.name === n)))
  test(`${name}: the same files as through ntfs-3g`, (t) =>
    turn(async () => {
      const shape = await ntfsShapeImage(ntfsShapeNamed(name));
      await inScratch("ntfs-tree", async (dir) => {
        const image = join(dir, "volume");
        const root = join(dir, "root");
        cpSync(shape, image);
        mkdirSync(root);
        await must("ntfs-3g", ["-o", "ro,streams_interface=windows", image, root]);
        const source = openFileSource(image);
        try {
          const volume = await openNtfs(source);
          const tree = await volume.tree();
          const counts = { files: 0, bytes: 0 };
          await compareFolder(t, tree, await tree.node(5), root, counts);
          t.true(counts.files > 0);
        } finally {
          await source.close();
          await must("umount", [root]);
        }
      });
    }));

test("every shape named here is there", (t) => {
  for (const name of SHAPES) t.notThrows(() => ntfsShapeNamed(name));
});
