import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { type CommitBase, commitLayers } from "../../src/engine/commit.ts";
import { rebaseImage } from "../../src/engine/rebase.ts";
import { openEditor } from "../../src/image/qcow2/edit/editor.ts";
import { emptyImage } from "../../src/image/qcow2/edit/empty.ts";
import { openQcow2 } from "../../src/image/qcow2/reader.ts";
import type { DurableFile } from "../../src/io/durable.ts";
import { MemorySource } from "../../src/io/memory.ts";
import { PaddedSource } from "../../src/io/padded.ts";
import type { Source } from "../../src/io/source.ts";
import { CrashFile, Power, PowerCut } from "../support/crash-disk.ts";
import { inScratch, must, run } from "../support/native.ts";
import { makeChain } from "../support/qcow2-chain.ts";
import { QemuPair } from "../support/qemu-pair.ts";
import { Random } from "../support/random.ts";

test("words, streams and exit codes", async (t) => {
  await inScratch("commit-words", async (dir) => {
    const p = new QemuPair(dir);
    await makeChain(p.native);
    p.copy("base", "mid", "top", "other");
    for (const args of [
      [],
      ["a", "b"],
      ["-b", "none", "top"],
      ["-b", "top", "top"],
      ["other"],
      ["base"],
      ["-f", "raw", "base"],
      ["-f", "foo", "top"],
      ["-t", "foo", "top"],
      ["-r", "1X", "top"],
      ["--image-opts", "-f", "qcow2", "top"],
      ["none"],
      ["-U", "top"],
      ["-d", "-r", "100M", "top"],
      ["-q", "-p", "-b", "./base", "top"],
      ["top"],
      ["-q", "mid"],
    ])
      await p.same(t, "commit", ...args);
    for (const name of ["mid", "top"]) await p.sameImage(t, name, "the end");
  });
});

for (const options of [
  "",
  "compat=0.10,cluster_size=512",
  "extended_l2=on",
  "cluster_size=2M,refcount_bits=1",
])
  test(`the disks stay or become native's: ${options || "default"}`, async (t) => {
    await inScratch("commit-disk", async (dir) => {
      const p = new QemuPair(dir);
      for (const args of [[], ["-d"], ["-b", "base"], ["-b", "mid"]]) {
        await makeChain(p.native, { options, random: new Random(3 + args.length) });
        p.copy("base", "mid", "top");
        await must("qemu-img", ["convert", "-O", "raw", "top", "before"], { cwd: p.ours });
        await p.same(t, "commit", ...args, "top");
        const same = (a: string, b: string, format: string) =>
          must("qemu-img", ["compare", "-f", format, "-F", format === "qcow2" ? "qcow2" : "raw", a, b]);
        await must("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", "top", "before"], { cwd: p.ours });
        for (const [name, format] of [
          ["base", "raw"],
          ["mid", "qcow2"],
          ["top", "qcow2"],
        ])
          await same(join(p.native, name), join(p.ours, name), format);
        for (const name of ["mid", "top"]) {
          const check = await run("qemu-img", ["check", "-q", name], { cwd: p.ours });
          t.is(check.code, 0, `${args.join(" ")} ${name}: ${check.stderr}`);
        }
      }
    });
  });

test("bitmaps of the base record what is committed", async (t) => {
  await inScratch("commit-bitmaps", async (dir) => {
    const p = new QemuPair(dir);
    await makeChain(p.native);
    await p.make("qemu-img", "bitmap", "--add", "mid", "bits");
    await p.make("qemu-img", "bitmap", "--add", "top", "own");
    p.copy("base", "mid", "top");
    await p.same(t, "commit", "top");
    await p.sameImage(t, "mid", "commit");
    await p.sameImage(t, "top", "commit");
  });
});

const readable = (bytes: Uint8Array, label: string): Source => new MemorySource(new Uint8Array(bytes), label);

/** Runs a job on two files until an operation of either, and gives both as they are left. */
async function killed(
  images: readonly Uint8Array[],
  at: number,
  lost: boolean,
  random: Random,
  job: (files: readonly DurableFile[]) => Promise<void>,
): Promise<{ files: Uint8Array[]; operations: number }> {
  const power = new Power(at);
  const files = images.map((b, i) => new CrashFile(`image ${i}`, b, () => power));
  try {
    await job(files);
  } catch (error) {
    if (!(error instanceof PowerCut)) throw error;
    if (lost) for (const f of files) f.crash(random);
  }
  return { files: files.map((f) => new Uint8Array(f.bytes)), operations: power.operations };
}

