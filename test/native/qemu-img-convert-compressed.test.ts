// qemu-img convert -c and pipes: the bytes of qemu-img with the identical deflate, equal contents otherwise.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import test from "ava";
import { run as qemuImg } from "../../cli/native/qemu-img.ts";
import { layoutOptions, makeSource, SOURCE_KINDS, sparseFile } from "../support/convert-sources.ts";
import { cli, fileDifference, imprint, inScratch, must, run } from "../support/native.ts";
import { Random } from "../support/random.ts";

const command = `${process.execPath} ${cli} qemu-img`;
const shell = (text: string, cwd: string) => promisify(execFile)("sh", ["-c", text], { cwd });

test("-c with the identical deflate: the bytes of qemu-img", (t) =>
  inScratch("convert-c", async (dir) => {
    for (let i = 0; i < 16; i++) {
      const random = new Random(500 + i);
      const kind = SOURCE_KINDS[i % SOURCE_KINDS.length];
      const source = await makeSource(random, kind, join(dir, "s"), random.below(1_500_000), true);
      const args = ["-c", "-O", "qcow2", "-o", layoutOptions(random)];
      if (i % 5 === 4) args.push("-S", "0");
      if (i % 4 === 3) {
        sparseFile(random, join(dir, "base"), 512 * (1 + random.below(4000)), 4096, 50);
        args.push("-B", join(dir, "base"), "-F", "raw");
      }
      const [native, ours] = [join(dir, "native"), join(dir, "ours")];
      await must("qemu-img", ["convert", ...args, source, native]);
      t.is(await qemuImg("qemu-img", ["convert", "--identical-deflate", ...args, source, ours]), 0);
      t.is(fileDifference(ours, native), null, `${i}, ${kind}: ${args.join(" ")}`);
      for (const name of readdirSync(dir)) rmSync(join(dir, name));
    }
  }));

test("-c as fast as it goes, deflate and zstd: clean images of the same content", (t) =>
  inScratch("convert-c", async (dir) => {
    for (let i = 0; i < 8; i++) {
      const random = new Random(900 + i);
      const source = await makeSource(
        random,
        SOURCE_KINDS[i],
        join(dir, "s"),
        200_000 + random.below(2_000_000),
        true,
      );
      const zstd = i % 2 === 0;
      const options = zstd
        ? `compression_type=zstd,cluster_size=${2 ** (9 + ((i * 5) % 13))}`
        : layoutOptions(random);
      const ours = join(dir, "ours");
      t.is(await qemuImg("qemu-img", ["convert", "-c", "-O", "qcow2", "-o", options, source, ours]), 0);
      await must("qemu-img", ["check", "-q", ours]);
      const compared = await run("qemu-img", ["compare", ours, source]);
      t.is(compared.code, 0, `${i}: ${options} ${compared.stdout}${compared.stderr}`);
      for (const name of readdirSync(dir)) rmSync(join(dir, name));
    }
  }));

test("from pipes and to pipes", (t) =>
  inScratch("convert-pipe", async (dir) => {
    const random = new Random(77);
    sparseFile(random, join(dir, "a"), 3_000_000, 4096, 50, true);
    for (const options of [
      "cluster_size=64k",
      "cluster_size=512,refcount_bits=64",
      "extended_l2=on",
      "compat=0.10",
    ])
      for (const more of ["", "-c", "-B a -F raw", "-S 0"]) {
        await shell(`${command} convert -O qcow2 -o ${options} ${more} a - | cat > out`, dir);
        await must("qemu-img", ["check", "-q", "out"], { cwd: dir });
        await must("qemu-img", ["compare", "-q", "a", "out"], { cwd: dir });
        t.pass();
      }
    await shell(`cat a | ${command} convert -f raw -O qcow2 - in && ${command} convert -O qcow2 a file`, dir);
    t.is(fileDifference(join(dir, "in"), join(dir, "file")), null);
    await shell(`cat in | ${command} convert -f qcow2 -O raw - /dev/stdout | cat > raw`, dir);
    await must("qemu-img", ["compare", "-q", "raw", "a"], { cwd: dir });
    await shell(`mkfifo p; cat in > p & ${command} convert -f qcow2 -O raw p raw2`, dir);
    t.is(fileDifference(join(dir, "raw"), join(dir, "raw2")), null);
  }));

test("what is stopped or damaged leaves nothing behind, and what was there stays", (t) =>
  inScratch("convert-stop", async (dir) => {
    const random = new Random(5);
    sparseFile(random, join(dir, "a"), 6_000_000, 65536, 90);
    writeFileSync(join(dir, "out"), "mine");
    for (const more of [
      ["-r", "200k"],
      ["-c", "-r", "200k"],
    ]) {
      // The rate keeps it busy for half a minute: it is stopped long before.
      const child = spawn(
        process.execPath,
        [cli, "qemu-img", "convert", "-O", "qcow2", ...more, "a", "out"],
        {
          cwd: dir,
          stdio: "ignore",
        },
      );
      const ended = once(child, "exit");
      while (readdirSync(dir).length < 3) await new Promise((done) => setTimeout(done, 50));
      child.kill("SIGINT");
      t.deepEqual(await ended, [130, null]);
      t.deepEqual(readdirSync(dir).sort(), ["a", "out"]);
      t.is((await run("cat", ["out"], { cwd: dir })).stdout.toString(), "mine");
    }
    await must("qemu-img", ["convert", "-O", "qcow2", "a", "q"], { cwd: dir });
    await must("truncate", ["-s", "3000000", "q"], { cwd: dir });
    for (const args of [
      ["-O", "raw"],
      ["-c", "-O", "qcow2"],
      ["-O", "qcow2", "-S", "0"],
    ]) {
      const r = await imprint(["qemu-img", "convert", ...args, "q", "out"], { cwd: dir });
      t.is(r.code, 1);
      t.regex(r.stderr, /file ends at/);
      t.deepEqual(readdirSync(dir).sort(), ["a", "out", "q"]);
    }
    const saved = await imprint(["qemu-img", "convert", "--salvage", "-O", "raw", "q", "r"], { cwd: dir });
    t.is(saved.code, 0);
    await must("qemu-img", ["convert", "-O", "raw", "q", "native"], { cwd: dir });
    t.is(fileDifference(join(dir, "r"), join(dir, "native")), null);
  }));
