// Our command line, killed for real (SIGKILL) at random moments while it changes images: what is left is as before or
// as after, and qemu-img check finds nothing worse than leaks.
import { spawn } from "node:child_process";
import { createHash, randomFillSync } from "node:crypto";
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { cli, inScratch, must, run } from "../support/native.ts";
import { Random } from "../support/random.ts";

const MIB = 1024 * 1024;

/** A change to the image `disk` in the working folder (or to what lies under it). */
const JOBS: readonly string[] = [
  "snapshot -c new disk",
  "snapshot -d old disk",
  "snapshot -a old disk",
  "resize --preallocation=metadata disk 24M",
  "resize --shrink disk 4M",
  "amend -o refcount_bits=64 disk",
  "commit disk",
  "rebase -b other -F raw disk",
  "check -r all leaky",
  "convert -O qcow2 -o cluster_size=512 disk out",
  "create -f qcow2 -o cluster_size=512,preallocation=metadata out 16M",
];
const IMAGES = ["disk", "base", "leaky", "out"];
const KILLS = 3;

/** An image of 512-byte clusters and 16-bit refcounts, with clusters behind its end that nothing refers to. */
function withLeaks(image: Buffer): Buffer {
  const clusters = Math.ceil(image.length / 512);
  const longer = Buffer.concat([image, Buffer.alloc(clusters * 512 - image.length + 200 * 512)]);
  const table = Number(image.readBigUInt64BE(48));
  for (let c = clusters; c < clusters + 200; c++) {
    const block = Number(longer.readBigUInt64BE(table + 8 * Math.floor(c / 256)));
    if (block !== 0) longer.writeUInt16BE(1, block + 2 * (c % 256));
  }
  return longer;
}

/** What a reader sees of the images that there are, and how `check` ends for each. */
async function state(dir: string): Promise<{ disks: string; worst: number }> {
  const disks: string[] = [];
  let worst = 0;
  for (const name of IMAGES) {
    if (!existsSync(join(dir, name))) continue;
    const check = await run("qemu-img", ["check", "-q", name], { cwd: dir });
    // Leaks are all that a kill may leave.
    worst = Math.max(worst, check.code === 3 ? 0 : (check.code ?? 99));
    if (name === "base") continue;
    const r = await run("qemu-img", ["convert", "-O", "raw", name, "raw"], { cwd: dir });
    const snapshots = await run("qemu-img", ["snapshot", "-l", name], { cwd: dir });
    const list = snapshots.stdout.toString().replace(/\d{4}-.*/g, "");
    const bytes =
      r.code === 0
        ? createHash("md5")
            .update(readFileSync(join(dir, "raw")))
            .digest("hex")
        : r.stderr;
    disks.push(`${name} ${bytes} ${list}`);
  }
  return { disks: disks.join("\n"), worst };
}

/** Runs our command line; kills it after `delay` milliseconds where that is not null. True where it came to its end. */
function attempt(dir: string, args: readonly string[], delay: number | null): Promise<boolean> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [cli, "qemu-img", ...args], { cwd: dir, stdio: "ignore" });
    const timer = delay === null ? null : setTimeout(() => child.kill("SIGKILL"), delay);
    child.on("error", fail);
    child.on("close", (code) => {
      if (timer !== null) clearTimeout(timer);
      done(code !== null);
    });
  });
}

test("killed at any moment, a change is there or it is not", async (t) => {
  await inScratch("sigkill", async (dir) => {
    const random = new Random(5);
    const raw = randomFillSync(new Uint8Array(3 * MIB));
    writeFileSync(join(dir, "raw0"), raw);
    for (let i = 0; i < 40; i++) randomFillSync(raw, random.below(raw.length - 30_000), 30_000);
    writeFileSync(join(dir, "other"), raw);
    const qemu = (...args: string[]) => must("qemu-img", args, { cwd: dir });
    await qemu("convert", "-O", "qcow2", "-o", "cluster_size=512", "raw0", "base0");
    await qemu(
      "create",
      "-q",
      "-f",
      "qcow2",
      "-o",
      "cluster_size=512",
      "-b",
      "base",
      "-F",
      "qcow2",
      "-u",
      "disk0",
      "8M",
    );
    copyFileSync(join(dir, "base0"), join(dir, "base"));
    const write = (from: number) =>
      must(
        "qemu-io",
        [
          "-f",
          "qcow2",
          "-c",
          `write -P ${from + 1} ${from}M 1M`,
          "-c",
          `write -P 77 7M ${512 * (from + 1)}`,
          "disk0",
        ],
        { cwd: dir },
      );
    await write(0);
    await qemu("snapshot", "-c", "old", "disk0");
    await write(1);
    writeFileSync(join(dir, "leaky0"), withLeaks(readFileSync(join(dir, "base0"))));
    t.is((await run("qemu-img", ["check", "leaky0"], { cwd: dir })).code, 3);
    const fresh = (): void => {
      for (const name of ["disk", "base", "leaky"]) copyFileSync(join(dir, `${name}0`), join(dir, name));
      rmSync(join(dir, "out"), { force: true });
    };
    let cut = 0;
    for (const job of JOBS) {
      const args = job.split(" ");
      fresh();
      const before = await state(dir);
      const begun = performance.now();
      await attempt(dir, args, null);
      const whole = performance.now() - begun;
      const after = await state(dir);
      t.is(after.worst, 0, job);
      for (let i = 0; i < KILLS; i++) {
        fresh();
        // Starting takes the first part of the time.
        if (!(await attempt(dir, args, whole * (0.3 + 0.65 * (random.below(1000) / 1000))))) cut++;
        const now = await state(dir);
        t.is(now.worst, 0, `${job}: qemu-img check`);
        t.true(
          now.disks === before.disks || now.disks === after.disks,
          `${job}: neither as before nor as after`,
        );
      }
    }
    t.true(cut >= JOBS.length, `${cut} runs were killed`);
  });
});
