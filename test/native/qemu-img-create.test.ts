import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { fileDifference, inScratch } from "../support/native.ts";
import { QemuPair } from "../support/qemu-pair.ts";
import { Random } from "../support/random.ts";

/** Files of both folders must be the same, by name and bytes; they are removed. */
function sameFiles(t: ExecutionContext, p: QemuPair, what: string): void {
  const list = (dir: string) => readdirSync(dir).filter((f) => statSync(join(dir, f)).isFile());
  t.deepEqual(list(p.ours), list(p.native), what);
  for (const f of list(p.native)) {
    const [a, b] = [join(p.native, f), join(p.ours, f)];
    if (existsSync(b)) t.is(fileDifference(a, b), null, `${what}: ${f}`);
  }
}

function clear(p: QemuPair): void {
  for (const dir of [p.native, p.ours])
    for (const f of readdirSync(dir)) if (f === "a" || f === "d") rmSync(join(dir, f));
}

test("words, streams, exit codes and files", async (t) => {
  await inScratch("create-words", async (dir) => {
    const p = new QemuPair(dir);
    for (const d of [p.native, p.ours]) mkdirSync(join(d, "sub"));
    await p.make("qemu-img", "create", "-q", "base", "1M");
    await p.make("qemu-img", "create", "-q", "-f", "qcow2", "qbase", "3M");
    p.copy("base", "qbase");
    const q = ["-f", "qcow2"];
    for (const args of [
      [],
      ["-f"],
      ["a"],
      [...q, "a", "1M", "2M"],
      [...q, "a", "1X"],
      ["-f", "foo", "a", "1M"],
      ["-f", "dmg", "a", "1M"],
      [...q, "-o", "size=1M", "a", "2M"],
      [...q, "-o", "size=1M", "a"],
      [...q, "-o", "cluster_size=100", "a", "1M"],
      [...q, "-o", "compat=foo", "a", "1M"],
      [...q, "-o", "preallocation=foo", "a", "1M"],
      [...q, "-o", "compression_type=foo", "a", "1M"],
      [...q, "-o", "compat=0.10,data_file=d", "a", "1M"],
      [...q, "-o", "compat=0.10,compression_type=zstd", "a", "1M"],
      [...q, "-o", "compat=0.10,extended_l2=on,cluster_size=8k", "a", "1M"],
      [...q, "-o", "extended_l2=on,cluster_size=8k", "a", "1M"],
      [...q, "-o", "compat=v2,lazy_refcounts=on,refcount_bits=3", "a", "1M"],
      [...q, "-o", "compat=v2,refcount_bits=8", "a", "1M"],
      [...q, "-o", "refcount_bits=3", "a", "1M"],
      [...q, "-o", "refcount_bits=x", "a", "1M"],
      [...q, "-o", "refcount_bits=010", "a", "1M"],
      [...q, "-o", "data_file_raw=on", "a", "1M"],
      [...q, "-o", "data_file=d,data_file_raw=on", "-b", "x", "-F", "raw", "-u", "a", "1M"],
      [...q, "-o", "preallocation=metadata", "-b", "x", "-F", "raw", "-u", "a", "1M"],
      [...q, "-F", "raw", "a", "1M"],
      [...q, "-b", "x", "-F", "foo", "a", "1M"],
      [...q, "-b", "x", "a", "1M"],
      [...q, "-b", "x", "-u", "a", "1M"],
      [...q, "-b", "x", "-F", "raw", "-u", "a"],
      [...q, "-b", "a", "-F", "raw", "a", "1M"],
      [...q, "-b", "base", "-F", "raw", "a"],
      [...q, "-b", "base", "a"],
      [...q, "-b", "base", "-F", "qcow2", "a"],
      [...q, "-b", "qbase", "-F", "qcow2", "a"],
      [...q, "-b", "qbase", "-F", "raw", "a"],
      [...q, "-b", "base", "-F", "raw", "sub/a"],
      [...q, "-b", "foo", "-F", "1234567890123456", "-u", "a", "1M"],
      [...q, "-b", "foo", "-F", "vmdk", "-u", "a", "1M"],
      [...q, "-o", "cluster_size=512", "-b", "x".repeat(380), "-F", "raw", "-u", "a", "1M"],
      [...q, "-b", "x".repeat(1023), "-F", "raw", "-u", "a", "1M"],
      ["-b", "a", "-F", "raw", "b", "1M"],
      ["-F", "raw", "b", "1M"],
      ["-o", "backing_file=x", "b", "1M"],
      [...q, "-o", "foo=1", "a", "1M"],
      [...q, "-o", ",a", "a", "1M"],
      [...q, "-o", "encryption=on", "a", "1M"],
      [...q, "-o", "encrypt.format=luks", "a", "1M"],
      [...q, "-o", "encrypt.format=foo", "a", "1M"],
      [...q, "-o", "encrypt.iter-time=5", "a", "1M"],
      [...q, "-o", "encryption=on,encrypt.format=aes", "a", "1M"],
      [...q, "/nonexist/a", "1M"],
      [...q, "sub", "1M"],
      [...q, "-o", "help"],
      ["-o", "help"],
      [...q, "-o", "help", "a"],
      ["-o", "?", "a", "b", "c"],
      [...q, "a", "8E"],
      [...q, "a", "4E"],
      [...q, "-o", "size=9E", "a"],
      ["a", "1000"],
      ["-o", "size=1k,preallocation=foo", "a"],
      ["-o", "size=100k,preallocation=full", "a"],
      ["-o", "nocow=on", "a", "1M"],
      [...q, "-o", "nocow=off,extent_size_hint=1M,compat=v3", "a", "1M"],
      [...q, "-o", "compat=1.1", "-o", "lazy_refcounts,size=1000", "a"],
      [...q, "-o", "cluster_size=1e3", "a", "1000"],
      [...q, "-o", "lazy_refcounts=maybe", "a", "1000"],
      [...q, "-o", "nolazy_refcounts", "a", "1M"],
      [...q, "-o", "data_file=sub/n/x", "a", "1M"],
      [...q, "-o", "data_file=d,,e", "a", "1M"],
      ["-z"],
      [...q, "foo:x", "1M"],
      [...q, "file:a", "1M"],
      ["-q", "a", "12345"],
      ["a", "9.3M"],
    ]) {
      await p.same(t, "create", ...args);
      sameFiles(t, p, args.join(" "));
      clear(p);
    }
  });
});

