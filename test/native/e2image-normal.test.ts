// Normal e2image images (neither -r nor -Q): our bytes against the native ones, each side's read by the other.
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import test from "ava";
import { difference, imageBytes, NORMAL_SHAPES, volumeBytes } from "../support/e2image-normal.ts";
import { Patch } from "../support/ext-patch.ts";
import { shapeImage, shapeNamed, shapes } from "../support/ext-shapes.ts";
import { noise, random } from "../support/ext-tree.ts";
import { attach, scratch, sparse } from "../support/host.ts";
import { endsWell } from "../support/hostile.ts";
import { fileDifference, imprint, limiter, must, type Outcome, run } from "../support/native.ts";

const turn = limiter(2);
const names: readonly string[] = NORMAL_SHAPES;
// Shapes that need the kernel are left out of the corpus where nothing may be mounted.
const chosen = shapes.filter((s) => names.includes(s.name));

function text(r: Outcome): string {
  return r.stdout.toString("latin1") + r.stderr;
}

for (const s of chosen)
  test(`${s.name}: the native bytes, and native tools read them`, (t) =>
    turn(async () => {
      const image = await shapeImage(s);
      const dir = scratch(t, "normal");
      const [native, ours] = [join(dir, "native"), join(dir, "ours")];
      await must("e2image", [image, native]);
      const r = await imprint(["e2image", "--verify", image, ours]);
      t.is(r.code, 0, r.stderr);
      t.is(difference(imageBytes(native), imageBytes(ours)), null);
      for (const [tool, ...args] of [
        ["dumpe2fs", "-i"],
        ["debugfs", "-i", "-R", "stats"],
        ["debugfs", "-i", "-R", "stat <2>"],
        ["debugfs", "-i", "-R", "ffb 20"],
        ["debugfs", "-i", "-R", "icheck 100"],
      ]) {
        const [n, o] = [await run(tool, [...args, native]), await run(tool, [...args, ours])];
        t.is(o.code, n.code);
        t.is(
          text(o).replaceAll(ours, "IMAGE"),
          text(n).replaceAll(native, "IMAGE"),
          `${tool} ${args.join(" ")}`,
        );
      }
    }));

for (const s of chosen)
  test(`${s.name}: ours reads the native image as what native installs`, (t) =>
    turn(async () => {
      const image = await shapeImage(s);
      const dir = scratch(t, "normal");
      const at = (name: string) => join(dir, name);
      await must("e2image", [image, at("native")]);
      const info = await imprint(["info", "--json", at("native")]);
      t.is(info.code, 0, info.stderr);
      const found = JSON.parse(info.stdout.toString());
      t.is(found.format, "e2image");
      t.is(found.container.hostname, hostname());
      t.is(found.container.deviceName, image.slice(0, 63));
      t.regex(found.filesystem.kind, /^ext[234]$/);
      sparse(at("installed"), found.diskSize);
      await must("e2image", ["-I", at("installed"), at("native")]);
      const r = await imprint(["convert", "--verify", "--format", "raw", at("native"), at("raw")]);
      t.is(r.code, 0, r.stderr);
      t.is(difference(volumeBytes(at("installed")), volumeBytes(at("raw"))), null);
      t.is((await imprint(["convert", "--format", "qcow2", at("native"), at("qcow2")])).code, 0);
      await must("qemu-img", ["compare", "-f", "raw", "-F", "qcow2", at("raw"), at("qcow2")]);
      const map = await imprint(["map", "--json", at("native")]);
      const runs = JSON.parse(map.stdout.toString()) as { start: number; length: number; state: string }[];
      t.is(
        runs.reduce((end, run) => (run.start === end ? end + run.length : -1), 0),
        found.diskSize,
      );
      t.true(runs.some((run) => run.state === "hole"));
    }));

