import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { run as bitmap } from "../../cli/native/qemu-img/bitmap.ts";
import { QemuError } from "../../cli/native/qemu-img/errors.ts";
import { inScratch, must, run } from "../support/native.ts";
import { PatchedImage } from "../support/qcow2-patch.ts";
import { inShare } from "../support/share.ts";

const BITMAPS = 0x23852875;

/** Ours, in this process: exit code and what goes to standard error. */
async function ours(...args: string[]): Promise<string> {
  try {
    return `${await bitmap("qemu-img", args)}\n`;
  } catch (error) {
    if (!(error instanceof QemuError)) throw error;
    return masked(`${error.exitCode}\nqemu-img: ${error.message}\n`);
  }
}

async function native(...args: string[]): Promise<string> {
  const r = await run("qemu-img", ["bitmap", ...args]);
  return masked(`${r.code}\n${r.stdout.toString("latin1")}${r.stderr}`);
}

/** Node names are numbered anew each time; the file is A or B. */
const masked = (s: string): string =>
  s
    .replace(/#block\d+/g, "#block")
    .replace(/^WARNING: Image format[^"]*?restrictions\.\n/m, "")
    .replace(/image\.(ours|native)/g, "image");

interface BitmapInfo {
  readonly name: string;
  readonly granularity: number;
  readonly flags: readonly string[];
}

async function list(path: string): Promise<BitmapInfo[]> {
  const r = await must("qemu-img", ["info", "--output=json", path]);
  const info = JSON.parse(r.stdout.toString()) as {
    "format-specific": { data: { bitmaps?: BitmapInfo[] } };
  };
  return info["format-specific"].data.bitmaps ?? [];
}

/** The bits of every bitmap, read from the image itself. */
function contents(path: string): Record<string, string> {
  const p = new PatchedImage(readFileSync(path));
  const result: Record<string, string> = {};
  const extension = p.extension(BITMAPS);
  if (extension < 0) return result;
  let at = Number(p.u64(extension + 16));
  for (let i = 0; i < p.u32(extension); i++) {
    const table = Number(p.u64(at));
    const name = p.bytes.toString("utf8", at + 24, at + 24 + p.bytes.readUInt16BE(at + 18));
    const parts: string[] = [];
    for (let e = 0; e < p.u32(at + 8); e++) {
      const entry = Number(p.u64(table + e * 8));
      if (entry === 1) parts.push("ones");
      else if (entry > 1) {
        const bits = p.bytes.subarray(entry, entry + p.clusterSize);
        if (bits.some((b) => b !== 0)) parts.push(`${e}:${bits.toString("base64")}`);
      }
    }
    result[name] = parts.join(",");
    at += Math.ceil((24 + name.length) / 8) * 8;
  }
  return result;
}

const SHAPES = [
  ["cluster_size=512", "3M"],
  ["cluster_size=4k,extended_l2=off", "1000000"],
  ["cluster_size=2M", "30M"],
  ["cluster_size=16k,extended_l2=on", "64M"],
] as const;

/** One after the other on the same image; IMAGE and OTHER stand for the files. */
const STEPS: readonly (readonly string[])[] = [
  ["--add", "IMAGE", "a"],
  ["--add", "IMAGE", "a"],
  ["--add", "-g", "512", "IMAGE", "fine"],
  ["--add", "--disable", "-g", "1M", "IMAGE", "coarse"],
  ["--add", "-g", "0", "IMAGE", "zero"],
  ["--add", "-g", "100", "IMAGE", "b"],
  ["--add", "-g", "3k", "IMAGE", "b"],
  ["--add", "-g", "4G", "IMAGE", "b"],
  ["--add", "-g", "2G", "IMAGE", "large"],
  ["--add", "-g", "x", "IMAGE", "b"],
  ["--add", "IMAGE", ""],
  ["--add", "IMAGE", "x".repeat(1024)],
  ["--add", "IMAGE", "y".repeat(1023)],
  ["--remove", "IMAGE", "none"],
  ["--clear", "IMAGE", "none"],
  ["--enable", "IMAGE", "none"],
  ["--merge", "none", "IMAGE", "a"],
  ["--merge", "a", "IMAGE", "none"],
  ["--merge", "a", "IMAGE", "a"],
  ["WRITE", "0 100k", "700k 3k", "900000 1000"],
  ["--merge", "fine", "IMAGE", "coarse"],
  ["--merge", "a", "--merge", "coarse", "IMAGE", "fine"],
  ["--disable", "IMAGE", "fine"],
  ["WRITE", "200k 1k"],
  ["--add", "--merge", "fine", "--merge", "a", "-g", "4k", "IMAGE", "sum"],
  ["--enable", "IMAGE", "coarse"],
  ["--clear", "IMAGE", "fine"],
  ["-b", "OTHER", "-F", "qcow2", "--merge", "theirs", "IMAGE", "fine"],
  ["-b", "OTHER", "--merge", "none", "IMAGE", "fine"],
  ["-b", "OTHER", "--add", "IMAGE", "c"],
  ["-F", "qcow2", "--add", "IMAGE", "c"],
  ["-g", "512", "--remove", "IMAGE", "a"],
  ["--remove", "--add", "IMAGE", "a"],
  ["--add", "--clear", "--merge", "none", "IMAGE", "half"],
  ["--image-opts", "--add", "driver=qcow2,file.filename=IMAGE", "options"],
  ["--image-opts", "-f", "qcow2", "--add", "IMAGE", "c"],
  ["IMAGE", "a"],
  ["--add", "IMAGE"],
  ["--add", "IMAGE", "a", "b"],
  ["--nothing"],
  ["-f", "raw", "--add", "IMAGE", "a"],
  ["-f", "raw", "--clear", "IMAGE", "a"],
  ["--remove", "IMAGE", "sum"],
  ["--remove", "IMAGE", "large"],
];

test("bitmap does what native does: exit codes, texts, lists, bits; images stay clean", async (t) => {
  await inScratch("bitmap", async (dir) => {
    for (const [n, [options, size]] of SHAPES.entries()) {
      const a = join(dir, `${n}.image.ours`);
      const b = join(dir, `${n}.image.native`);
      const other = join(dir, `${n}.other`);
      await must("qemu-img", ["create", "-q", "-f", "qcow2", "-o", options, a, size]);
      await must("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=1k", other, size]);
      await must("qemu-img", ["bitmap", "--add", "-g", "2k", other, "theirs"]);
      await must("qemu-io", ["-c", "write 11k 70k", "-c", "write 800k 1k", other]);
      copyFileSync(a, b);
      for (const [i, step] of STEPS.entries()) {
        if (step[0] === "WRITE") {
          // qemu itself records the writes, in the bitmaps as they were stored.
          for (const path of [a, b])
            await must("qemu-io", [path, ...step.slice(1).flatMap((w) => ["-c", `write ${w}`])]);
          continue;
        }
        const on = (path: string): string[] =>
          step.map((word) => word.replace("IMAGE", path).replace("OTHER", other));
        const name = `${options}: ${step.join(" ").slice(0, 80)}`;
        t.is(await ours(...on(a)), await native(...on(b)), name);
        t.deepEqual(contents(a), contents(b), name);
        if (!inShare(i + n, 5) && i < STEPS.length - 1) continue;
        t.deepEqual(await list(a), await list(b), name);
        const clean = await run("qemu-img", ["check", a]);
        t.is(clean.code, 0, `${name}\n${clean.stderr}`);
      }
    }
  });
});

test("bitmap refuses what native refuses: version 2, raw, missing, other sizes, bitmaps that are in use", async (t) => {
  await inScratch("bitmap-refused", async (dir) => {
    const old = join(dir, "old");
    const raw = join(dir, "raw");
    const small = join(dir, "small");
    const wide = join(dir, "wide");
    const huge = join(dir, "huge");
    await must("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "compat=0.10", old, "1M"]);
    writeFileSync(raw, new Uint8Array(1 << 20));
    for (const [path, size] of [
      [small, "1M"],
      [wide, "2M"],
    ]) {
      await must("qemu-img", ["create", "-q", "-f", "qcow2", path, size]);
      await must("qemu-img", ["bitmap", "--add", path, "x"]);
      await must("qemu-img", ["bitmap", "--add", path, "y"]);
    }
    await must("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", huge, "100T"]);
    const used = join(dir, "used");
    const p = new PatchedImage(readFileSync(small));
    const directory = Number(p.u64(p.extension(BITMAPS) + 16));
    p.put32(directory + 12, p.u32(directory + 12) | 1);
    writeFileSync(used, p.bytes);
    // Natively the bitmap is lost, with a warning and exit code 0.
    const empty = join(dir, "empty");
    await must("qemu-img", ["create", "-q", "-f", "qcow2", empty, "0"]);
    t.regex(await ours("--add", empty, "x"), /nothing to track/);
    await must("qemu-img", ["info", empty]);
    const cases = [
      ["--add", old, "x"],
      ["--add", raw, "x"],
      ["--add", join(dir, "missing"), "x"],
      ["-b", join(dir, "missing"), "--merge", "x", small, "x"],
      ["-b", raw, "-F", "raw", "--merge", "x", small, "x"],
      ["-b", wide, "--merge", "x", small, "x"],
      ["-b", used, "--merge", "x", small, "x"],
      ["--add", "-g", "512", huge, "x"],
      ["--add", used, "x"],
      ["--clear", used, "x"],
      ["--enable", used, "x"],
      ["--disable", used, "x"],
      ["--merge", "x", used, "y"],
      ["--merge", "y", used, "x"],
      ["--merge", "none", used, "x"],
      ["--merge", "none", used, "none2"],
      ["--remove", used, "x"],
    ];
    for (const args of cases) {
      const kept = new Map([small, used].map((f) => [f, readFileSync(f)]));
      const want = await native(...args);
      for (const [f, bytes] of kept) writeFileSync(f, bytes);
      t.is(await ours(...args), want, args.join(" "));
    }
    t.deepEqual(await list(used), [{ flags: ["auto"], name: "y", granularity: 65536 }]);
    t.is((await run("qemu-img", ["check", used])).code, 0);
  });
});
