// e2image -s against the native tool, byte for byte and line for line.
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { ExtentList } from "../../src/bytes/extents.ts";
import { openExt } from "../../src/fs/ext/volume.ts";
import { fileSource } from "../support/ext-select.ts";
import { type Shape, shapeImage, shapeNamed, shapes } from "../support/ext-shapes.ts";
import { noise } from "../support/ext-tree.ts";
import { attach } from "../support/host.ts";
import {
  bytesDifference,
  fileDifference,
  imprint,
  inScratch,
  limiter,
  must,
  run,
} from "../support/native.ts";
import { Random } from "../support/random.ts";
import { inShare } from "../support/share.ts";

const turn = limiter(2);
const MODES = ["-rs", "-ras", "-Qs", "-Qas"] as const;

/** Shapes that go through every mode; the others take turns with the first and the last. */
const FULLY = new Set(
  `ext4-1k ext4-2k ext4-4k ext4-8k ext4-16k ext4-32k ext4-64k ext2-64k ext2-1k ext2-revision-0 ext3-4k
  ext3-to-ext4-mixed-maps meta-bg no-64bit bigalloc-4k bigalloc-1k bigalloc-no-64bit-1k inline-data ea-inode
  xattr-blocks htree-1-levels htree-2-levels indirect-directory casefold encrypt-flag hurd special-files
  deleted-inodes orphan-list-offline journal-needs-recovery tiny-ext4 aged-ext3`.split(/\s+/),
);

/** Runs both tools on fresh outputs; compares exit codes, standard output and bytes. */
async function agree(
  t: ExecutionContext,
  dir: string,
  args: readonly string[],
  extra: readonly string[] = [],
): Promise<string> {
  const what = `e2image ${args.slice(0, -1).join(" ")}`;
  const [a, b] = [join(dir, `native${args[0]}`), join(dir, `ours${args[0]}`)];
  for (const file of [a, b]) rmSync(file, { force: true });
  const n = await run("e2image", [...args, a]);
  const o = await imprint(["e2image", ...extra, ...args, b]);
  t.is(o.code, n.code, `${what}: ${o.stderr.slice(0, 400)}`);
  t.is(o.stdout.toString("latin1"), n.stdout.toString("latin1"), what);
  if (n.code !== 0) t.false(existsSync(b), what);
  else t.is(fileDifference(a, b), null, what);
  return n.stdout.toString("latin1");
}

for (const [i, s] of shapes.entries())
  test(`${s.name}: the native bytes with -s`, (t) =>
    turn(async () => {
      const image = await shapeImage(s);
      const extra = s.nativeSelection ? ["--native-selection"] : [];
      await inScratch("scramble", async (dir) => {
        const modes = MODES.filter((_, m) => FULLY.has(s.name) || (m % 3 === 0 && inShare(i + m, 2)));
        for (const mode of modes) await agree(t, dir, [mode, image], extra);
      });
    }));

/** Breaks entries in every directory block of a volume; every third block stays as it is. */
async function damaged(s: Shape, seed: number, to: string): Promise<string> {
  const image = await shapeImage(s);
  copyFileSync(image, to);
  const bytes = readFileSync(to);
  const source = fileSource(to);
  const volume = await openExt(source);
  const { scrambled } = await volume.select({ scope: "metadata", nativeSelection: true, scramble: true });
  source.close();
  const bs = volume.blockSize;
  const random = new Random(seed);
  const runs = new ExtentList();
  scrambled!.runs(0, scrambled!.limit, runs);
  for (let i = 0; i < runs.count; i++)
    for (let block = runs.start(i); block < runs.end(i); block++) {
      if (random.below(3) === 0) continue;
      const at = block * bs;
      const entries: number[] = [];
      for (let p = 0; p < bs - 8; ) {
        entries.push(at + p);
        const stored = bytes.readUInt16LE(at + p + 4);
        const length = stored === 0 || stored === 65535 ? bs : (stored & 0xfffc) + (stored & 3) * 65536;
        p += length < 8 ? bs : length;
      }
      // What comes first is needed to walk the tree.
      for (const p of entries.slice(2)) {
        if (random.below(entries.length) > 2) continue;
        if (random.below(2) === 0) bytes[p + 6] = random.below(256);
        else bytes.writeUInt16LE([0, 3, 4, 9, 65535, 8, random.below(65536)][random.below(7)], p + 4);
      }
      const fate = random.below(18);
      if (fate < 2) random.fill(bytes.subarray(at, at + bs));
      else if (fate < 4) bytes.fill(0, at, at + bs);
    }
  writeFileSync(to, bytes);
  return to;
}

for (const name of [
  "ext2-1k",
  "ext4-4k",
  "ext4-32k",
  "ext4-64k",
  "ext2-64k",
  "htree-2-levels",
  "indirect-directory",
  "bigalloc-1k",
  "casefold",
  "aged-ext3",
])
  test(`${name}: corrupt directory blocks are named and treated alike`, (t) =>
    turn(async () => {
      const s = shapeNamed(name);
      const extra = s.nativeSelection ? ["--native-selection"] : [];
      await inScratch("corrupt", async (dir) => {
        let lines = 0;
        for (const seed of [1, 2, 3]) {
          const image = await damaged(s, seed, join(dir, `source-${seed}`));
          const said = await agree(t, dir, [MODES[seed % 4], image], extra);
          lines += said.split("\n").length - 1;
        }
        t.true(lines > 2, `${lines} lines`);
      });
    }));

