// Our e2image against the native one, byte for byte, over the whole shape corpus.
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { type Shape, shapeImage, shapeNamed, shapes } from "../support/ext-shapes.ts";
import { noise } from "../support/ext-tree.ts";
import {
  bytesDifference,
  fileDifference,
  fsck,
  imprint,
  inScratch,
  limiter,
  must,
  run,
} from "../support/native.ts";
import { inShare } from "../support/share.ts";

const turn = limiter(2);
const MODES = ["-r", "-ra", "-Q", "-Qa"] as const;
const SECRET = "deleted file data that a metadata image has no business with";

/** Runs native e2image and ours with the same arguments on fresh outputs and compares exit codes and bytes. */
async function bothAgree(
  t: ExecutionContext,
  what: string,
  args: readonly string[],
  native: string,
  ours: string,
  extra: readonly string[] = [],
): Promise<boolean> {
  rmSync(native, { force: true });
  rmSync(ours, { force: true });
  const [n, o] = [
    await run("e2image", [...args, native]),
    await imprint(["e2image", ...extra, ...args, ours]),
  ];
  const said = `${what}: ours said ${JSON.stringify(o.stderr.slice(0, 400))}`;
  t.is(o.code, n.code, said);
  if (n.code !== 0) {
    t.false(existsSync(ours), `${what}: a failed run leaves no output`);
    return false;
  }
  t.true(existsSync(ours), `${said}: no output`);
  if (existsSync(ours)) t.is(fileDifference(native, ours), null, what);
  return existsSync(ours);
}

/** Corruptions, errors and leaks that qemu-img check counts, with its exit code. */
async function check(file: string): Promise<{ code: number | null; errors: number; leaks: number }> {
  const r = await run("qemu-img", ["check", "-f", "qcow2", "--output=json", file]);
  const j = JSON.parse(r.stdout.toString("latin1")) as Record<string, number>;
  return { code: r.code, errors: (j["check-errors"] ?? 0) + (j["corruptions"] ?? 0), leaks: j["leaks"] ?? 0 };
}

async function identical(t: ExecutionContext, qcow2: string, raw: string, what: string): Promise<void> {
  const r = await run("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", qcow2, raw]);
  t.is(r.stdout.toString("latin1").trim(), "Images are identical.", what);
}

async function piped(t: ExecutionContext, args: readonly string[], file: string): Promise<void> {
  const r = await imprint(["e2image", ...args, "-"]);
  t.is(r.code, 0, `${args.join(" ")} to a pipe: ${r.stderr.slice(0, 400)}`);
  t.is(bytesDifference(file, r.stdout), null, `${args.join(" ")} to a pipe`);
}

/** `further`: also --modern and pipes, which depend little on the shape. */
async function everyMode(
  t: ExecutionContext,
  s: Shape,
  image: string,
  dir: string,
  further: boolean,
): Promise<void> {
  const at = (name: string) => join(dir, name);
  const native = s.nativeSelection ? ["--native-selection"] : [];
  for (const mode of MODES) {
    const [a, b] = [at(`native${mode}`), at(`ours${mode}`)];
    if (!(await bothAgree(t, `${s.name} ${mode}`, [mode, image], a, b, native))) continue;
    if (mode.startsWith("-Q")) {
      const [x, y] = [await check(a), await check(b)];
      t.deepEqual(y, x, `${s.name} ${mode}: qemu-img check`);
      t.is(y.errors, 0);
    } else t.is(await fsck(b), await fsck(a), `${s.name} ${mode}: e2fsck -fn`);
  }
  await identical(t, at("ours-Q"), at("ours-r"), `${s.name}: -Q against -r`);
  await identical(t, at("ours-Qa"), at("ours-ra"), `${s.name}: -Qa against -ra`);
  if (!further) return;
  for (const mode of ["-Q", "-Qa"]) {
    const modern = at(`modern${mode}`);
    const r = await imprint(["e2image", ...native, mode, "--modern", image, modern]);
    t.is(r.code, 0, `${s.name} ${mode} --modern: ${r.stderr.slice(0, 400)}`);
    t.deepEqual(
      await check(modern),
      { code: 0, errors: 0, leaks: 0 },
      `${s.name} ${mode} --modern: qemu-img check`,
    );
    await identical(t, modern, at(mode === "-Q" ? "ours-r" : "ours-ra"), `${s.name} ${mode} --modern`);
  }
  for (const mode of ["-r", "-Q", "-Qa"]) await piped(t, [...native, mode, image], at(`ours${mode}`));
}

for (const [i, s] of shapes.entries())
  test(`${s.name}: the native bytes in every mode`, (t) =>
    turn(async () => {
      const image = await shapeImage(s);
      await inScratch("bytes", (dir) => everyMode(t, s, image, dir, inShare(i, 3)));
    }));

