import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { runHere } from "../support/in-process.ts";
import { fileDifference, inScratch } from "../support/native.ts";
import { QemuPair } from "../support/qemu-pair.ts";

test("words, exit codes and the bytes of what is written", async (t) => {
  await inScratch("dd", async (dir) => {
    const p = new QemuPair(dir);
    await p.make("truncate", "-s", "1000001", "r");
    for (const at of [0, 100000, 300001, 999000])
      await p.make("qemu-io", "-f", "raw", "-c", `write -P ${1 + (at % 200)} ${at} 1000`, "r");
    await p.make("qemu-img", "convert", "-O", "qcow2", "-c", "r", "q");
    p.copy("r", "q");
    for (const args of [
      [],
      ["if=r"],
      ["of=o"],
      ["if=r", "of=o"],
      ["if=r", "of=o", "bs=1000"],
      ["if=r", "of=o", "bs=1000", "count=10"],
      ["if=r", "of=o", "bs=1000", "count=10", "skip=3"],
      ["if=r", "of=o", "bs=0"],
      ["if=r", "of=json:"],
      ["if=r", "of=o", "bs=1X"],
      ["if=r", "of=o", "bs=3G"],
      ["if=r", "of=o", "count=-1"],
      ["if=r", "of=o", "skip=x"],
      ["if=r", "of=o", "foo=x"],
      ["if=r", "of=o", "conv=notrunc"],
      ["if=r", "of=o", "bs=64k", "skip=100"],
      ["if=r", "of=o", "bs=64k", "skip=100", "count=5"],
      ["if=none", "of=o"],
      ["-f", "qcow2", "if=r", "of=o"],
      ["-O", "qcow2", "if=r", "of=o"],
      ["-O", "qcow2", "if=r", "of=o", "bs=513", "count=3"],
      ["-O", "qcow2", "if=r", "of=o", "bs=70000"],
      ["-O", "qcow2", "if=q", "of=o", "bs=3M"],
      ["-O", "qcow2", "if=r", "of=o", "bs=100000", "skip=3"],
      ["-O", "qcow2", "if=r", "of=o", "skip=1000000"],
      ["-O", "foo", "if=r", "of=o"],
      ["if=q", "of=o"],
      ["-f", "raw", "if=q", "of=o"],
      ["-U", "if=q", "of=o", "count=1"],
      ["--image-opts", "if=driver=qcow2,file.filename=q", "of=o"],
      ["--image-opts", "-f", "qcow2", "if=q", "of=o"],
      ["if=r", "of=/nonexist/o"],
      ["if=r", "if=q", "of=o"],
      ["if=r", "of=o", "bs=2147483647"],
      ["if=r", "of=o", "bs=1k", "bs=2k", "count=1", "count=3"],
      ["if=r", "of=o", "count=0"],
      ["if=r", "of=o", "bs=1k", "skip=976"],
      ["if=r", "of=o", "bs=1k", "skip=977"],
      ["if=r", "of=o", "bs=1k", "skip=978"],
      ["if=r", "of=o", "bs=1k", "skip=2", "count=1"],
      ["-n"],
      ["r", "o"],
    ]) {
      await p.same(t, "dd", ...args);
      const [a, b] = [join(p.native, "o"), join(p.ours, "o")];
      t.is(existsSync(b), existsSync(a), args.join(" "));
      if (existsSync(a) && existsSync(b)) t.is(fileDifference(a, b), null, args.join(" "));
      for (const f of [a, b]) rmSync(f, { force: true });
    }
    // Native destroys its input here.
    t.is((await runHere(["qemu-img", "dd", "if=r", "of=./r"], p.ours)).code, 1);
    t.is(fileDifference(join(p.native, "r"), join(p.ours, "r")), null);
  });
});