test("what is said about corrupt blocks does not end up in an image on standard output", (t) =>
  turn(async () => {
    await inScratch("corrupt", async (dir) => {
      const image = await damaged(shapeNamed("ext4-4k"), 5, join(dir, "source"));
      for (const mode of MODES) {
        const said = await agree(t, dir, [mode, image]);
        const r = await imprint(["e2image", mode, image, "-"]);
        t.is(r.code, 0);
        t.is(bytesDifference(join(dir, `ours${mode}`), r.stdout), null, mode);
        t.is(r.stderr.replace(/^e2image [^\n]*\n/, ""), said, mode);
      }
      const native = await run("e2image", ["-rs", image, "-"]);
      t.true(native.stdout.includes("Corrupt directory block"), "native's does");
    });
  }));

for (const [what, source] of [
  ["a sound volume", (_: string) => shapeImage(shapeNamed("ext4-1k"))],
  ["a corrupt volume", (dir: string) => damaged(shapeNamed("ext2-1k"), 9, join(dir, "a"))],
] as const)
  test(`-s with -n, -c, -p, offsets and --verify: ${what}`, (t) =>
    turn(async () => {
      await inScratch("scramble", async (dir) => {
        const at = (n: string) => join(dir, n);
        const image = await source(dir);
        for (const flags of ["-rsn", "-rasn"]) {
          const n = await run("e2image", [flags, image, at(`list${flags}`)]);
          const o = await imprint(["e2image", flags, image, at(`other${flags}`)]);
          t.is(o.stdout.toString("latin1"), n.stdout.toString("latin1"), flags);
          t.is(o.code, 0);
        }
        for (const flags of ["-ra", "-ras"]) {
          const held = at(`held${flags}`);
          await must("e2image", [flags, image, held]);
          for (const who of ["n", "o"]) copyFileSync(held, `${held}-${who}`);
          const n = await run("e2image", ["-rasc", image, `${held}-n`]);
          const o = await imprint(["e2image", "-rasc", image, `${held}-o`]);
          t.is(o.stdout.toString("latin1"), n.stdout.toString("latin1"), `-c over ${flags}`);
          t.is(fileDifference(`${held}-n`, `${held}-o`), null, `-c over ${flags}`);
        }
        writeFileSync(at("disk"), Buffer.concat([noise(5, 70_000), readFileSync(image), noise(6, 7000)]));
        await agree(t, dir, ["-rasp", "-o", "70000", "-O", "512", at("disk")]);
        for (const mode of MODES) {
          const r = await imprint(["e2image", mode, "--verify", image, at(`verified${mode}`)]);
          t.is(r.code, 0, `${mode}: ${r.stderr}`);
        }
        const modern = await imprint(["e2image", "-Qas", "--modern", image, at("modern")]);
        t.is(modern.code, 0, modern.stderr);
        const both = [at("modern"), at("verified-ras")];
        await must("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", ...both]);
      });
    }));

test("-s onto a block device, and from one", async (t) => {
  await inScratch("scramble", async (dir) => {
    const image = await shapeImage(shapeNamed("ext4-1k"));
    await must("e2image", ["-ras", image, join(dir, "native")]);
    writeFileSync(join(dir, "disk"), new Uint8Array(9 << 20));
    const device = attach(t, join(dir, "disk"));
    const r = await imprint(["e2image", "-ras", image, device]);
    t.is(r.code, 0, r.stderr);
    await must("blockdev", ["--flushbufs", device]);
    const size = readFileSync(join(dir, "native")).length;
    t.is(bytesDifference(join(dir, "native"), readFileSync(device).subarray(0, size)), null);
  });
});

test("a QCOW2 source is not scrambled, and native does not say so: refused", (t) =>
  turn(async () => {
    await inScratch("scramble", async (dir) => {
      const image = await shapeImage(shapeNamed("ext4-1k"));
      await must("e2image", ["-Q", image, join(dir, "q")]);
      const r = await imprint(["e2image", "-rs", join(dir, "q"), join(dir, "out")]);
      t.is(r.code, 1);
      t.regex(r.stderr, /not with -s/);
      t.false(existsSync(join(dir, "out")));
    });
  }));

test("bigalloc: only blocks of directories are rewritten, whatever their clusters hold", (t) =>
  turn(async () => {
    await inScratch("scramble", async (dir) => {
      const image = await shapeImage(shapeNamed("bigalloc-1k"));
      const r = await imprint(["e2image", "-rs", image, join(dir, "out")]);
      t.is(r.code, 0, r.stderr);
      t.is(r.stdout.length, 0, "no block that is none is taken for a directory");
      const list = await must("debugfs", ["-R", "ls -p /", join(dir, "out")]);
      t.false(list.stdout.includes("later-1"));
    });
  }));