for (const s of shapes.filter((x) => x.nativeSelection))
  test(`${s.name}: our own selection holds all metadata and no deleted data`, (t) =>
    turn(async () => {
      const image = await shapeImage(s);
      await inScratch("selection", async (dir) => {
        const [raw, qcow2, native] = [join(dir, "raw"), join(dir, "qcow2"), join(dir, "native")];
        t.is((await imprint(["e2image", "-r", image, raw])).code, 0);
        t.is((await imprint(["e2image", "-Q", image, qcow2])).code, 0);
        await must("e2image", ["-r", image, native]);
        t.is(await fsck(raw), await fsck(image), "e2fsck finds in the image what it finds in the volume");
        await identical(t, qcow2, raw, s.name);
        if (s.name.startsWith("bigalloc")) {
          t.true(readFileSync(native).includes(SECRET), "the native image shows deleted data here");
          t.false(readFileSync(raw).includes(SECRET), "ours must not");
        }
      });
    }));

for (const [name, backup, block] of [
  ["many-groups", 257, 1024],
  ["no-sparse-super", 8193, 1024],
  ["sparse-super2", 8193, 1024],
  ["uninit-bg", 8193, 1024],
  ["meta-bg", 513, 1024],
  ["meta-bg-32-bit-descriptors", 257, 1024],
  ["no-flex-bg", 8193, 1024],
] as const)
  test(`${name}: broken primary superblock, read through the backup`, (t) =>
    turn(async () => {
      const image = await shapeImage(shapeNamed(name));
      await inScratch("backup", async (dir) => {
        const at = (n: string) => join(dir, n);
        copyFileSync(image, at("source"));
        const bytes = readFileSync(at("source"));
        bytes.fill(0, 1024, 2048);
        writeFileSync(at("source"), bytes);
        for (const mode of MODES) {
          const args = [mode, "-b", `${backup}`, "-B", `${block}`, at("source")];
          await bothAgree(t, `${name} ${args.slice(0, 5).join(" ")}`, args, at("a"), at("b"));
        }
        t.is(await fsck(at("b")), await fsck(at("a")));
        for (const args of [
          ["-r", at("source")],
          ["-r", "-b", `${backup}`, at("source")],
          ["-r", "-b", `${backup}`, "-B", `${block * 2}`, at("source")],
          ["-Q", "-B", `${block * 2}`, image],
          ["-Q", "-B", `${block}`, image],
        ])
          await bothAgree(t, `${name} ${args.slice(0, -1).join(" ")}`, args, at("a"), at("b"));
      });
    }));

for (const [name, offset] of [
  ["ext4-1k", 1_048_576],
  ["ext2-4k", 1_048_576 + 512],
  ["ext4-4k", 12_345],
] as const)
  test(`${name}: a filesystem at byte ${offset} of its source, and at an offset of the output`, (t) =>
    turn(async () => {
      const image = await shapeImage(shapeNamed(name));
      await inScratch("offset", async (dir) => {
        const at = (n: string) => join(dir, n);
        writeFileSync(at("disk"), Buffer.concat([noise(5, offset), readFileSync(image), noise(6, 70_000)]));
        for (const mode of ["-r", "-ra"]) {
          await bothAgree(t, `${mode} -o`, [mode, "-o", `${offset}`, at("disk")], at("a"), at("b"));
          await bothAgree(t, `${mode} -O`, [mode, "-O", `${offset}`, image], at("a"), at("b"));
          const both = [mode, "-o", `${offset}`, "-O", "65536", at("disk")];
          await bothAgree(t, `${mode} -o -O`, both, at("a"), at("b"));
        }
      });
    }));

for (const mode of MODES)
  test(`an output that is there already, ${mode}: none of its bytes are left`, (t) =>
    turn(async () => {
      const image = await shapeImage(shapeNamed("ext4-1k"));
      await inScratch("reused", async (dir) => {
        const at = (n: string) => join(dir, n);
        await must("e2image", [mode, image, at("fresh")]);
        for (const size of [1000, 5_000_000, 20_000_000]) {
          writeFileSync(at("ours"), noise(size, size));
          const r = await imprint(["e2image", mode, image, at("ours")]);
          t.is(r.code, 0, r.stderr);
          t.is(fileDifference(at("fresh"), at("ours")), null, `over ${size} bytes`);
        }
      });
    }));

test("-O into a disk that is there already keeps what lies before and behind the filesystem", (t) =>
  turn(async () => {
    const image = await shapeImage(shapeNamed("ext4-no-journal"));
    await inScratch("into-disk", async (dir) => {
      const at = (n: string) => join(dir, n);
      const size = readFileSync(image).length;
      const [before, behind] = [noise(1, 1 << 20), noise(2, 1 << 20)];
      writeFileSync(at("disk"), Buffer.concat([before, noise(3, size), behind]));
      await must("e2image", ["-ra", image, at("fresh")]);
      const r = await imprint(["e2image", "-ra", "-O", `${1 << 20}`, image, at("disk")]);
      t.is(r.code, 0, r.stderr);
      const disk = readFileSync(at("disk"));
      t.is(disk.length, size + 2 * (1 << 20));
      t.true(disk.subarray(0, 1 << 20).equals(before), "before");
      t.true(disk.subarray((1 << 20) + size).equals(behind), "behind");
      t.is(bytesDifference(at("fresh"), disk.subarray(1 << 20, (1 << 20) + size)), null, "the filesystem");
    });
  }));
