// Every kind of image qemu-img makes, read back and compared with what qemu-img itself reads.
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { portableCodecs } from "../../src/codec/portable.ts";
import { inScratch, must } from "../support/native.ts";
import {
  difference,
  openFile,
  patchwork,
  qemuImg,
  readAll,
  readBytes,
  squeezable,
  writeBytes,
} from "../support/qcow2.ts";
import { Random } from "../support/random.ts";

/** Compares our reading of an image with qemu-img's, in pieces of several sizes. */
async function same(t: ExecutionContext, path: string, name: string): Promise<void> {
  const raw = `${path}.raw`;
  await qemuImg("convert", "-O", "raw", path, raw);
  const want = readBytes(raw);
  for (const piece of [512 * 1024, 40961]) {
    const { image, close } = await openFile(path);
    t.is(difference(await readAll(image, piece), want), null, `${name}, pieces of ${piece}`);
    await close();
  }
  const { image, close } = await openFile(path, { codecs: portableCodecs });
  const random = new Random(want.length);
  for (let i = 0; i < 50; i++) {
    const at = random.below(want.length);
    const into = new Uint8Array(1 + random.below(200_000));
    const r = image.read(into, at);
    const n = r instanceof Promise ? await r : r;
    t.is(n, Math.min(into.length, want.length - at));
    t.is(
      difference(into.subarray(0, n), want.subarray(at, at + n)),
      null,
      `${name}, ${into.length} at ${at}`,
    );
  }
  await close();
}

