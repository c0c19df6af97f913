// e2image -I: what ours installs against what native installs, and what ours refuses first.
import { copyFileSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { difference, NORMAL_SHAPES, volumeBytes } from "../support/e2image-normal.ts";
import { shapeImage, shapeNamed, shapes } from "../support/ext-shapes.ts";
import { noise } from "../support/ext-tree.ts";
import { attach, mount, scratch } from "../support/host.ts";
import { fileDifference, imprint, limiter, must, type Outcome, run } from "../support/native.ts";

const turn = limiter(2);
const names: readonly string[] = NORMAL_SHAPES;
const chosen = shapes.filter((s) => names.includes(s.name));

/** Fills every block of a volume that a normal image holds with `byte`. */
async function wipe(t: ExecutionContext, volume: string, image: string, byte: number): Promise<void> {
  const map = await imprint(["map", "--json", image]);
  t.is(map.code, 0, map.stderr);
  const bytes = readFileSync(volume);
  for (const run of JSON.parse(map.stdout.toString()) as { start: number; length: number; state: string }[])
    if (run.state !== "hole") bytes.fill(byte, run.start, run.start + run.length);
  writeFileSync(volume, bytes);
}

for (const s of chosen)
  test(`${s.name}: wiped, installed, whole again, as native does it`, (t) =>
    turn(async () => {
      const image = await shapeImage(s);
      const dir = scratch(t, "install");
      const at = (name: string) => join(dir, name);
      t.is((await imprint(["e2image", image, at("e2i")])).code, 0);
      for (const byte of [0, 0xa5]) {
        for (const name of ["native", "ours"]) {
          copyFileSync(image, at(name));
          await wipe(t, at(name), at("e2i"), byte);
        }
        await must("e2image", ["-I", at("native"), at("e2i")]);
        const r = await imprint(["e2image", "-I", at("ours"), at("e2i")]);
        t.is(r.code, 0, r.stderr);
        t.is(r.stdout.length, 0);
        t.is(difference(volumeBytes(at("native")), volumeBytes(at("ours"))), null, `over ${byte}`);
        t.is(
          difference(volumeBytes(image), volumeBytes(at("ours"))),
          null,
          `over ${byte}: the volume it was`,
        );
        const [before, after] = [
          await run("e2fsck", ["-fn", image]),
          await run("e2fsck", ["-fn", at("ours")]),
        ];
        t.is(after.code, before.code, after.stdout.toString());
      }
    }));

for (const s of chosen)
  test(`${s.name}: over junk of another kind, the native bytes`, (t) =>
    turn(async () => {
      const image = await shapeImage(s);
      const dir = scratch(t, "install");
      const at = (name: string) => join(dir, name);
      await must("e2image", [image, at("e2i")]);
      const junk = noise(17, readFileSync(image).length);
      for (const name of ["native", "ours"]) writeFileSync(at(name), junk);
      await must("e2image", ["-I", at("native"), at("e2i")]);
      const r = await imprint(["e2image", "-I", at("ours"), at("e2i")]);
      t.is(r.code, 0, r.stderr);
      t.is(difference(volumeBytes(at("native")), volumeBytes(at("ours"))), null);
    }));

test("the superblock's time and amount of writing move on, its checksum is right", async (t) => {
  const image = await shapeImage(shapeNamed("ext4-4k"));
  const dir = scratch(t, "install");
  copyFileSync(image, join(dir, "v.img"));
  await must("e2image", [image, join(dir, "e2i")]);
  t.is((await imprint(["e2image", "-I", "v.img", "e2i"], { cwd: dir })).code, 0);
  const r = await must("dumpe2fs", ["-h", "v.img"], { cwd: dir });
  const written = Number(/Lifetime writes:\s+(\d+)/.exec(r.stdout.toString())?.[1]);
  t.true(written > 0);
  t.true(Math.abs(readFileSync(join(dir, "v.img")).readUInt32LE(1024 + 48) - Date.now() / 1000) < 60);
  t.is((await run("e2fsck", ["-fn", "v.img"], { cwd: dir })).code, 0);
});

test("on a block device", async (t) => {
  const image = await shapeImage(shapeNamed("uninit-bg"));
  const dir = scratch(t, "install");
  const at = (name: string) => join(dir, name);
  await must("e2image", [image, at("e2i")]);
  const results: Buffer[] = [];
  for (const name of ["native", "ours"]) {
    copyFileSync(image, at(name));
    await wipe(t, at(name), at("e2i"), 0x5a);
    const device = attach(t, at(name));
    if (name === "native") await must("e2image", ["-I", device, at("e2i")]);
    else {
      const r = await imprint(["e2image", "-I", device, at("e2i")]);
      t.is(r.code, 0, r.stderr);
    }
    await must("blockdev", ["--flushbufs", device]);
    results.push(volumeBytes(device));
  }
  t.is(difference(results[0], results[1]), null);
});

/** A folder with an image, its volume and inputs that are neither. */
async function inputs(t: ExecutionContext): Promise<string> {
  const dir = scratch(t, "install");
  copyFileSync(await shapeImage(shapeNamed("ext4-1k")), join(dir, "a.img"));
  await must("e2image", ["a.img", "a.e2i"], { cwd: dir });
  writeFileSync(join(dir, "junk"), noise(5, 60_000));
  writeFileSync(join(dir, "empty"), "");
  const image = readFileSync(join(dir, "a.e2i"));
  for (const length of [331, 1500, 3000, 100_000, 265_000])
    writeFileSync(join(dir, `short-${length}`), image.subarray(0, length));
  const other = Buffer.from(image);
  other.writeUInt32LE(4096, 204);
  writeFileSync(join(dir, "block-size"), other);
  return dir;
}

/** What both tools say, ours without the line of detail that native does not have. */
function words(r: Outcome): string {
  const lines = r.stderr.split("\n").slice(1);
  const same = lines.map((l) => l.replaceAll("imprint e2image", "e2image"));
  return `${r.code} ${r.stdout.toString("latin1")}${same.filter((l) => !/: (ext|e2image) \w+/.test(l)).join("\n")}`;
}

for (const line of [
  "-I nosuch a.e2i",
  "-I nosuch/x a.e2i",
  "-I a.img/x a.e2i",
  "-I /proc a.e2i",
  "-I a.img nosuch",
  "-I a.img .",
  "-I a.img a.img",
  "-I a.img junk",
  "-I a.img empty",
  "-I a.img short-331",
  "-I a.img short-1500",
  "-I a.img short-3000",
  "-I a.img short-100000",
  "-I a.img short-265000",
  "-I nosuch nosuch",
  "-Ir a.img a.e2i",
  "-IQ a.img a.e2i",
  "-Ia a.img a.e2i",
  "-I -b 5 a.img a.e2i",
  "-I -o 5 a.img a.e2i",
  "-I a.img",
])
  test(`refused as native does: e2image ${line}`, async (t) => {
    const dir = await inputs(t);
    const before = readFileSync(join(dir, "a.img"));
    const args = line.split(" ");
    const ours = await imprint(["e2image", ...args], { cwd: dir });
    t.is(ours.code, 1);
    t.true(readFileSync(join(dir, "a.img")).equals(before), "nothing is written");
    t.is(words(ours), words(await run("e2image", args, { cwd: dir })));
    t.is(readdirSync(dir).length, 10);
  });

for (const flags of [["-p"], ["-c"], ["-n"], ["-s"], ["-f"], ["-B", "1024"]])
  test(`-I does not mind ${flags.join(" ")}`, async (t) => {
    const dir = await inputs(t);
    const r = await imprint(["e2image", "-I", ...flags, "a.img", "a.e2i"], { cwd: dir });
    t.is(r.code, 0, r.stderr);
  });

/** Runs an install that must be refused with these words, and leave the target as it was. */
async function refused(t: ExecutionContext, dir: string, target: string, says: RegExp): Promise<void> {
  const before = readFileSync(join(dir, target));
  const r = await imprint(["e2image", "-I", target, "a.e2i"], { cwd: dir });
  t.is(r.code, 1);
  t.regex(r.stderr, says);
  t.true(readFileSync(join(dir, target)).equals(before), "the target is as it was");
}

test("a target that is too small is refused, -f or not", async (t) => {
  const dir = await inputs(t);
  copyFileSync(join(dir, "a.img"), join(dir, "small"));
  truncateSync(join(dir, "small"), 8 * 2 ** 20 - 1);
  await refused(t, dir, "small", /small: has 8388607 bytes, the volume of this image 8388608/);
  t.is((await imprint(["e2image", "-If", "small", "a.e2i"], { cwd: dir })).code, 1);
});

test("another volume is refused, unless -f is given", async (t) => {
  const dir = await inputs(t);
  copyFileSync(join(dir, "a.img"), join(dir, "other"));
  await must("tune2fs", ["-U", "random", "other"], { cwd: dir });
  await refused(t, dir, "other", /other: holds the volume [0-9a-f-]{36}, the image is of 5d2c3b1a-/);
  const r = await imprint(["e2image", "-If", "other", "a.e2i"], { cwd: dir });
  t.is(r.code, 0, r.stderr);
});

test("another volume whose primary superblock is gone is known by its backup", async (t) => {
  const dir = scratch(t, "install");
  const image = await shapeImage(shapeNamed("no-sparse-super"));
  await must("e2image", [image, join(dir, "a.e2i")]);
  copyFileSync(image, join(dir, "other"));
  await must("tune2fs", ["-U", "random", "other"], { cwd: dir });
  const bytes = readFileSync(join(dir, "other"));
  bytes.fill(0, 1024, 2048);
  writeFileSync(join(dir, "other"), bytes);
  await refused(t, dir, "other", /other: holds the volume .* \(superblock at byte 8389632\)/);
});

test("a mounted, attached or read-only target, and the image itself, are refused", async (t) => {
  const dir = await inputs(t);
  const device = attach(t, join(dir, "a.img"));
  await refused(t, dir, "a.img", /a\.img: is attached to/);
  mount(t, join(dir, "mnt"), device);
  const r = await imprint(["e2image", "-If", device, "a.e2i"], { cwd: dir });
  t.is(r.code, 1);
  t.regex(r.stderr, /is mounted on/);
  await refused(t, dir, "a.e2i", /a\.e2i: is \(or holds, or lies on\) the source/);
  copyFileSync(await shapeImage(shapeNamed("ext4-1k")), join(dir, "b.img"));
  const readOnly = attach(t, join(dir, "b.img"), "--read-only");
  t.regex((await imprint(["e2image", "-I", readOnly, "a.e2i"], { cwd: dir })).stderr, /read-only/);
});

test("an image whose tables cannot be placed is refused before the first write", async (t) => {
  const dir = await inputs(t);
  const image = readFileSync(join(dir, "a.e2i"));
  for (const table of [0, 8000, 999_999]) {
    image.writeUInt32LE(table, 2048 + 8);
    writeFileSync(join(dir, "a.e2i"), image);
    await refused(t, dir, "a.img", /^a\.e2i: while restoring the image table\n.*inode table/m);
  }
});

test("an image with sections that overlap or lie wrong is refused before the first write", async (t) => {
  const dir = await inputs(t);
  const good = readFileSync(join(dir, "a.e2i"));
  for (const [at, value] of [
    [284, 2048],
    [288, 1024],
    [288, 3073],
    [292, 0],
    [296, 3072],
    [296, 0xfffffc00],
  ] as const) {
    const image = Buffer.from(good);
    image.writeUInt32LE(value, at);
    writeFileSync(join(dir, "a.e2i"), image);
    await refused(t, dir, "a.img", /e2image (header at 0x0|section|bitmaps|inode tables)/);
  }
});

test("native installs our image", async (t) => {
  const dir = await inputs(t);
  t.is((await imprint(["e2image", "a.img", "ours.e2i"], { cwd: dir })).code, 0);
  copyFileSync(join(dir, "a.img"), join(dir, "b.img"));
  await wipe(t, join(dir, "b.img"), join(dir, "a.e2i"), 0);
  await must("e2image", ["-I", "b.img", "ours.e2i"], { cwd: dir });
  t.is(difference(volumeBytes(join(dir, "a.img")), volumeBytes(join(dir, "b.img"))), null);
  t.not(fileDifference(join(dir, "a.img"), join(dir, "b.img")), null, "but for the superblock's time");
});
