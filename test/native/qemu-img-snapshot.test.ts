import { join } from "node:path";
import test from "ava";
import { inScratch, run } from "../support/native.ts";
import { QemuPair } from "../support/qemu-pair.ts";

test("words, streams and exit codes", async (t) => {
  await inScratch("snapshot-words", async (dir) => {
    const p = new QemuPair(dir);
    await p.make("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M");
    await p.make("qemu-img", "create", "-q", "-f", "raw", "r.raw", "1M");
    await p.make("qemu-img", "create", "-q", "-f", "qcow2", "-o", "refcount_bits=1", "b.qcow2", "1M");
    await p.make("qemu-io", "-c", "write 0 64k", "b.qcow2");
    await p.make("qemu-img", "create", "-q", "-f", "qcow2", "m.qcow2", "1M");
    await p.make("qemu-img", "bitmap", "--add", "m.qcow2", "x");
    await p.make("qemu-img", "snapshot", "-c", "s", "m.qcow2");
    p.copy("a.qcow2", "r.raw", "b.qcow2", "m.qcow2");
    for (const args of [
      [],
      ["a.qcow2", "b"],
      ["-l", "-c", "x", "a.qcow2"],
      ["-a", "x", "a.qcow2"],
      ["-d", "x", "a.qcow2"],
      ["a.qcow2"],
      ["-q", "-c", "", "a.qcow2"],
      ["-c"],
      ["-x", "a.qcow2"],
      ["-f", "raw", "-l", "r.raw"],
      ["-c", "x", "none"],
      ["-U", "-c", "x", "a.qcow2"],
      ["-c", "x", "r.raw"],
      ["-a", "x", "r.raw"],
      ["-d", "x", "r.raw"],
      ["-l", "r.raw"],
      ["r.raw"],
      ["-c", "x", "b.qcow2"],
      ["-a", "s", "m.qcow2"],
      ["--image-opts", "driver=qcow2,file.filename=a.qcow2", "-c", "z"],
    ])
      await p.same(t, "snapshot", ...args);
    // Native leaves a leak behind, ours nothing.
    t.is((await run("qemu-img", ["check", "-q", join(p.ours, "b.qcow2")])).code, 0);
  });
});

for (const options of [
  "",
  "compat=0.10,cluster_size=512",
  "extended_l2=on",
  "cluster_size=4k,refcount_bits=4",
])
  test(`taken, applied, deleted: ${options || "default"}`, async (t) => {
    await inScratch("snapshot-jobs", async (dir) => {
      const p = new QemuPair(dir);
      const o = options === "" ? [] : ["-o", options];
      await p.make("qemu-img", "create", "-q", "-f", "raw", "base", "900k");
      await p.make("qemu-io", "-f", "raw", "-c", "write -P 9 0 900k", "base");
      await p.make(
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        ...o,
        "-b",
        "base",
        "-F",
        "raw",
        "a.qcow2",
        "1M",
      );
      await p.make("qemu-io", "-c", "write -P 1 0 300k", "-c", "write -c -P 2 512k 64k", "a.qcow2");
      p.copy("base", "a.qcow2");
      const jobs = ["-c one", "-c two", "-a 1", "-c one", "-d one", "-a one", "-d two", "-d one"];
      for (const [i, job] of jobs.entries()) {
        await p.same(t, "snapshot", ...job.split(" "), "a.qcow2");
        await p.sameImage(t, "a.qcow2", `${i}: ${job}`);
        const write = ["-c", `write -P ${i + 10} ${i * 70}k 90k`, "-c", `discard ${i * 90}k 64k`, "a.qcow2"];
        for (const cwd of [p.native, p.ours]) await run("qemu-io", write, { cwd });
      }
      await p.sameImage(t, "a.qcow2", "end");
    });
  });
