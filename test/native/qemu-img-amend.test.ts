import test from "ava";
import { inScratch } from "../support/native.ts";
import { QemuPair } from "../support/qemu-pair.ts";

test("words, streams and exit codes", async (t) => {
  await inScratch("amend-words", async (dir) => {
    const p = new QemuPair(dir);
    await p.make("qemu-img", "create", "-q", "-f", "qcow2", "h.qcow2", "10M");
    await p.make("qemu-img", "create", "-q", "-f", "raw", "r.raw", "1M");
    await p.make("qemu-img", "create", "-q", "-f", "qcow2", "-b", "r.raw", "-F", "raw", "o.qcow2");
    await p.make("qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", "x.qcow2", "1M");
    await p.make("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=d.raw", "d.qcow2", "1M");
    await p.make("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compression_type=zstd", "z.qcow2", "1M");
    p.copy("h.qcow2", "r.raw", "o.qcow2", "x.qcow2", "d.qcow2", "d.raw", "z.qcow2");
    for (const args of [
      [],
      ["h.qcow2"],
      ["-o", "help", "h.qcow2"],
      ["-o", "help"],
      ["-f", "qcow2", "-o", "help"],
      ["-f", "raw", "-o", "help", "r.raw"],
      ["-o", "size=2M", "r.raw"],
      ["-t", "foo", "-o", "compat=v3", "h.qcow2"],
      ["-o", "size=20M", "none"],
      ["-o", "size=20M", "a", "b"],
      ["-o", "backing_file=r.raw", "o.qcow2"],
      ["-o", "backing_file=r.raw,backing_fmt=raw", "o.qcow2"],
      ["-o", "compat=0.10", "x.qcow2"],
      ["-o", "compat=0.10", "d.qcow2"],
      ["-o", "compat=0.10", "z.qcow2"],
    ])
      await p.same(t, "amend", ...args);
    for (const o of [
      ..."x=1 cluster_size=512 compat=0.10 compat=1.1 compat=foo compat= refcount_bits=8 refcount_bits=3".split(
        " ",
      ),
      ..."refcount_bits=x refcount_bits=16 lazy_refcounts=on compat=0.10,lazy_refcounts=on lazy_refcounts=on".split(
        " ",
      ),
      ..."refcount_bits=8 size=20M size=5M size=1000 backing_file=x backing_fmt=raw data_file=x".split(" "),
      ..."data_file_raw=on data_file_raw=off encryption=on encrypt.format=luks preallocation=full , size=".split(
        " ",
      ),
      ..."size=11M,bad=1 encrypt.new-secret=s compat=1.1,refcount_bits=1,size=7M".split(" "),
    ]) {
      // With both an upgrade and another width native's percents differ in the last digit.
      await p.same(t, "amend", ...(o.includes("compat=1.1,") ? [] : ["-p"]), "-o", o, "h.qcow2");
    }
    await p.sameImage(t, "h.qcow2", "end");
    await p.sameImage(t, "z.qcow2", "end");
  });
});

for (const options of ["", "cluster_size=512", "compression_type=zstd"])
  test(`there and back: ${options || "default"}`, async (t) => {
    await inScratch("amend-jobs", async (dir) => {
      const p = new QemuPair(dir);
      const o = options === "" ? [] : ["-o", options];
      await p.make("qemu-img", "create", "-q", "-f", "raw", "base", "900k");
      await p.make("qemu-io", "-f", "raw", "-c", "write -P 9 0 900k", "base");
      for (const [name, below] of [
        ["o.qcow2", ["-b", "base", "-F", "raw"]],
        ["a.qcow2", []],
      ] as const) {
        await p.make("qemu-img", "create", "-q", "-f", "qcow2", ...o, ...below, name, "1M");
        await p.make("qemu-io", "-c", "write -P 1 0 300k", "-c", "write -z 100k 100k", name);
        await p.make("qemu-img", "snapshot", "-c", "one", name);
        await p.make("qemu-io", "-c", "write -z 400k 200k", "-c", "write -P 3 0 10k", name);
        await p.make("qemu-img", "snapshot", "-c", "two", name);
        p.copy("base", name);
        // Native takes half a minute for wide refcounts of large clusters.
        const widths = options.includes("512")
          ? ["compat=1.1,refcount_bits=2,lazy_refcounts=on", "refcount_bits=1", "refcount_bits=64"]
          : ["compat=1.1,refcount_bits=8"];
        for (const change of ["compat=0.10", ...widths, "compat=0.10,refcount_bits=16"]) {
          await p.same(t, "amend", "-o", change, name);
          await p.sameImage(t, name, `${name}: ${change}`);
        }
      }
    });
  });