test("streams to a pipe and into a redirected file, holes as zeros", async (t) => {
  const image = await shapeImage(shapeNamed("uninit-bg"));
  const dir = scratch(t, "normal");
  await must("e2image", [image, join(dir, "native")]);
  const r = await imprint(["e2image", image, "-"]);
  t.is(r.code, 0, r.stderr);
  t.is(difference(imageBytes(join(dir, "native")), imageBytes(r.stdout)), null);
  const redirected = await imprint(["e2image", image, "-"], { stdoutFile: join(dir, "out") });
  t.is(redirected.code, 0, redirected.stderr);
  t.is(difference(imageBytes(join(dir, "native")), imageBytes(join(dir, "out"))), null);
});

test("the header names device, image file and time", async (t) => {
  const image = await shapeImage(shapeNamed("ext4-1k"));
  const dir = scratch(t, "normal");
  copyFileSync(image, join(dir, "a.img"));
  const device = attach(t, join(dir, "a.img"), "--read-only");
  await must("e2image", [device, "native"], { cwd: dir });
  t.is((await imprint(["e2image", device, "ours"], { cwd: dir })).code, 0);
  const [native, ours] = ["native", "ours"].map((n) => readFileSync(join(dir, n)));
  t.deepEqual(ours.subarray(0, 244), native.subarray(0, 244), "up to the inode of the image");
  t.true(Math.abs(ours.readUInt32LE(248) - native.readUInt32LE(248)) < 60, "the time");
  t.is(ours.readUInt32LE(252), 0);
  t.deepEqual(ours.subarray(256), native.subarray(256));
  const { ino } = await import("node:fs").then((fs) => fs.statSync(join(dir, "ours")));
  t.is(ours.readUInt32LE(244), ino % 2 ** 32);
});

test("onto a block device: nothing it held shows through", async (t) => {
  const image = await shapeImage(shapeNamed("uninit-bg"));
  const dir = scratch(t, "normal");
  await must("e2image", [image, join(dir, "native")]);
  const native = imageBytes(join(dir, "native"));
  writeFileSync(join(dir, "held"), noise(3, native.length + 4096));
  const device = attach(t, join(dir, "held"));
  const r = await imprint(["e2image", "--verify", image, device]);
  t.is(r.code, 0, r.stderr);
  const held = readFileSync(device);
  t.is(difference(native, imageBytes(held.subarray(0, native.length))), null);
  t.deepEqual(
    held.subarray(native.length),
    Buffer.from(noise(3, native.length + 4096)).subarray(native.length),
  );
});

test("flags that mean nothing here are taken, and change nothing", async (t) => {
  const image = await shapeImage(shapeNamed("ext4-1k"));
  const dir = scratch(t, "normal");
  await must("e2image", [image, join(dir, "native")]);
  for (const flags of [["-s"], ["-f"], ["-B", "1024"], ["-sf"]]) {
    rmSync(join(dir, "out"), { force: true });
    const r = await imprint(["e2image", ...flags, image, join(dir, "out")]);
    t.is(r.code, 0, r.stderr);
    t.is(difference(imageBytes(join(dir, "native")), imageBytes(join(dir, "out"))), null, flags.join(" "));
  }
  rmSync(join(dir, "out"));
  t.is((await imprint(["e2image", "-n", image, join(dir, "out")])).code, 0);
  t.false(existsSync(join(dir, "out")), "-n writes nothing");
});