/** Kills a job at `points` operations, and looks whether the top's disk is what it was and both images are sound. */
async function everywhere(
  t: import("ava").ExecutionContext,
  dir: string,
  names: readonly string[],
  points: number,
  job: (files: readonly DurableFile[]) => Promise<void>,
): Promise<void> {
  const images = names.map((n) => readFileSync(join(dir, n)));
  const random = new Random(9);
  await must("qemu-img", ["convert", "-O", "raw", "top", "before"], { cwd: dir });
  const { operations } = await killed(images, Number.POSITIVE_INFINITY, false, random, job);
  let tried = 0;
  for (let i = 0; i < points; i++) {
    const at = i === 0 ? operations : random.below(operations);
    const { files } = await killed(images, at, i % 2 === 1, random, job);
    for (const [k, n] of names.entries()) writeFileSync(join(dir, n), files[k]);
    const same = await run("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", "top", "before"], {
      cwd: dir,
    });
    t.is(same.code, 0, `killed at ${at} of ${operations}: ${same.stdout}${same.stderr}`);
    for (const n of names.filter((x) => x !== "base")) {
      const check = await run("qemu-img", ["check", n], { cwd: dir });
      // Leaks are the worst that may be left, and a finished job leaves none.
      const good = check.code === 0 || (check.code === 3 && i > 0);
      t.true(good, `killed at ${at} of ${operations}: ${n}: ${check.stdout}${check.stderr}`);
    }
    tried++;
  }
  t.is(tried, points);
  t.true(operations > 15, `${operations} operations`);
}

for (const into of ["base", "mid"] as const)
  test(`a commit into ${into === "base" ? "a raw" : "a QCOW2"} image that dies leaves the disk as it was`, async (t) => {
    await inScratch("commit-kill", async (dir) => {
      await makeChain(dir, { options: "cluster_size=4k" });
      if (into === "base") await must("qemu-img", ["rebase", "-b", "base", "-F", "raw", "top"], { cwd: dir });
      const under = readFileSync(join(dir, "base"));
      await everywhere(t, dir, [into, "top"], 35, async ([lower, upper]) => {
        const start = new Uint8Array(lower.size());
        lower.read(start, 0);
        const raw = readable(under, "base");
        const below =
          into === "base"
            ? readable(start, "base")
            : await openQcow2(readable(start, "mid"), () => Promise.resolve(raw));
        const top = await openEditor(upper, { backing: below });
        let base: CommitBase;
        if (into === "base") {
          lower.grow(top.size);
          base = {
            write: (bytes, at) => lower.write(bytes, at),
            writeZeros: (at, length) => lower.write(new Uint8Array(length), at),
            finish: () => lower.sync(),
          };
        } else {
          const editor = await openEditor(lower, { backing: raw });
          const { resizeImage } = await import("../../src/image/qcow2/edit/resize.ts");
          await resizeImage(editor, top.size);
          base = {
            write: (bytes, at) => editor.write(bytes, at),
            writeZeros: (at, length) => editor.writeZeros(at, length),
            finish: () => editor.commit(),
          };
        }
        await commitLayers({ top, layers: 1, base, empty: () => emptyImage(top) });
        top.close();
      });
    });
  });

test("a rebase that dies leaves the disk as it was", async (t) => {
  await inScratch("rebase-kill", async (dir) => {
    await makeChain(dir, { options: "cluster_size=4k" });
    const raw = readable(readFileSync(join(dir, "base")), "base");
    const other = readFileSync(join(dir, "other"));
    const mid = readFileSync(join(dir, "mid"));
    await everywhere(t, dir, ["top"], 35, async ([file]) => {
      const old = await openQcow2(readable(mid, "mid"), () => Promise.resolve(raw));
      const next = await openQcow2(readable(other, "other"), () => Promise.reject(new Error("no")));
      const under = new PaddedSource(old, 2560 * 1024);
      const editor = await openEditor(file, { backing: under });
      await rebaseImage({ editor, old: under, next, backingFile: "other", backingFormat: "qcow2" });
      editor.close();
    });
  });
});
