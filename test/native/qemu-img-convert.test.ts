// qemu-img convert, uncompressed: the very bytes of the installed qemu-img, for every kind of source and target.
import { existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { run as qemuImg } from "../../cli/native/qemu-img.ts";
import {
  layoutOptions,
  makeSource,
  SOURCE_KINDS,
  type SourceKind,
  sparseFile,
} from "../support/convert-sources.ts";
import { fileDifference, imprint, inScratch, must, run } from "../support/native.ts";
import { Random } from "../support/random.ts";

const pick = <T>(random: Random, list: readonly T[]): T => list[random.below(list.length)];

/** Runs both, ours in this process, and compares what they wrote. */
async function alike(t: ExecutionContext, dir: string, args: readonly string[], what: string): Promise<void> {
  const native = join(dir, "native");
  const ours = join(dir, "ours");
  rmSync(native, { force: true });
  rmSync(ours, { force: true });
  const data = join(dir, "data");
  await must("qemu-img", ["convert", ...args, native]);
  if (existsSync(data)) renameSync(data, `${data}.native`);
  t.is(await qemuImg("qemu-img", ["convert", ...args, ours]), 0, what);
  t.is(fileDifference(ours, native), null, `${what}: ${args.join(" ")}`);
  if (existsSync(`${data}.native`)) {
    t.is(fileDifference(data, `${data}.native`), null, `${what}: data file`);
    rmSync(`${data}.native`);
    rmSync(data);
  }
}

const SPARSE = ["0", "512", "1k", "8k", "64k", "1536", "5k", "1M"];

/** A draw of sources and options for one of the target's kinds. */
async function sample(
  t: ExecutionContext,
  seed: number,
  options: (random: Random, dir: string) => string[],
  several = true,
): Promise<void> {
  await inScratch("convert", async (dir) => {
    const random = new Random(seed);
    const count = several && random.below(5) === 0 ? 2 : 1;
    const sources: string[] = [];
    const kinds: SourceKind[] = [];
    for (let i = 0; i < count; i++) {
      const kind = SOURCE_KINDS[(seed + i) % SOURCE_KINDS.length];
      const size = pick(random, [0, 1000, random.below(500_000), 1_000_000 + random.below(5_000_000)]);
      kinds.push(kind);
      sources.push(await makeSource(random, kind, join(dir, `s${i}`), size));
    }
    const args = options(random, dir);
    if (random.below(3) === 0) args.push("-S", pick(random, SPARSE));
    if (count === 1 && kinds[0] === "snapshot" && statSync(sources[0]).size > 0 && random.below(2) === 0) {
      const list = await run("qemu-img", ["snapshot", "-l", sources[0]]);
      if (list.stdout.length > 0) args.push("-l", "s");
    }
    await alike(t, dir, [...args, ...sources], `seed ${seed}, ${kinds.join("+")}`);
  });
}

for (let group = 0; group < 4; group++)
  test(`as qemu-img: QCOW2 targets, draw ${group}`, async (t) => {
    for (let i = 0; i < 7; i++)
      await sample(t, 100 * group + i, (random) => ["-O", "qcow2", "-o", layoutOptions(random)]);
  });

test("as qemu-img: raw targets", async (t) => {
  for (let i = 0; i < 6; i++) await sample(t, 1000 + i, () => ["-O", "raw"]);
});

test("as qemu-img: over a backing file", async (t) => {
  for (let i = 0; i < 16; i++)
    await sample(
      t,
      2000 + i,
      (random, dir) => {
        const base = join(dir, "base");
        sparseFile(random, base, 512 * (1 + random.below(12_000)), 4096, random.below(100));
        // Allocated ahead: only images with subclusters can have that and a backing file.
        const ahead = pick(random, ["metadata", "falloc", "full"]);
        const size = pick(random, ["16k", "64k", "2M"]);
        const data = random.below(3) === 0 ? `,data_file=${join(dir, "data")}` : "";
        const options =
          i < 8 ? layoutOptions(random) : `extended_l2=on,cluster_size=${size},preallocation=${ahead}${data}`;
        return ["-O", "qcow2", "-B", base, "-F", "raw", "-o", options];
      },
      false,
    );
});

test("as qemu-img: over a backing file whose stored clusters are holes on the host", (t) =>
  inScratch("convert", async (dir) => {
    const [base, sparse, top] = ["base", "sparse", "top"].map((name) => join(dir, name));
    await must("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", base, "3M"]);
    await must("qemu-io", ["-c", "write -P 3 1600k 512", base]);
    await must("cp", ["--sparse=always", base, sparse]);
    const made = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", sparse, "-F", "qcow2"];
    await must("qemu-img", [...made, top]);
    await must("qemu-io", ["-c", "write -z 88k 4k", "-c", "write -P 7 377k 12k", top]);
    await alike(t, dir, ["-O", "qcow2", "-B", sparse, "-F", "qcow2", top], "zeros over holes");
  }));

