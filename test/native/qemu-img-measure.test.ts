import { symlinkSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { inScratch } from "../support/native.ts";
import { QemuPair } from "../support/qemu-pair.ts";

test("words, numbers and exit codes", async (t) => {
  await inScratch("measure", async (dir) => {
    const p = new QemuPair(dir);
    const io = (file: string, ...commands: string[]) =>
      p.make("qemu-io", ...commands.flatMap((c) => ["-c", c]), file);
    const create = (...args: string[]) => p.make("qemu-img", "create", "-q", "-f", "qcow2", ...args);
    await create("a", "10M");
    await io("a", "write 0 1M", "write 5M 100k");
    await p.make("qemu-img", "snapshot", "-c", "s1", "a");
    await p.make("qemu-img", "bitmap", "--add", "a", "b1");
    await p.make("qemu-img", "bitmap", "--add", "-g", "512", "a", "another");
    await io("a", "write 7M 64k");
    await p.make("truncate", "-s", "10000001", "r");
    await p.make("qemu-io", "-f", "raw", "-c", "write 5000000 5", "r");
    await create("-b", "a", "-F", "qcow2", "over", "12M");
    await io("over", "write 1M 5k", "write -z 5M 64k", "discard 0 64k");
    await create("-o", "extended_l2=on,cluster_size=2M", "-b", "r", "-F", "raw", "ext");
    await io("ext", "write 1M 5k", "write -z 5M 64k");
    await create("-o", "preallocation=metadata", "pre", "5M");
    await io("pre", "write 1M 5k");
    await p.make(
      "qemu-img",
      "convert",
      "-c",
      "-O",
      "qcow2",
      "-o",
      "compat=0.10,cluster_size=4k",
      "a",
      "comp",
    );
    await create("huge", "1T");
    // The very same files: holes count, and copies have others.
    for (const f of ["a", "over", "ext", "pre", "comp", "huge", "r"])
      symlinkSync(join(p.native, f), join(p.ours, f));
    const q = ["-O", "qcow2"];
    const shapes = [
      [],
      ["-o", "cluster_size=512"],
      ["-o", "cluster_size=2M,extended_l2=on"],
      ["-o", "cluster_size=4k,refcount_bits=64"],
      ["-o", "compat=0.10"],
      ["-o", "preallocation=full"],
    ];
    for (const file of ["a", "r", "over", "ext", "pre", "comp", "huge"])
      for (const shape of shapes) await p.same(t, "measure", ...q, ...shape, file);
    for (const size of ["0", "511", "1000", "1G", "100G", "3T"])
      for (const shape of shapes.slice(0, size === "3T" ? 1 : 9))
        await p.same(t, "measure", ...q, ...shape, "--size", size);
    for (const args of [
      [],
      ["a"],
      ["r"],
      ["a", "b"],
      ["--output", "json", ...q, "a"],
      ["--output", "json", "r"],
      ["--output", "foo", "a"],
      ["--size", "1G"],
      ["--size", "1G", "a"],
      ["--size", "1X"],
      ["--size", "8E"],
      ["--size", "7E"],
      [...q, "--size", "7E"],
      ["-O", "foo", "a"],
      ["-O", "vmdk", "a"],
      [...q, "-l", "s1", "a"],
      [...q, "-l", "1", "a"],
      [...q, "-l", "nope", "a"],
      [...q, "-l", "snapshot.name=s1", "a"],
      ["-l", "s1", "r"],
      [...q, "-o", "cluster_size=7", "--size", "1M"],
      [...q, "-o", "foo=7", "--size", "1M"],
      [...q, "-o", "size=1M", "a"],
      [...q, "-o", "size=1M"],
      [...q, "-o", "help", "--size", "1"],
      [...q, "-o", "preallocation=foo", "a"],
      [...q, "-o", "compat=v2", "a"],
      [...q, "-o", "compat=0.10,refcount_bits=8", "a"],
      [...q, "-o", "refcount_bits=7", "--size", "1"],
      [...q, "-o", "extended_l2=on,cluster_size=4k", "--size", "1"],
      [...q, "-o", "encrypt.format=luks", "a"],
      [...q, "-o", "backing_file=x", "over"],
      ["-f", "raw", "--size", "1G"],
      ["-f", "raw", ...q, "a"],
      ["--image-opts", ...q, "driver=qcow2,file.filename=a"],
      ["--image-opts", "--size", "1G"],
      ["-f", "qcow2", "--image-opts", "a"],
      ["-U", "a"],
      ["none"],
      ["-f", "foo", "a"],
    ])
      await p.same(t, "measure", ...args);
  });
});