/** What both tools say, ours without the line of detail that native does not have. */
function words(r: Outcome): string {
  const lines = r.stderr
    .split("\n")
    .slice(1)
    .filter((l) => !/^\(|^imprint e2image: ext /.test(l));
  return `${r.code} ${r.stdout.toString("latin1")}${lines.join("\n").replaceAll("imprint e2image", "e2image")}`;
}

const DAMAGE: readonly (readonly [string, string, (p: Patch) => void])[] = [
  ["ext4-1k", "no inode table", (p) => p.u32(p.descriptor(0) + 8, 0)],
  ["ext4-1k", "an inode table outside the volume", (p) => p.u32(p.descriptor(0) + 8, 999_999)],
  ["ext2-1k", "an inode table over the end", (p) => p.u32(p.descriptor(0) + 8, 8100)],
  ["ext4-1k", "a block bitmap outside the volume", (p) => p.u32(p.descriptor(0), 999_999)],
  ["ext4-1k", "no block bitmap", (p) => p.u32(p.descriptor(0), 0)],
  ["ext4-1k", "an inode bitmap outside the volume", (p) => p.u32(p.descriptor(0) + 4, 999_999)],
  ["ext4-1k", "flags that the checksum does not vouch for", (p) => p.u16(p.descriptor(0) + 18, 7)],
  ["ext2-1k", "flags that the volume does not know", (p) => p.u16(p.descriptor(0) + 18, 7)],
  ["no-sparse-super", "flags in a middle group", (p) => p.u16(p.descriptor(1) + 18, 2)],
  ["ext4-1k", "another block size", (p) => p.set("logBlockSize", 2)],
  ["ext4-1k", "no magic", (p) => p.set("magic", 0)],
  ["ext4-1k", "more inodes than fit", (p) => p.set("inodesCount", 77)],
];

for (const [shape, what, break_] of DAMAGE)
  test(`${what}: the native image or the native words`, async (t) => {
    const image = await shapeImage(shapeNamed(shape));
    const dir = scratch(t, "normal");
    const p = new Patch(image, readFileSync(image));
    break_(p);
    writeFileSync(join(dir, "v.img"), p.bytes);
    const [n, o] = [
      await run("e2image", ["v.img", "native"], { cwd: dir }),
      await imprint(["e2image", "v.img", "ours"], { cwd: dir }),
    ];
    t.is(words(o), words(n));
    if (n.code === 0) t.is(difference(imageBytes(join(dir, "native")), imageBytes(join(dir, "ours"))), null);
    else t.false(existsSync(join(dir, "ours")));
  });

test("a volume whose file maps are all broken", async (t) => {
  for (const shape of ["extents-depth-3", "triple-indirect"]) {
    const image = await shapeImage(shapeNamed(shape));
    const dir = scratch(t, "normal");
    const bytes = readFileSync(image);
    const p = new Patch(image, bytes);
    const root = await p.inode("<2>");
    bytes.fill(0xee, root + 40, root + 100);
    if (shape === "extents-depth-3")
      bytes.fill(0xee, await p.extentNode("deep"), (await p.extentNode("deep")) + 1024);
    writeFileSync(join(dir, "v.img"), bytes);
    await must("e2image", ["v.img", "native"], { cwd: dir });
    const r = await imprint(["e2image", "v.img", "ours"], { cwd: dir });
    t.is(r.code, 0, r.stderr);
    t.is(difference(imageBytes(join(dir, "native")), imageBytes(join(dir, "ours"))), null);
  }
});

test("a source that ends early: native's words, and --ignore-read-errors", async (t) => {
  const image = await shapeImage(shapeNamed("no-sparse-super"));
  const dir = scratch(t, "normal");
  const size = readFileSync(image).length;
  for (const length of [3000, 70_000, 200_000, size >> 1]) {
    copyFileSync(image, join(dir, "v.img"));
    truncateSync(join(dir, "v.img"), length);
    const [n, o] = [
      await run("e2image", ["v.img", "native"], { cwd: dir }),
      await imprint(["e2image", "v.img", "ours"], { cwd: dir }),
    ];
    t.is(words(o), words(n), `${length} bytes`);
    t.is(existsSync(join(dir, "ours")), n.code === 0);
    rmSync(join(dir, "ours"), { force: true });
  }
  await must("e2image", [image, join(dir, "whole")]);
  const r = await imprint(["e2image", "--ignore-read-errors", "v.img", "ours"], { cwd: dir });
  t.is(r.code, 0, r.stderr);
  t.regex(r.stderr, /error reading block \d+/);
  t.is(readFileSync(join(dir, "ours")).length, readFileSync(join(dir, "whole")).length);
});

test("sections beyond 4 GiB are refused before anything is written", async (t) => {
  const dir = scratch(t, "normal");
  const image = sparse(join(dir, "large.img"), 80 * 2 ** 30);
  const options = ["-F", "-q", "-t", "ext4", "-N", "18000000", "-O", "uninit_bg,^metadata_csum,^has_journal"];
  await must("mke2fs", [...options, "-E", "lazy_itable_init=1", image]);
  for (const target of [join(dir, "out"), "-"]) {
    const r = await imprint(["e2image", image, target]);
    t.is(r.code, 1);
    t.regex(r.stderr, /sections up to byte \d+, and the format ends at 4 GiB/);
    t.is(r.stdout.length, 0);
  }
  t.deepEqual(readdirSync(dir), ["large.img"]);
});

test("hostile images: a typed answer, soon", async (t) => {
  const image = await shapeImage(shapeNamed("meta-bg"));
  const dir = scratch(t, "normal");
  await must("e2image", [image, join(dir, "good")]);
  const good = readFileSync(join(dir, "good"));
  const next = random(7);
  const meet = async (what: string, bytes: Buffer) => {
    const out = scratch(t, "normal-out");
    writeFileSync(join(dir, "bad"), bytes);
    const options = { timeoutMs: 20_000, watchMemory: true };
    endsWell(t, `info ${what}`, await imprint(["info", join(dir, "bad")], options), out);
    endsWell(
      t,
      `convert ${what}`,
      await imprint(["convert", join(dir, "bad"), join(out, "raw")], options),
      out,
    );
  };
  for (let i = 0; i < 12; i++) {
    const bytes = Buffer.from(good);
    const at = [204, 284, 288, 292, 296][i % 5];
    bytes.writeUInt32LE([0, 1, 0xffffffff, 0x80000000, 1024, 4096, next() >>> 0][i % 7], at);
    await meet(`with header field ${at} broken`, bytes);
  }
  for (let i = 0; i < 12; i++) {
    const bytes = Buffer.from(good);
    for (let k = 0; k < 3; k++) {
      const at = next() % 3 === 0 ? 1024 + (next() % 400) : 2048 + (next() % 2048);
      bytes[at] = next() & 255;
    }
    await meet(`with bytes broken, try ${i}`, bytes);
  }
  for (const length of [4, 331, 332, 1024, 1500, 2048, 5000, good.length - 1])
    await meet(`of ${length} bytes`, good.subarray(0, length));
});

test("-I and the reader agree on a corrupt volume whose structures overlap", async (t) => {
  const image = await shapeImage(shapeNamed("no-sparse-super"));
  const dir = scratch(t, "normal");
  const at = (name: string) => join(dir, name);
  const p = new Patch(image, readFileSync(image));
  // Two tables in one place, one over the superblock, a bitmap inside a table.
  const table = p.bytes.readUInt32LE(p.descriptor(0) + 8);
  p.u32(p.descriptor(1) + 8, table + 1)
    .u32(p.descriptor(2) + 8, 1)
    .u32(p.descriptor(1), table + 2);
  writeFileSync(at("v.img"), p.bytes);
  await must("e2image", [at("v.img"), at("native")]);
  sparse(at("installed"), p.bytes.length);
  sparse(at("ours"), p.bytes.length);
  await must("e2image", ["-I", at("installed"), at("native")]);
  t.is((await imprint(["e2image", "-I", at("ours"), at("native")])).code, 0);
  t.is(difference(volumeBytes(at("installed")), volumeBytes(at("ours"))), null);
  const r = await imprint(["convert", "--format", "raw", at("native"), at("raw")]);
  t.is(r.code, 0, r.stderr);
  t.is(difference(volumeBytes(at("installed")), volumeBytes(at("raw"))), null);
});

test("an output that is there already is replaced, also by a refused run not at all", async (t) => {
  const image = await shapeImage(shapeNamed("ext4-1k"));
  const dir = scratch(t, "normal");
  writeFileSync(join(dir, "out"), noise(4, 900_000));
  const refused = await imprint(["e2image", "-p", image, join(dir, "out")]);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /The -p option only supported in raw mode/);
  t.is(readFileSync(join(dir, "out")).length, 900_000);
  t.is((await imprint(["e2image", image, join(dir, "out")])).code, 0);
  await must("e2image", [image, join(dir, "native")]);
  t.is(difference(imageBytes(join(dir, "native")), imageBytes(join(dir, "out"))), null);
  t.is(fileDifference(image, await shapeImage(shapeNamed("ext4-1k"))), null);
});
