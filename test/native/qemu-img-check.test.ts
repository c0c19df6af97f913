import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { check } from "../../cli/native/qemu-img/check.ts";
import { QemuError } from "../../cli/native/qemu-img/errors.ts";
import { inScratch, limiter, type Outcome, run } from "../support/native.ts";
import { DAMAGES, type Damage, damaged, undamaged } from "../support/qcow2-damage.ts";

/** Ours, in this process: what the command prints, and its exit code. */
async function ours(...args: string[]): Promise<string> {
  let out = "";
  let err = "";
  let code: number;
  try {
    code = await check(args, {
      out: (t) => {
        out += t;
      },
      err: (t) => {
        err += t;
      },
    });
  } catch (error) {
    if (!(error instanceof QemuError)) throw error;
    code = error.exitCode;
    err += `qemu-img: ${error.message}\n`;
  }
  return `${code}\n${out}${err.slice(0, MOST)}`;
}

/** Of standard error, what is compared. */
const MOST = 1 << 20;
const text = (r: Outcome): string => `${r.code}\n${r.stdout.toString("latin1")}${r.stderr.slice(0, MOST)}`;

/** The first lines where two texts differ, or null. */
function firstDifference(got: string, want: string): string | null {
  if (got === want) return null;
  const a = got.split("\n");
  const b = want.split("\n");
  const i = a.findIndex((line, n) => line !== b[n]);
  const from = Math.max(0, i - 1);
  return `line ${i}, ours:\n${a.slice(from, i + 4).join("\n")}\n--- native:\n${b.slice(from, i + 4).join("\n")}`;
}

async function native(...args: string[]): Promise<string> {
  return text(await run("qemu-img", ["check", ...args]));
}

/** Opening prints this warning directly. */
const WARNING = /qemu-img: warning: a program lacking bitmap support.*\n.* to fix\./g;

test("check finds what native finds in images damaged by hand: texts, order, exit codes", async (t) => {
  await inScratch("check", async (dir) => {
    const bases = await undamaged(dir);
    const gate = limiter(2);
    await Promise.all(
      DAMAGES.map((damage, i) =>
        gate(async () => {
          const path = join(dir, `${i}.qcow2`);
          writeFileSync(path, damaged(bases, damage));
          const args = i % 3 === 0 ? ["--output=json", path] : i % 7 === 0 ? ["-q", path] : [path];
          const want = (await native(...args)).replace(WARNING, "");
          t.is(firstDifference(await ours(...args), want), null, damage.name);
        }),
      ),
    );
  });
});

/**
 * Where ours repairs what native gives up on, or leaves bitmaps alone that native writes anew: see docs/DIFFERENCES.md.
 */
const BETTER = new Set([
  "table: reserved bits",
  "table: misaligned",
  "table: more clusters than there are",
  "bitmaps: table past the end",
  "bitmaps: table entry past the end",
]);
const elsewhere = (base: string, s: string): string =>
  base === "bitmap" ? s.replace(/Image end offset: \d+/, "") : s;

async function repairs(path: string, damage: Damage, bytes: Uint8Array, mode: string): Promise<string[]> {
  const other = `${path}.native`;
  writeFileSync(path, bytes);
  const wanted = (await native("-r", mode, path)).replace(WARNING, "");
  const wantedAfter = elsewhere(damage.base, await native(path));
  copyFileSync(path, other);
  writeFileSync(path, bytes);
  const got = await ours("-r", mode, path);
  const gotAfter = elsewhere(damage.base, await native(path));
  const trouble: string[] = [];
  const name = `-r ${mode}, ${damage.name}`;
  if (BETTER.has(damage.name)) {
    const worse = Number(gotAfter.slice(0, 2)) !== 0 && Number(wantedAfter.slice(0, 2)) === 0;
    if (worse && damage.base !== "bitmap") trouble.push(`${name}: native repairs it\n${gotAfter}`);
  } else {
    // Where native marks the image corrupt and stops, it forgets what it has repaired.
    const stopped = wanted.startsWith("1\n");
    const told = firstDifference(got, wanted);
    if (told !== null && !(stopped && damage.name === "snapshots: little extra data"))
      trouble.push(`${name}: told, ${told}`);
    if (stopped && !got.startsWith("1\n")) trouble.push(`${name}: went on\n${got}`);
    const left = firstDifference(gotAfter, wantedAfter);
    // Native allocates clusters for bitmaps, also ones in use that are stored as free.
    const reused = damage.base === "bitmap" && mode === "leaks";
    if (left !== null && !stopped && !reused) trouble.push(`${name}: left, ${left}`);
  }
  // Compared as they were: an image that native cannot read is none of ours to read.
  const same = await run("qemu-img", ["compare", path, other]);
  if (same.code === 1 && !(damage.base === "bitmap" && mode === "leaks"))
    trouble.push(`${name}: content\n${text(same)}`);
  return trouble;
}

test("check -r leaks and -r all tell and leave what native tells and leaves", async (t) => {
  await inScratch("repair", async (dir) => {
    const bases = await undamaged(dir);
    const gate = limiter(2);
    const all = await Promise.all(
      DAMAGES.flatMap((damage, i) =>
        // One mode each, both for some: the first ones are the same damages in other shapes.
        (i % 5 === 0 ? ["all", "leaks"] : i % 2 === 0 && i < 43 ? ["leaks"] : ["all"]).map((mode) =>
          gate(() => repairs(join(dir, `${i}.${mode}.qcow2`), damage, damaged(bases, damage), mode)),
        ),
      ),
    );
    t.deepEqual(all.flat(), []);
  });
});

test("check of what cannot be checked: arguments, raw files, missing files", async (t) => {
  await inScratch("check-args", async (dir) => {
    const raw = join(dir, "raw");
    writeFileSync(raw, new Uint8Array(100_000));
    const image = join(dir, "image");
    await run("qemu-img", ["create", "-q", "-f", "qcow2", image, "3M"]);
    const cases = [
      [raw],
      ["-f", "raw", raw],
      ["--output=json", raw],
      ["-r", "all", "-f", "raw", raw],
      [join(dir, "missing")],
      ["-r", "leaks", join(dir, "missing")],
      [],
      [image, raw],
      ["-r", "some", image],
      ["-T", "fast", image],
      ["-T", "none", image],
      ["--output=xml", image],
      ["-f", "nothing", image],
      ["-q", image],
      ["-r", "all", image],
      ["-r", "leaks", "--output=json", image],
      ["--image-opts", `driver=qcow2,file.filename=${image}`],
      ["-U", image],
      ["-x", image],
    ];
    for (const args of cases) t.is(await ours(...args), await native(...args), args.join(" "));
  });
});
