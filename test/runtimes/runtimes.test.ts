// The published engine under Node, Deno and Bun: the same bytes out of the same volume, and those of the command line.
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { extVolume } from "../support/ext-volume.ts";
import { imprint, inScratch, must, root } from "../support/native.ts";

const JOB = join(root, "test/runtimes/job.mjs");
const MiB = 1024 * 1024;

interface Answer {
  readonly runtime: string;
  readonly format: string;
  readonly kind: string | null;
  readonly results: Readonly<Record<string, string>>;
}

/** A runtime's binary as its npm package holds it, for this machine; the package's own scripts need not have run. */
function binary(candidates: readonly string[]): string {
  const found = candidates.map((c) => join(root, "node_modules", c)).find((c) => existsSync(c));
  if (found === undefined) throw new Error(`none of ${candidates.join(", ")} is in node_modules: run npm ci`);
  return found;
}

const deno = () =>
  binary([`@deno/linux-${process.arch}-glibc/deno`, `@deno/darwin-${process.arch}/deno`, ".bin/deno"]);
const bun = () => {
  const arch = process.arch === "arm64" ? "aarch64" : process.arch;
  return binary(
    [`linux-${arch}`, `linux-${arch}-baseline`, `darwin-${arch}`]
      .map((p) => `@oven/bun-${p}/bin/bun`)
      .concat(".bin/bun"),
  );
};

async function answerOf(program: string, args: readonly string[], dir: string): Promise<Answer> {
  const env = { DENO_DIR: join(dir, "deno"), DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };
  const r = await must(program, args, { cwd: root, env });
  return JSON.parse(r.stdout.toString("utf8")) as Answer;
}

async function hashOfCli(args: readonly string[], output: string): Promise<string> {
  const r = await imprint([...args, output]);
  if (r.code !== 0) throw new Error(`imprint ${args.join(" ")}: ${r.stderr}`);
  return createHash("sha256").update(readFileSync(output)).digest("hex");
}

test("Node, Deno, Bun and the command line write the same bytes", async (t) => {
  if (!existsSync(join(root, "dist/index.js")))
    throw new Error("dist/index.js is missing: run npm run build");
  await inScratch("runtimes", async (dir) => {
    const volume = await extVolume(dir, "volume.img", 48 * MiB);
    const zlib = join(dir, "zlib.qcow2");
    const zstd = join(dir, "zstd.qcow2");
    const packed = ["convert", "-f", "raw", "-O", "qcow2", "-c"];
    await must("qemu-img", [...packed, volume, zlib]);
    await must("qemu-img", [...packed, "-o", "compression_type=zstd", volume, zstd]);
    const job = [JOB, volume, zlib, zstd];
    const node = await answerOf(process.execPath, job, dir);
    t.is(node.runtime, "node");
    t.is(node.kind, "ext4");
    t.is(node.format, "raw");
    const whole = createHash("sha256").update(readFileSync(volume)).digest("hex");
    for (const name of ["all raw", "disk raw", "stream raw", "image 0", "image 1"])
      t.is(node.results[name], whole, name);
    t.is(node.results["stream qcow2"], node.results["disk qcow2"]);

    const denoArgs = ["run", "--quiet", "--no-remote", "--no-prompt", `--allow-read=${dir}`, ...job];
    t.deepEqual(await answerOf(deno(), denoArgs, dir), { ...node, runtime: "deno" });
    t.deepEqual(await answerOf(bun(), ["run", ...job], dir), { ...node, runtime: "bun" });

    for (const format of ["raw", "qcow2"]) {
      for (const scope of ["metadata", "used", "all"]) {
        const args = ["capture", `--${scope}`, "--format", format, volume];
        t.is(
          await hashOfCli(args, join(dir, `${scope}.${format}`)),
          node.results[`${scope} ${format}`],
          `capture --${scope} --format ${format}`,
        );
      }
      const args = ["convert", "--format", format, volume];
      t.is(
        await hashOfCli(args, join(dir, `disk.${format}`)),
        node.results[`disk ${format}`],
        `convert ${format}`,
      );
    }
    t.is(
      await hashOfCli(["e2image", "-Q", volume], join(dir, "e2image")),
      node.results["e2image"],
      "e2image -Q",
    );
  });
});