test("as qemu-img: preallocation, data files", async (t) => {
  for (let i = 0; i < 6; i++)
    await sample(t, 3000 + i, (random, dir) => {
      if (i % 3 === 2) {
        const raw = pick(random, ["on", "off"]);
        return ["-O", "qcow2", "-o", `data_file=${join(dir, "data")},data_file_raw=${raw},extended_l2=on`];
      }
      const mode = pick(random, ["metadata", "falloc", "full"]);
      return ["-O", "qcow2", "-o", `${layoutOptions(random)},preallocation=${mode}`];
    });
});

test("a stretch of more than 2 GiB is cut where qemu-img cuts it", (t) =>
  inScratch("convert", async (dir) => {
    // Clusters that are allocated but hold zeros: a source of which nothing has to be stored to be data.
    const source = join(dir, "s");
    await must("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", source, "2200M"]);
    await must("qemu-io", ["-c", "write -P 5 2144M 8M", source]);
    await alike(
      t,
      dir,
      ["-O", "qcow2", "-o", "cluster_size=512,refcount_bits=64", source],
      "after a hole of 2 GiB",
    );
  }));

test("into images and files that are there", (t) =>
  inScratch("convert", async (dir) => {
    const random = new Random(7);
    const source = await makeSource(random, "chain", join(dir, "s"), 3_000_000);
    const size = 8_000_512;
    for (const [i, target] of ["raw", "qcow2", "small"].entries())
      for (const more of [[], ["--target-is-zero"], ["-S", "0"]]) {
        const names = ["native", "ours"].map((n) => join(dir, `${n}${i}`));
        for (const name of names) {
          rmSync(name, { force: true });
          const options = target === "small" ? ["-o", "cluster_size=512"] : [];
          await must("qemu-img", [
            ...["create", "-q", "-f", target === "raw" ? "raw" : "qcow2", ...options, name],
            String(size),
          ]);
          // What was there goes, unless it is said to be zero.
          if (more[0] !== "--target-is-zero" && target === "qcow2")
            await must("qemu-io", ["-c", "write -P 9 100k 3M", name]);
        }
        const format = target === "raw" ? "raw" : "qcow2";
        const args = ["convert", "-n", "-O", format, ...more, source];
        await must("qemu-img", [...args, names[0]]);
        t.is(await qemuImg("qemu-img", [...args, names[1]]), 0);
        await must("qemu-img", ["compare", ...names]);
        if (format === "qcow2") await must("qemu-img", ["check", "-q", names[1]]);
        t.pass();
      }
  }));