/** Options drawn at random; sizes small where data is allocated ahead. */
function draw(r: Random): { options: string[]; size: number } {
  const pick = <T>(...list: readonly T[]): T => list[r.below(list.length)];
  const chance = (percent: number): boolean => r.below(100) < percent;
  const cs = pick(512, 1024, 4096, 16384, 65536, 65536, 262144, 2097152);
  const options = [`cluster_size=${cs}`];
  if (chance(15)) options.push(`compat=${pick("0.10", "v2")}`);
  if (chance(30)) options.push("extended_l2=on");
  if (chance(60)) options.push(`refcount_bits=${pick(1, 2, 4, 8, 16, 32, 64)}`);
  if (chance(30)) options.push("lazy_refcounts=on");
  if (chance(30)) options.push("compression_type=zstd");
  const mode = pick("off", "off", "off", "metadata", "metadata", "falloc", "full");
  if (mode !== "off") options.push(`preallocation=${mode}`);
  const external = chance(20);
  if (external) options.push("data_file=d");
  const raw = external && chance(50);
  if (raw) options.push("data_file_raw=on");
  const small = [0, 1, 511, 512, 1000, 65536, 100000, 1 << 20, r.below(1 << 21)];
  let size = pick(...small);
  if (mode === "metadata" && !external) size = pick(size, cs * r.below(16384));
  if (mode === "metadata") size = Math.min(size, 2 ** 23);
  else if (mode === "off" && !external)
    size = pick(size, r.below(2 ** 31) * 512, cs * (cs / 8) * r.below(2 ** 17), 3 * 2 ** 30, 2 ** 46);
  return { options, size };
}

for (const seed of [11, 12])
  test(`the bytes of images of options drawn at random, from ${seed}`, async (t) => {
    await inScratch("create-bytes", async (dir) => {
      const p = new QemuPair(dir);
      const r = new Random(seed);
      let made = 0;
      for (let i = 0; i < 60; i++) {
        const { options, size } = draw(r);
        const backing = r.below(4) === 0 ? ["-b", "x".repeat(1 + r.below(600)), "-F", "raw", "-u"] : [];
        const args = ["-f", "qcow2", "-o", options.join(","), ...backing, "a", String(size)];
        if ((await p.same(t, "create", ...args)) === 0) made++;
        sameFiles(t, p, args.join(" "));
        clear(p);
      }
      t.true(made > 30, `${made} images were made`);
    });
  });

test("nothing is lost where native destroys what was there", async (t) => {
  await inScratch("create-keep", async (dir) => {
    const p = new QemuPair(dir);
    const old = join(p.ours, "a");
    for (const args of [
      ["-f", "qcow2", "-o", "cluster_size=7", "a", "1M"],
      ["-o", "preallocation=metadata", "a", "1M"],
      ["-f", "qcow2", "-b", "./a", "-F", "raw", "a"],
      ["-f", "qcow2", "-o", "data_file=./a", "a", "1M"],
    ]) {
      writeFileSync(old, "precious");
      const { runHere } = await import("../support/in-process.ts");
      t.is((await runHere(["qemu-img", "create", ...args], p.ours)).code, 1, args.join(" "));
      t.is(readFileSync(old, "utf8"), "precious", args.join(" "));
      t.deepEqual(readdirSync(p.ours), ["a"]);
    }
  });
});