for (const compat of ["0.10", "1.1"])
  for (const clusterSize of [512, 1024, 4096, 65536, 262144, 2097152])
    test(`plain, compat ${compat}, clusters of ${clusterSize}`, (t) =>
      inScratch("qcow2", async (dir) => {
        const raw = writeBytes(
          join(dir, "a.raw"),
          patchwork(new Random(clusterSize), clusterSize < 4096 ? 3_000_320 : 9_000_448, 4096, 0.6),
        );
        const q = join(dir, "a.qcow2");
        const options = `compat=${compat},cluster_size=${clusterSize}`;
        await qemuImg("convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, q);
        await same(t, q, options);
      }));

for (const type of ["zlib", "zstd"])
  for (const clusterSize of [512, 4096, 65536, 2097152])
    test(`compressed with ${type}, clusters of ${clusterSize}`, (t) =>
      inScratch("qcow2", async (dir) => {
        const random = new Random(clusterSize);
        const bytes = squeezable(random, clusterSize === 512 ? 700_000 : 5_000_192);
        // Part that does not compress, and is stored plain.
        random.fill(bytes.subarray(300_000, 460_000));
        const raw = writeBytes(join(dir, "a.raw"), bytes);
        const q = join(dir, "a.qcow2");
        const options = `compression_type=${type},cluster_size=${clusterSize}`;
        await qemuImg("convert", "-f", "raw", "-O", "qcow2", "-c", "-o", options, raw, q);
        await same(t, q, options);
      }));

for (const base of ["raw", "qcow2"])
  test(`chain of three over a shorter ${base}`, (t) =>
    inScratch("qcow2", async (dir) => {
      const raw = writeBytes(join(dir, "base.raw"), patchwork(new Random(7), 3_000_320, 512, 0.7));
      if (base === "qcow2") await qemuImg("convert", "-O", "qcow2", raw, join(dir, "base.qcow2"));
      let below = `base.${base}`;
      let format = base;
      for (const [name, size, options] of [
        ["one", "5M", "cluster_size=4096"],
        ["two", "4M", "cluster_size=65536"],
        ["top", "6M", "cluster_size=16384,extended_l2=on"],
      ]) {
        const q = join(dir, `${name}.qcow2`);
        await qemuImg("create", "-q", "-f", "qcow2", "-F", format, "-b", below, "-o", options, q, size);
        const io = ["-c", "write -P 1 100k 20k", "-c", "write -z 1M 200k", "-c", "write -P 9 3500k 10k"];
        if (name === "two") io.push("-c", "discard 2M 512k", "-c", "write -P 3 2100k 4k");
        if (name === "top")
          io.push("-c", "write -P 77 5M 3k", "-c", "write -z 40k 6k", "-c", "write -P 5 2000k 1k");
        await must("qemu-io", ["-f", "qcow2", ...io, q]);
        below = `${name}.qcow2`;
        format = "qcow2";
      }
      await same(t, join(dir, "top.qcow2"), base);
      await same(t, join(dir, "two.qcow2"), base);
    }));

for (const preallocation of ["off", "metadata", "falloc", "full"])
  for (const options of [
    "compat=1.1",
    "extended_l2=on",
    "data_file=data.raw",
    "data_file=data.raw,data_file_raw=on",
  ])
    test(`preallocation ${preallocation}, ${options}`, (t) =>
      inScratch("qcow2", async (dir) => {
        const q = join(dir, "a.qcow2");
        const all = options.replace("data.raw", join(dir, "data.raw"));
        await qemuImg("create", "-q", "-f", "qcow2", "-o", `${all},preallocation=${preallocation}`, q, "5M");
        await same(t, q, "empty");
        const io = ["-c", "write -P 1 100k 20k", "-c", "write -z 1M 200k", "-c", "write -P 9 3500k 700k"];
        await must("qemu-io", [...io, "-c", "write -z -u 3600k 130k", q]);
        await same(t, q, "written");
      }));

for (const compat of ["0.10", "1.1"])
  test(`snapshots, compat ${compat}`, (t) =>
    inScratch("qcow2", async (dir) => {
      const q = join(dir, "a.qcow2");
      await qemuImg("create", "-q", "-f", "qcow2", "-o", `compat=${compat}`, q, "5M");
      for (let i = 1; i <= 3; i++) {
        await must("qemu-io", ["-c", `write -P ${i} ${i * 300}k 500k`, q]);
        await qemuImg("snapshot", "-c", `état ${i}`, q);
      }
      await must("qemu-io", ["-c", "write -P 50 400k 100k", q]);
      await same(t, q, compat);
      const { image, close } = await openFile(q);
      t.deepEqual(
        image.snapshots.map((s) => [s.id, s.name, s.diskSize]),
        [1, 2, 3].map((i) => [String(i), `état ${i}`, 5 * 2 ** 20]),
      );
      t.true(image.snapshots.every((s) => Math.abs(s.seconds - Date.now() / 1000) < 86400));
      t.is(image.info().find((f) => f.key === "snapshotCount")?.value, 3);
      await close();
    }));

test("info agrees with qemu-img", (t) =>
  inScratch("qcow2", async (dir) => {
    writeBytes(join(dir, "base.raw"), new Uint8Array(1_000_448));
    for (const options of [
      "compat=0.10",
      "compat=1.1,lazy_refcounts=on,refcount_bits=8",
      "compat=1.1,compression_type=zstd,cluster_size=4096",
      "extended_l2=on,cluster_size=16384",
    ]) {
      const q = join(dir, "a.qcow2");
      await qemuImg("create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", "-o", options, q);
      const { image, close } = await openFile(q);
      const info = new Map(image.info().map((f) => [f.key, f.value]));
      await close();
      const want = JSON.parse((await qemuImg("info", "--output=json", q)).stdout.toString());
      const data = want["format-specific"].data;
      t.is(info.get("virtualSize"), want["virtual-size"]);
      t.is(info.get("clusterSize"), want["cluster-size"]);
      t.is(info.get("backingFile"), want["backing-filename"]);
      t.is(info.get("backingFormat"), want["backing-filename-format"]);
      t.is(info.get("compat"), data.compat);
      t.is(info.get("refcountBits"), data["refcount-bits"]);
      t.is(info.get("compressionType"), data["compression-type"]);
      t.is(info.get("lazyRefcounts"), data["lazy-refcounts"] ?? false);
      t.is(info.get("extendedL2"), data["extended-l2"] ?? false);
    }
  }));

test("encrypted images open, say so, and refuse their data", (t) =>
  inScratch("qcow2", async (dir) => {
    const q = join(dir, "a.qcow2");
    const secret = ["--object", "secret,id=s,data=geheim"];
    const options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    // Creation fails at random where the clock of a thread is coarse.
    for (let left = 5; ; left--)
      try {
        await qemuImg("create", "-q", ...secret, "-f", "qcow2", "-o", options, q, "4M");
        break;
      } catch (e) {
        if (left === 0) throw e;
      }
    const file = `driver=qcow2,file.filename=${q},encrypt.key-secret=s`;
    await must("qemu-io", [...secret, "--image-opts", "-c", "write -P 7 1M 64k", file]);
    const { image, close } = await openFile(q);
    t.is(image.info().find((f) => f.key === "encryption")?.value, "luks");
    t.is(await image.read(new Uint8Array(512), 0), 512);
    await t.throwsAsync(async () => image.read(new Uint8Array(512), 2 ** 20), { code: "EUNSUPPORTED" });
    await close();
  }));

test("plain images answer without promises", (t) =>
  inScratch("qcow2", async (dir) => {
    const raw = writeBytes(join(dir, "a.raw"), patchwork(new Random(5), 4_000_256, 4096, 0.5));
    const q = join(dir, "a.qcow2");
    for (const compressed of [[], ["-c"]]) {
      await qemuImg("convert", "-f", "raw", "-O", "qcow2", ...compressed, raw, q);
      const { image, close } = await openFile(q);
      t.is(image.read(new Uint8Array(100_000), 12345), 100_000);
      t.false(image.map(0, image.size) instanceof Promise);
      await close();
    }
  }));
