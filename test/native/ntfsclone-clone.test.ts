// Clones, images and restores of every shape of volume, byte for byte as ntfsclone makes them.
import {
  copyFileSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import test from "ava";
import { fileDifference, imprint, inScratch, limiter, must, run } from "../support/native.ts";
import { ntfsShapeImage, ntfsShapeNamed, ntfsShapes } from "../support/ntfs-shapes.ts";
import { both, OUT } from "../support/ntfsclone.ts";

const turn = limiter(2);

/**
 * Volumes whose last cluster ends with the device: native's clone ends with the last cluster in use
 * and cannot be opened.
 */
const SHORT_CLONE = new Set(["exact-device"]);
/** Volumes that native refuses. */
const REFUSED = new Set(["extra-marks"]);

const shapes = ntfsShapes.filter((s) => !REFUSED.has(s.name));

test("the corpus is large enough", (t) => t.true(shapes.length >= 18));

for (const [number, shape] of shapes.entries())
  test(`${shape.name}: clone, image and restores are native's`, (t) =>
    turn(async () => {
      const image = await ntfsShapeImage(shape);
      const needs = shape.needs === "" ? [] : shape.needs.split(" ");
      await inScratch("ntfsclone", async (dir) => {
        const clone = await both(dir, [...needs, "-o", OUT, image]);
        t.is(clone.ours.code, 0, clone.ours.messages);
        t.is(clone.ours.messages, clone.native.messages);
        t.is(clone.ours.stderr, clone.native.stderr);
        if (SHORT_CLONE.has(shape.name)) {
          t.is(statSync(clone.ours.output).size, statSync(image).size);
          copyFileSync(clone.native.output, join(dir, "whole"));
          await must("truncate", ["-s", `${statSync(image).size}`, join(dir, "whole")]);
          t.is(fileDifference(clone.ours.output, join(dir, "whole")), null);
        } else t.is(fileDifference(clone.ours.output, clone.native.output), null);

        const expected = join(dir, "expected");
        renameSync(clone.ours.output, expected);
        rmSync(clone.native.output);
        const saved = await both(dir, [...needs, "-s", "-o", OUT, image]);
        t.is(saved.ours.messages, saved.native.messages);
        t.is(fileDifference(saved.ours.output, saved.native.output), null);

        // Every second volume the rest of the way.
        if (number % 2 === 1) return;
        // To standard output: the same bytes, those not in use as zeros.
        const streamed = await imprint(["ntfsclone", ...needs, "-q", "-O", "-", image], {
          stdoutFile: join(dir, "streamed"),
        });
        t.is(streamed.code, 0, streamed.stderr);
        t.is(fileDifference(join(dir, "streamed"), expected), null);

        // The images are equal, so one restore by each shows both ways.
        const special = join(dir, "special");
        renameSync(saved.ours.output, special);
        rmSync(saved.native.output);
        const restored = await both(dir, ["-r", "-o", OUT, special]);
        t.is(restored.ours.messages, restored.native.messages);
        t.is(fileDifference(restored.ours.output, expected), null);
        if (!SHORT_CLONE.has(shape.name))
          t.is(fileDifference(restored.native.output, restored.ours.output), null);
        t.deepEqual(
          readdirSync(join(dir, "ours")).filter((f) => f !== "out"),
          [],
          "nothing else is left",
        );
      });
    }));

test("metadata: images, files and their figures are native's", (t) =>
  inScratch("ntfsclone-m", async (dir) => {
    for (const name of ["c4k", "attributes-c512", "bad-clusters", "big-directory-s4096", "c2m", "dirty"]) {
      const shape = ntfsShapeNamed(name);
      const image = await ntfsShapeImage(shape);
      const needs = shape.needs === "" ? [] : shape.needs.split(" ");
      for (const mode of [["-ms"], ["-m"], ["-mts"], ["-m", "--full-logfile", "-s"]]) {
        // Each pass of native's mounts the volume, and each takes one -f.
        const r = await both(dir, [...needs, ...needs, ...mode, "-o", OUT, image]);
        t.is(r.ours.code, 0, `${name} ${mode}: ${r.ours.messages}`);
        t.is(r.ours.messages, r.native.messages, `${name} ${mode}`);
        t.is(fileDifference(r.ours.output, r.native.output), null, `${name} ${mode}`);
        for (const who of [r.native, r.ours]) rmSync(who.output);
      }
    }
  }));

test("clusters that only $Bitmap marks: refused, overruled, and saved", (t) =>
  inScratch("ntfsclone-extra", async (dir) => {
    const image = await ntfsShapeImage(ntfsShapeNamed("extra-marks"));
    const refused = await both(dir, ["-o", OUT, image]);
    t.is(refused.ours.code, 1);
    t.is(refused.ours.messages, refused.native.messages);
    t.false(refused.ours.exists, "a refused run leaves no file");
    rmSync(refused.native.output);
    let clone = "";
    for (const mode of [["-s"], [], ["-m", "-s"], ["-m"]]) {
      const r = await both(dir, ["--rescue", "--ignore-fs-check", ...mode, "-o", OUT, image]);
      t.is(r.ours.code, 0, r.ours.messages);
      t.is(r.ours.messages, r.native.messages, `${mode}`);
      t.is(fileDifference(r.ours.output, r.native.output), null, `${mode}`);
      if (mode.length === 0) copyFileSync(r.ours.output, (clone = join(dir, "clone")));
      if (mode.length === 1 && mode[0] === "-s") copyFileSync(r.ours.output, join(dir, "special"));
      for (const who of [r.native, r.ours]) rmSync(who.output);
    }
    // Where nothing has to be overruled, an image of metadata has a gap for it nevertheless.
    const healthy = await ntfsShapeImage(ntfsShapeNamed("smallest"));
    for (const mode of [["-s"], [], ["-m", "-s"], ["-m"]]) {
      const r = await both(dir, ["--rescue", "--ignore-fs-check", ...mode, "-o", OUT, healthy]);
      t.is(r.ours.messages, r.native.messages, `${mode}`);
      t.is(fileDifference(r.ours.output, r.native.output), null, `${mode}`);
      for (const who of [r.native, r.ours]) rmSync(who.output);
    }
    // Such an image goes back and forth; it restores to the clone, and reads as it.
    const restored = await both(dir, ["-r", "-o", OUT, join(dir, "special")]);
    t.is(fileDifference(restored.ours.output, clone), null);
    const stdout = await both(dir, ["-r", "-o", "-", join(dir, "special")]);
    t.is(stdout.ours.stderr, stdout.native.stderr);
    t.is(stdout.ours.code, 1);
    const converted = await imprint(["convert", join(dir, "special"), join(dir, "raw")]);
    t.is(converted.code, 0, converted.stderr);
    t.is(fileDifference(join(dir, "raw"), clone), null);
    // Our own policy gives the same clone, and an image in ascending order.
    const union = await imprint([
      "ntfsclone",
      "-q",
      "--fs-check=union",
      "-s",
      "-o",
      join(dir, "union"),
      image,
    ]);
    t.is(union.code, 0, union.stderr);
    const back = await run("ntfsclone", ["-q", "-r", "-o", "-", join(dir, "union")], {
      stdoutFile: join(dir, "back"),
    });
    t.is(back.code, 0, back.stderr);
    t.is(fileDifference(join(dir, "back"), clone), null);
  }));

test("a clone mounts, its files read as the volume's, and ntfsfix is content", (t) =>
  inScratch("ntfsclone-mount", async (dir) => {
    const image = await ntfsShapeImage(ntfsShapeNamed("c4k"));
    const clone = join(dir, "clone");
    t.is((await imprint(["ntfsclone", "-q", "-o", clone, image])).code, 0);
    const sums: string[] = [];
    for (const file of [image, clone]) {
      const at = join(dir, "mnt");
      await must("mkdir", ["-p", at]);
      await must("ntfs-3g", ["-o", "ro", file, at]);
      try {
        const list = await run("bash", ["-c", "find . -type f -print0 | sort -z | xargs -0 sha256sum"], {
          cwd: at,
        });
        sums.push(list.stdout.toString());
      } finally {
        await must("umount", [at]);
      }
    }
    t.is(sums[0], sums[1]);
    t.true(sums[0].split("\n").length > 10);
    const fix = await run("ntfsfix", ["-n", clone]);
    t.is(fix.code, 0, fix.stdout.toString());
  }));

test("a new serial number is in the boot sector and its copy, and nowhere else", (t) =>
  inScratch("ntfsclone-serial", async (dir) => {
    for (const name of ["c4k", "c512", "bigger-device"]) {
      const image = await ntfsShapeImage(ntfsShapeNamed(name));
      await must("ntfsclone", ["-q", "-O", join(dir, "plain"), image]);
      await must("ntfsclone", ["-q", "-s", "-O", join(dir, "special"), image]);
      for (const mode of ["--new-serial", "--new-half-serial"])
        for (const source of [[image], ["-r", join(dir, "special")]]) {
          const out = join(dir, "serial");
          const r = await imprint(["ntfsclone", "-q", mode, "-O", out, ...source]);
          t.is(r.code, 0, r.stdout.toString());
          const serial = /New serial number {6}: 0x([0-9a-f]+)\n/.exec(r.stdout.toString())![1];
          const cmp = (await run("cmp", ["-l", out, join(dir, "plain")])).stdout.toString();
          const places = cmp
            .trim()
            .split("\n")
            .map((l) => Number(l.trim().split(/\s+/)[0]) - 1);
          const width = mode === "--new-serial" ? 8 : 4;
          const bytes = readFileSync(out);
          t.is(bytes.readBigUInt64LE(72).toString(16), serial);
          const backup = Number(bytes.readBigUInt64LE(40)) * bytes.readUInt16LE(11) + 72;
          t.is(bytes.readBigUInt64LE(backup).toString(16), serial, `${name}: backup`);
          const allowed = new Set(
            [72, backup].flatMap((at) => Array.from({ length: width }, (_, i) => at + 8 - width + i)),
          );
          t.true(
            places.every((p) => allowed.has(p)),
            `${name} ${mode}: ${places}`,
          );
        }
    }
  }));

test("to a FIFO, over existing files, and to a loop device", (t) =>
  inScratch("ntfsclone-targets", async (dir) => {
    const image = await ntfsShapeImage(ntfsShapeNamed("c1k"));
    await must("ntfsclone", ["-q", "-s", "-O", join(dir, "special"), image]);
    await must("ntfsclone", ["-q", "-O", join(dir, "clone"), image]);
    await must("mkfifo", [join(dir, "fifo")]);
    const reader = run("cmp", [join(dir, "fifo"), join(dir, "special")]);
    t.is((await imprint(["ntfsclone", "-q", "-s", "-O", join(dir, "fifo"), image])).code, 0);
    t.is((await reader).code, 0);
    // A FIFO takes no clone, as natively.
    const fifo = await both(dir, ["-O", join(dir, "fifo"), image]);
    t.is(fifo.ours.messages, fifo.native.messages);
    // Longer contents of a file that existed are gone.
    writeFileSync(join(dir, "old"), Buffer.alloc(64 << 20, 7));
    t.is((await imprint(["ntfsclone", "-q", "-O", join(dir, "old"), image])).code, 0);
    t.is(fileDifference(join(dir, "old"), join(dir, "clone")), null);
    // A device keeps what is not in use.
    const device = async (size: number, job: (path: string, file: string) => Promise<void>) => {
      const file = join(dir, "disk");
      writeFileSync(file, Buffer.alloc(size, 0x55));
      const path = (await must("losetup", ["-f", "--show", file])).stdout.toString().trim();
      try {
        await job(path, file);
      } finally {
        await must("losetup", ["-d", path]);
      }
    };
    const size = statSync(image).size;
    const contents: Buffer[] = [];
    for (const program of ["native", "ours"])
      for (const source of [[image], ["-r", join(dir, "special")]])
        await device(size + 65536, async (path, file) => {
          const args = ["-q", "-O", path, ...source];
          const r = program === "ours" ? await imprint(["ntfsclone", ...args]) : await run("ntfsclone", args);
          t.is(r.code, 0, r.stdout.toString());
          await must("sync", [file]);
          contents.push(readFileSync(file));
        });
    for (const c of contents) t.true(c.equals(contents[0]));
    await device(1 << 20, async (path) => {
      const r = await both(dir, ["-O", path, image]);
      t.is(r.ours.code, 1);
      t.is(r.ours.messages, r.native.messages);
    });
    // And as the source; a device is cloned like a file.
    await device(size, async (path, file) => {
      copyFileSync(image, file);
      await must("blockdev", ["--flushbufs", path]);
      t.is((await imprint(["ntfsclone", "-q", "-O", join(dir, "of-device"), path])).code, 0);
      t.is(fileDifference(join(dir, "of-device"), join(dir, "clone")), null);
    });
  }));
