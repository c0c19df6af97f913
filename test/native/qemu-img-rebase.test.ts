import { join } from "node:path";
import test from "ava";
import { runHere } from "../support/in-process.ts";
import { inScratch, must, run } from "../support/native.ts";
import { makeChain } from "../support/qcow2-chain.ts";
import { QemuPair } from "../support/qemu-pair.ts";
import { Random } from "../support/random.ts";

test("words, streams and exit codes", async (t) => {
  await inScratch("rebase-words", async (dir) => {
    const p = new QemuPair(dir);
    await makeChain(p.native);
    p.copy("base", "mid", "top", "other");
    const to = (name: string, format: string): string[] => ["-b", name, "-F", format, "top"];
    for (const args of [
      [],
      ["top"],
      ["a", "b"],
      ["-u", "-b", "base", "top"],
      ["-b", "none", "-F", "raw", "top"],
      ["-F", "foo", "-b", "base", "top"],
      ["-u", "-F", "foo", "-b", "base", "top"],
      ["-t", "foo", ...to("base", "raw")],
      ["-T", "foo", ...to("base", "raw")],
      ["-f", "raw", "-b", "mid", "-F", "qcow2", "base"],
      ["-f", "raw", "-u", "-b", "mid", "-F", "qcow2", "base"],
      ["-b", "mid", "base"],
      ["-f", "foo", "-b", "mid", "top"],
      ["--image-opts", "-f", "qcow2", "-b", "mid", "top"],
      to("top", "qcow2"),
      ["-b", "other", "-F", "qcow2", "other"],
      ["-F", "raw", "top"],
      ["-c", ...to("base", "raw")],
      ["none", "-b", "x"],
      ["-u", "-b", "x".repeat(1024), "-F", "raw", "top"],
      to("base", "raw"),
      ["-q", "-p", ...to("mid", "qcow2")],
      ["-u", ...to("none", "raw")],
      ["-u", "-p", ...to("none", "raw")],
      ["-U", "-u", ...to("base", "raw")],
      ["-u", "top"],
      ["-u", "-b", "", "top"],
    ])
      await p.same(t, "rebase", ...args);
    await p.sameImage(t, "top", "the end");
  });
});

for (const options of [
  "",
  "compat=0.10,cluster_size=512",
  "extended_l2=on,cluster_size=2M",
  "cluster_size=4k,refcount_bits=64",
])
  test(`the disk stays: ${options || "default"}`, async (t) => {
    await inScratch("rebase-disk", async (dir) => {
      const p = new QemuPair(dir);
      const random = new Random(options.length + 7);
      await makeChain(p.native, { options, random });
      await p.make("qemu-img", "convert", "-O", "raw", "top", "before");
      for (const args of [
        ["-b", "base", "-F", "raw"],
        ["-b", ""],
        ["-b", "other", "-F", "qcow2"],
        ["-b", "long", "-F", "raw"],
        // Native takes the image's own backing file for unchanged, whatever the format: the disk changes.
        ["-b", "mid", "-F", "raw"],
      ]) {
        p.copy("base", "mid", "top", "other", "long", "before");
        const r = await runHere(["qemu-img", "rebase", ...args, "top"], p.ours);
        t.deepEqual([r.code, r.stdout, r.stderr], [0, "", ""], args.join(" "));
        await must("qemu-img", [
          "compare",
          "-f",
          "qcow2",
          "-F",
          "raw",
          join(p.ours, "top"),
          join(p.ours, "before"),
        ]);
        const check = await run("qemu-img", ["check", "-q", join(p.ours, "top")]);
        t.is(check.code, 0, `${args.join(" ")}: ${check.stderr}`);
      }
    });
  });
