// Sources for conversions: raw and QCOW2 images of every kind, and the options of a target, drawn from a seed.
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { must, run } from "./native.ts";
import type { Random } from "./random.ts";

const pick = <T>(random: Random, list: readonly T[]): T => list[random.below(list.length)];

/** A sparse file of runs of `unit` bytes: a share of `density` percent holds data, some are zeros that are stored. */
export function sparseFile(
  random: Random,
  path: string,
  size: number,
  unit: number,
  density: number,
  squeeze = false,
): void {
  const fd = openSync(path, "w");
  ftruncateSync(fd, size);
  const longest = pick(random, [3, 40, 200]);
  for (let at = 0; at < size; ) {
    const n = Math.min((1 + random.below(longest)) * unit, size - at);
    const kind = random.below(100);
    if (kind < density) {
      const bytes = new Uint8Array(n);
      const period = squeeze ? 16 + random.below(2000) : n;
      for (let i = 0; i < Math.min(period, n); i++) bytes[i] = random.below(256);
      for (let i = period; i < n; i++) bytes[i] = bytes[i - period];
      writeSync(fd, bytes, 0, n, at);
    } else if (kind < density + (100 - density) / 3) writeSync(fd, new Uint8Array(n), 0, n, at);
    at += n;
  }
  closeSync(fd);
}

const CLUSTERS = [512, 512, 1024, 4096, 4096, 16384, 65536, 65536, 262144, 2097152];

/** -o of a QCOW2 image. */
export function layoutOptions(random: Random, extended = true): string {
  const cluster = pick(random, CLUSTERS);
  const list = [`cluster_size=${cluster}`];
  if (random.below(7) === 0) list.push("compat=0.10");
  else {
    list.push(`refcount_bits=${pick(random, [1, 2, 4, 8, 16, 16, 32, 64, 64])}`);
    if (extended && cluster >= 16384 && random.below(3) === 0) list.push("extended_l2=on");
    if (random.below(5) === 0) list.push("lazy_refcounts=on");
  }
  return list.join(",");
}

export type SourceKind =
  | "raw"
  | "dense"
  | "qcow2"
  | "compressed"
  | "chain"
  | "zero"
  | "extended"
  | "snapshot";
export const SOURCE_KINDS: readonly SourceKind[] = [
  "raw",
  "dense",
  "qcow2",
  "compressed",
  "chain",
  "zero",
  "extended",
  "snapshot",
];

/** Makes a source named after `path`; returns the path of its top image. */
export async function makeSource(
  random: Random,
  kind: SourceKind,
  path: string,
  size: number,
  squeeze = false,
): Promise<string> {
  const unit = pick(random, [512, 4096, 4096, 65536, 1536]);
  const density = random.below(100);
  if (kind === "raw" || kind === "dense") {
    sparseFile(random, path, size, unit, kind === "raw" ? density : 100, squeeze);
    return path;
  }
  const raw = `${path}.raw`;
  sparseFile(random, raw, size, unit, density, squeeze);
  const extended = `cluster_size=${pick(random, [16384, 65536, 262144])},extended_l2=on`;
  const options = kind === "extended" ? extended : layoutOptions(random);
  const compress = kind === "compressed" ? ["-c"] : [];
  await must("qemu-img", ["convert", ...compress, "-O", "qcow2", "-o", options, raw, path]);
  if (kind === "qcow2" || kind === "compressed") return path;
  let top = path;
  if (kind === "snapshot") await run("qemu-img", ["snapshot", "-c", "s", path]);
  else {
    top = `${path}.top`;
    const more = kind === "extended" ? extended : layoutOptions(random);
    const longer = Math.ceil((size + random.below(3) * 1_000_000) / 512) * 512;
    await must("qemu-img", [
      ...["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path, "-o", more, top],
      String(longer),
    ]);
  }
  const commands: string[] = [];
  const sectors = Math.floor(size / 512);
  for (let i = 1 + random.below(20); i > 0 && sectors > 1; i--) {
    const at = random.below(sectors - 1);
    const n = Math.min(1 + random.below(300), sectors - at);
    const what = pick(random, ["write -P 7", "write -P 0", "write -z", "write -z -u", "discard"]);
    commands.push("-c", `${what} ${at * 512} ${n * 512}`);
  }
  await run("qemu-io", [...commands, top]);
  return top;
}