test("texts and exit codes as qemu-img", (t) =>
  inScratch("convert", async (dir) => {
    const native = join(dir, "n");
    const ours = join(dir, "o");
    for (const d of [native, ours]) {
      mkdirSync(d);
      await must("qemu-img", ["create", "-q", "-f", "raw", join(d, "a.raw"), "4M"]);
      await must("qemu-img", ["create", "-q", "-f", "raw", join(d, "big.raw"), "16M"]);
      await must("qemu-img", ["create", "-q", "-f", "qcow2", join(d, "s.q"), "8M"]);
      await must("qemu-img", ["snapshot", "-c", "one", join(d, "s.q")]);
      await must("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "compat=0.10", join(d, "old.q"), "1M"]);
    }
    for (const line of LINES) {
      const args = ["convert", ...line.split(" ").filter((w) => w !== "")];
      const [a, b] = await Promise.all([
        run("qemu-img", args, { cwd: native }),
        imprint(["qemu-img", ...args], { cwd: ours }),
      ]);
      t.is(b.code, a.code, line);
      t.is(b.stderr, a.stderr, line);
      t.is(b.stdout.toString(), a.stdout.toString(), line);
      for (const d of [native, ours]) rmSync(join(d, "b"), { force: true });
    }
  }));

const LINES = `
a.raw
-O foo a.raw b
-S 100 a.raw b
-S x a.raw b
-m 99 a.raw b
-c -O raw a.raw b
-n -o cluster_size=4k -O qcow2 a.raw nothere
-n -O qcow2 a.raw nothere
-B base a.raw b
-B nobase -F raw -O qcow2 a.raw b
-O qcow2 -o help
-O raw -o help a.raw b
-C -S 4k a.raw b
-C -c a.raw b
-C a.raw b
--target-is-zero a.raw b
-l foo a.raw b
-l foo a.raw a.raw b
-l nope s.q b
-l snapshot.foo=1 s.q b
-l snapshot.id=1,snapshot.name=two s.q b
-r x a.raw b
-T foo a.raw b
-t foo a.raw b
--bitmaps a.raw b
--bitmaps -O qcow2 old.q b
--bitmaps s.q s.q b
--skip-broken-bitmaps a.raw b
--salvage -C a.raw b
-f foo a.raw b
nofile b
-O qcow2 -o cluster_size=3 a.raw b
-O qcow2 -o foo=3 a.raw b
--target-image-opts a.raw driver=raw,file.filename=b
-n --target-image-opts a.raw driver=raw,file.filename=big.raw
-o backing_file=a.raw -O qcow2 a.raw b
-F raw -O qcow2 a.raw b
-O qcow2 -B a.raw -F raw a.raw a.raw b
-O qcow2 -c -o preallocation=metadata a.raw b
-O qcow2 a.raw nodir/x
a.raw a.raw
-p a.raw b
-n a.raw s.q
-n -c -O raw a.raw big.raw
`
  .trim()
  .split("\n");

test("--bitmaps: bitmaps and what they hold", (t) =>
  inScratch("convert", async (dir) => {
    const at = (name: string) => join(dir, name);
    await must("qemu-img", ["create", "-q", "-f", "qcow2", at("s"), "8M"]);
    await must("qemu-img", ["bitmap", "--add", at("s"), "b0"]);
    await must("qemu-img", ["bitmap", "--add", "-g", "4k", "--disable", at("s"), "b1"]);
    await must("qemu-io", ["-c", "write -P 3 1M 2M", at("s")]);
    const info = async (name: string): Promise<string> => {
      const text = (await must("qemu-img", ["info", at(name)])).stdout.toString();
      return text.replace(/^(image|disk size):.*\n/gm, "");
    };
    for (const more of [[], ["-c"], ["-o", "cluster_size=4k,refcount_bits=8"]]) {
      await must("qemu-img", ["convert", "--bitmaps", "-O", "qcow2", ...more, at("s"), at("n")]);
      t.is(await qemuImg("qemu-img", ["convert", "--bitmaps", "-O", "qcow2", ...more, at("s"), at("o")]), 0);
      t.is(await info("o"), await info("n"));
      await must("qemu-img", ["check", "-q", at("o")]);
      // A merge tells what is in them: nothing is left to add of the same bits.
      for (const name of ["n", "o"]) {
        await must("qemu-img", ["bitmap", "--add", "-g", "64k", at(name), "m"]);
        await must("qemu-img", ["bitmap", "--merge", "b0", at(name), "m"]);
      }
      await must("qemu-img", ["compare", "-q", at("n"), at("o")]);
    }
    await must("qemu-img", ["create", "-q", "-f", "qcow2", at("e"), "8M"]);
    t.is(await qemuImg("qemu-img", ["convert", "--bitmaps", "-n", "-O", "qcow2", at("s"), at("e")]), 0);
    await must("qemu-img", ["check", "-q", at("e")]);
    t.regex(await info("e"), /name: b0[\s\S]*name: b1/);
  }));
