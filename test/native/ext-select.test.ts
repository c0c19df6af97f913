// What the ext reader selects against what native e2image takes, byte for byte, without the engine in
// between.
import {
  copyFileSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { BlockSet } from "../../src/bytes/block-set.ts";
import { ImprintError } from "../../src/errors.ts";
import { groupFirstBlock, groupHasSuper } from "../../src/fs/ext/backups.ts";
import { ExtError, nativeErrorText } from "../../src/fs/ext/errors.ts";
import { type ExtOpenOptions, openExt } from "../../src/fs/ext/volume.ts";
import { fileSource, selectTo, slowly } from "../support/ext-select.ts";
import { shapeImage, shapeNamed } from "../support/ext-shapes.ts";
import { inScratch, must, run } from "../support/native.ts";
import { Random } from "../support/random.ts";

const SHAPES = [
  "tiny-ext2",
  "tiny-4k",
  "ext2-1k",
  "ext2-64k",
  "ext4-16k",
  "triple-indirect",
  "bigalloc-1k",
  "bigalloc-4k",
  "meta-bg",
  "sparse-super2",
  "inline-data",
  "ea-inode",
  "quota-project",
  "mmp",
  "orphan-file",
  "journal-dirty",
  "resized-up",
  "full-ext4",
  "extents-depth-3",
  "htree-3-levels",
  "bad-blocks-many",
  "uninit-bg",
  "hurd",
  "descriptors-128-bytes",
];

interface NativeResult {
  readonly code: number | null;
  /** Lines on stderr behind the banner. */
  readonly lines: readonly string[];
  /** Marks as `-p` counts them. */
  readonly marks: number;
}

async function native(args: readonly string[], image: string, out: string): Promise<NativeResult> {
  rmSync(out, { force: true });
  const r = await run("e2image", [...args, image, out]);
  const lines = r.stderr
    .split("\n")
    .slice(1)
    .filter((l) => l !== "");
  return { code: r.code, lines, marks: Number(/Copying 0 \/ (\d+)/.exec(r.stderr)?.[1]) };
}

/** Compares one selection with native's, warnings and errors too; answers whether both made an image. */
async function agree(
  t: ExecutionContext,
  what: string,
  dir: string,
  image: string,
  scope: "metadata" | "data",
  open: ExtOpenOptions = {},
): Promise<boolean> {
  const [theirs, ours] = [join(dir, "native.raw"), join(dir, "ours.raw")];
  const flags = [scope === "data" ? "-ra" : "-r"];
  if (open.superblock !== undefined) flags.push("-b", `${open.superblock}`, "-B", `${open.blockSize}`);
  const n = await native(flags, image, theirs);
  try {
    const s = await selectTo(image, ours, { scope, nativeSelection: true }, open);
    t.is(n.code, 0, `${what}: native failed: ${n.lines.join("; ")}`);
    const said = n.lines.filter((l) => !l.includes("error reading block"));
    t.deepEqual(s.warnings, said, what);
    const c = await run("cmp", [theirs, ours]);
    t.is(c.code, 0, `${what}: ${c.stdout.toString("latin1")}${c.stderr}`);
    return true;
  } catch (e) {
    if (!(e instanceof ImprintError)) throw e;
    const doing = e instanceof ExtError && e.doing !== "" ? e.doing : `while trying to open ${image}`;
    // Past the largest file its host filesystem allows, a read fails otherwise than past the file's end.
    const last = n.lines[n.lines.length - 1]
      ?.replace(/^e2image: /, "")
      .replace(/^Invalid argument(?= while)/, nativeErrorText("EXT_SHORT_READ") ?? "");
    t.is(`${nativeErrorText(e.code)} ${doing}`, last, `${what}: ${e.message}`);
    return false;
  }
}

for (const name of SHAPES)
  test(`${name}: -r and -ra`, async (t) => {
    const image = await shapeImage(shapeNamed(name));
    await inScratch("select", async (dir) => {
      for (const scope of ["metadata", "data"] as const) {
        t.true(await agree(t, scope, dir, image, scope));
        const counted = await native([scope === "data" ? "-ra" : "-r", "-p"], image, join(dir, "p.raw"));
        const source = fileSource(image);
        const volume = await openExt(slowly(source));
        const slow = await volume.select({ scope, nativeSelection: true });
        t.is(slow.marks, counted.marks);
        const fast = await (await openExt(source)).select({ scope, nativeSelection: true });
        t.is(slow.blocks.count, fast.blocks.count);
        source.close();
      }
    });
  });

for (const name of [
  "meta-bg",
  "resized-up-meta-bg",
  "sparse-super2",
  "uninit-bg",
  "no-sparse-super",
  "many-groups",
])
  test(`${name}: a broken primary, read through a backup`, async (t) => {
    const image = await shapeImage(shapeNamed(name));
    await inScratch("backup", async (dir) => {
      const source = fileSource(image);
      const { superblock: sb } = await openExt(source);
      source.close();
      let group = 1;
      while (!groupHasSuper(sb, group)) group++;
      t.true(group < sb.groups);
      const broken = join(dir, "broken.img");
      copyFileSync(image, broken);
      const fd = openSync(broken, "r+");
      writeSync(fd, Buffer.alloc(1024, 0xee), 0, 1024, 1024);
      writeSync(fd, Buffer.alloc(512, 0xdd), 0, 512, (sb.firstDataBlock + 1) * sb.blockSize);
      t.false(await agree(t, "primary", dir, broken, "metadata"));
      const open = { superblock: groupFirstBlock(sb, group), blockSize: sb.blockSize };
      for (const scope of ["metadata", "data"] as const)
        t.true(await agree(t, scope, dir, broken, scope, open));
    });
  });

if (process.env["IMPRINT_NO_MOUNT"] !== "1")
  for (const name of ["uninit-bg", "meta-bg", "full-ext4"])
    test(`${name}: onto a block device inode tables are taken whole`, async (t) => {
      const image = await shapeImage(shapeNamed(name));
      await inScratch("device", async (dir) => {
        const [theirs, ours] = [join(dir, "native.raw"), join(dir, "ours.raw")];
        writeFileSync(theirs, "");
        truncateSync(theirs, statSync(image).size);
        const device = (await must("losetup", ["-f", "--show", theirs])).stdout.toString().trim();
        const r = await run("e2image", ["-r", "-p", image, device]);
        await must("losetup", ["-d", device]);
        t.is(r.code, 0, r.stderr);
        const s = await selectTo(image, ours, {
          scope: "metadata",
          nativeSelection: true,
          wholeInodeTables: true,
        });
        t.is(s.marks, Number(/Copying 0 \/ (\d+)/.exec(r.stderr)?.[1]));
        t.is((await run("cmp", [theirs, ours])).code, 0);
      });
    });

/** Fields of an inode, a descriptor and a superblock that decide what is selected: offset and width. */
const INODE_FIELDS = [0, 4, 26, 28, 32, 40, 42, 44, 46, 52, 56, 58, 60, 64, 84, 88, 92, 96, 104, 118];
const NARROW = new Set([0, 26, 40, 42, 44, 46, 56, 58, 118]);
const DESCRIPTOR_FIELDS = [0, 4, 8, 18];
const SUPERBLOCK_FIELDS = [4, 20, 24, 28, 32, 40, 56, 76, 88, 96, 100, 224, 254, 260, 360, 620, 640];

for (const [seed, name] of ["tiny-ext2", "tiny-ext4", "triple-indirect", "ext4-1k", "mmp"].entries())
  test(`${name}: broken at random, native's verdict and words`, async (t) => {
    const image = await shapeImage(shapeNamed(name));
    await inScratch("broken", async (dir) => {
      const work = join(dir, "work.img");
      copyFileSync(image, work);
      const bytes = readFileSync(image);
      const source = fileSource(image);
      const volume = await openExt(source);
      const { superblock: sb } = volume;
      const { roles } = await volume.select({ scope: "metadata", roles: true });
      source.close();
      const inodes: number[] = [];
      for (let b = 0; b < sb.blocks; b++)
        if (roles?.get("inode table")?.has(b))
          for (let at = b * sb.blockSize; at < (b + 1) * sb.blockSize; at += sb.inodeSize)
            if (bytes.readUInt16LE(at + 26) !== 0) inodes.push(at);
      const trees: number[] = [];
      for (let b = 0; b < sb.blocks; b++) if (roles?.get("index")?.has(b)) trees.push(b * sb.blockSize);
      const random = new Random(900 + seed);
      const pick = <T>(list: readonly T[]): T => list[random.below(list.length)];
      const fd = openSync(work, "r+");
      for (let round = 0; round < 40; round++) {
        const values = [
          0,
          1,
          2,
          0xffffffff,
          random.below(16),
          random.below(sb.blocks),
          sb.blocks,
          random.word(),
        ];
        if (trees.length > 0) values.push(pick(trees) / sb.blockSize);
        const changes: [at: number, width: number, value: number][] = [];
        const inode = pick(inodes);
        for (let i = 0; i <= random.below(3); i++) {
          const where = round % 10;
          if (where < 5) {
            const field = pick(INODE_FIELDS);
            const value = field === 32 ? pick([0, 0x80000, 0x10000000, 0x10080000]) : pick(values);
            changes.push([inode + field, NARROW.has(field) ? 2 : 4, value]);
          } else if (where < 7 && trees.length > 0)
            changes.push([pick(trees) + 4 * random.below(12), 4, pick(values)]);
          else if (where < 8) {
            const field = pick(DESCRIPTOR_FIELDS);
            const at = (sb.firstDataBlock + 1) * sb.blockSize + random.below(sb.groups) * sb.descriptorSize;
            changes.push([at + field, field === 18 ? 2 : 4, field === 18 ? random.below(8) : pick(values)]);
          } else if (where < 9) {
            const at = 1024 + pick(SUPERBLOCK_FIELDS);
            changes.push([at, 4, random.below(2) === 0 ? bytes.readUInt32LE(at) + 1 : pick(values)]);
          }
        }
        const cut = round % 10 === 9 ? random.below(bytes.length) : -1;
        if (cut >= 0) truncateSync(work, cut);
        const b = Buffer.alloc(4);
        for (const [at, width, value] of changes) {
          b.writeUInt32LE(value >>> 0);
          writeSync(fd, b, 0, width, at);
        }
        const scope = random.below(2) === 0 ? "metadata" : "data";
        await agree(t, `round ${round}, ${scope}, ${JSON.stringify(changes)}, cut ${cut}`, dir, work, scope);
        if (cut >= 0) writeSync(fd, bytes, cut, bytes.length - cut, cut);
        for (const [at, width] of changes) writeSync(fd, bytes, at, width, at);
      }
    });
  });

/** Free blocks as dumpe2fs lists them, group by group. */
async function freeBlocks(image: string, blocks: number, cluster: number): Promise<BlockSet> {
  const free = new BlockSet(blocks);
  const text = (await must("dumpe2fs", [image])).stdout.toString("latin1");
  for (const m of text.matchAll(/^ {2}Free blocks: (.*)$/gm))
    for (const range of m[1].split(", ").filter((r) => r !== "")) {
      const [from, to] = range.split("-").map(Number);
      // With bigalloc a range ends with the first block of its last cluster.
      free.add(from, (to ?? from) + cluster);
    }
  return free;
}

for (const name of [
  "ext2-1k",
  "ext4-4k",
  "meta-bg",
  "bigalloc-1k",
  "uninit-bg",
  "resized-up",
  "many-groups",
  "no-64bit",
])
  test(`${name}: "used" is what dumpe2fs does not call free`, async (t) => {
    const image = await shapeImage(shapeNamed(name));
    const source = fileSource(image);
    const volume = await openExt(source);
    const s = await volume.select({ scope: "used", roles: true });
    source.close();
    t.deepEqual(s.warnings, []);
    const free = await freeBlocks(image, volume.superblock.blocks, 2 ** volume.superblock.clusterBits);
    const wrong: number[] = [];
    for (let b = volume.superblock.firstDataBlock; b < volume.superblock.blocks; b++)
      if (s.blocks.has(b) === free.has(b)) wrong.push(b);
    t.deepEqual(wrong, []);
    for (let b = 0; b < volume.superblock.blocks; b += 7) {
      const roles = [...(s.roles ?? [])].filter(([, set]) => set.has(b)).map(([role]) => role);
      t.is(roles.length > 0, s.blocks.has(b), `block ${b}: ${roles.join()}`);
      if (roles.includes("data")) t.deepEqual(roles, ["data"], `block ${b}`);
    }
  });

test("a group called unused by a damaged descriptor is taken whole", async (t) => {
  const image = await shapeImage(shapeNamed("uninit-bg"));
  await inScratch("uninit", async (dir) => {
    const work = join(dir, "work.img");
    copyFileSync(image, work);
    const source = fileSource(work);
    const { superblock: sb } = await openExt(source);
    const bytes = readFileSync(work);
    const at = (g: number) => (sb.firstDataBlock + 1) * sb.blockSize + g * sb.descriptorSize;
    let group = 0;
    while ((bytes.readUInt16LE(at(group) + 18) & 2) === 0) group++;
    const fd = openSync(work, "r+");
    writeSync(fd, Buffer.from([bytes[at(group) + 30] ^ 1]), 0, 1, at(group) + 30);
    const s = await (await openExt(source)).select({ scope: "used" });
    source.close();
    t.is(s.warnings.length, 1);
    t.true(s.warnings[0].startsWith(`group ${group}: `));
    for (let b = 0; b < sb.blocksPerGroup; b += 97)
      t.true(s.blocks.has(groupFirstBlock(sb, group) + b) || groupFirstBlock(sb, group) + b >= sb.blocks);
  });
});

for (const name of ["bigalloc-1k", "bigalloc-4k", "bad-blocks-many", "orphans-held-open", "ea-inode"])
  test(`${name}: the default and the complete selection check no worse than native's`, async (t) => {
    const image = await shapeImage(shapeNamed(name));
    await inScratch("fsck", async (dir) => {
      const theirs = join(dir, "native.raw");
      await native(["-r"], image, theirs);
      const before = await run("e2fsck", ["-fn", theirs]);
      const real = await run("e2fsck", ["-fn", image]);
      const ours = join(dir, "ours.raw");
      const findings = (r: { stdout: Buffer }) =>
        r.stdout.toString("latin1").replaceAll(theirs, "X").replaceAll(ours, "X").replaceAll(image, "X");
      const plain = await selectTo(image, ours, { scope: "metadata" });
      t.is(findings(await run("e2fsck", ["-fn", ours])), findings(before));
      const complete = await selectTo(image, ours, { scope: "metadata", complete: true });
      t.is(findings(await run("e2fsck", ["-fn", ours])), findings(real));
      t.true(complete.blocks.count >= plain.blocks.count);
    });
  });
