import { statSync } from "node:fs";
import type { OutputFormat, Qcow2Options } from "../../src/engine/api.ts";
import { RefusedError } from "../../src/errors.ts";
import type { Target } from "../../src/io/target.ts";
import type { OptionSpec } from "../getopt.ts";
import { UsageError } from "../ui/errors.ts";
import { isTerminal } from "../ui/terminal.ts";
import type { Arguments } from "./arguments.ts";
import { inputFiles, keepApart } from "./input.ts";

export const FORCE_OPTION: OptionSpec = {
  key: "force",
  long: "force",
  help: "replace an existing file; write to a device that holds something",
};
export const VERIFY_OPTION: OptionSpec = {
  key: "verify",
  long: "verify",
  help: "read the output back and compare it with the source",
};
export const OUTPUT_OPTIONS: readonly OptionSpec[] = [
  {
    key: "format",
    short: "f",
    long: "format",
    arg: "FORMAT",
    help: "raw or qcow2; without it the name decides (.qcow2, else raw)",
  },
  {
    key: "clusterSize",
    long: "cluster-size",
    arg: "SIZE",
    help: "qcow2: bytes a cluster, 512 to 2M (default 64k)",
  },
  { key: "compat", long: "compat", arg: "VERSION", help: "qcow2: version 2 or 3 (default 3)" },
];

/** The format of an output: as asked for, or by its name. */
export function outputFormat(image: string, read: Arguments): OutputFormat {
  const asked = read.format("format", "--format");
  if (asked !== null) return asked;
  return /\.(qcow2|qcow|qc2)$/i.test(image) ? "qcow2" : "raw";
}

/** QCOW2 options of a command line, or null where there are none. Throws UsageError for a raw output. */
export function qcow2Options(read: Arguments, format: OutputFormat): Qcow2Options | null {
  const clusterSize = read.size("clusterSize", "--cluster-size");
  const version = read.number("compat", "--compat", 2, 3);
  if (clusterSize === null && version === null) return null;
  if (format !== "qcow2") throw new UsageError("--cluster-size and --compat are for qcow2 images");
  if (
    clusterSize !== null &&
    (clusterSize < 512 || clusterSize > 2 << 20 || (clusterSize & (clusterSize - 1)) !== 0)
  )
    throw new UsageError("--cluster-size must be a power of two from 512 to 2M");
  return {
    ...(clusterSize === null ? {} : { clusterSize }),
    ...(version === null ? {} : { version: version === 2 ? 2 : 3 }),
  };
}

export interface OutputSettings {
  readonly force: boolean;
  readonly verify: boolean;
}

/**
 * Refuses what a command must not write, as its run would: RefusedError for what would lose something without --force,
 * is in use, or is a device with fewer than `needed` bytes; UsageError.
 */
export async function checkOutput(path: string, settings: OutputSettings, needed = 0): Promise<void> {
  const m = await import("../../src/node.ts");
  if (path === "") throw new UsageError("empty file name");
  if (path === "-") {
    if (settings.verify) throw new UsageError("--verify cannot read standard output back");
    return;
  }
  const { kind, size } = m.checkTarget(path, { sources: inputFiles() });
  keepApart(path);
  if (kind === "file" && !settings.force)
    throw new RefusedError("EEXIST", `${path}: exists already; --force replaces it`);
  if (kind !== "device") return;
  if (size < needed)
    throw new RefusedError("ETOOSMALL", `${path}: holds ${size} bytes, ${needed} are needed`);
  if (!settings.force) await refuseUsedDevice(path);
}

/**
 * Opens what a command writes, once it is checked: "-" as a stream, a device in place, anything else as a new file that
 * appears when it is complete.
 */
export async function openOutput(path: string, settings: OutputSettings): Promise<Target> {
  await checkOutput(path, settings);
  const m = await import("../../src/node.ts");
  if (path === "-") {
    if (isTerminal(1)) throw new UsageError("standard output is a terminal; redirect it");
    return m.openStdoutTarget();
  }
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isFIFO() || stat?.isCharacterDevice()) return m.openSequentialTarget(path);
  return stat?.isBlockDevice() ? m.openInPlaceTarget(path) : m.createFileTarget(path);
}

/** Bytes at a device's start that must be zero for it to count as empty. */
const EMPTY_BYTES = 1 << 20;

async function refuseUsedDevice(path: string): Promise<void> {
  const { openFileSource, openVolume } = await import("../../src/node.ts");
  const device = openFileSource(path);
  try {
    const volume = await openVolume(device);
    if (volume !== null)
      throw new RefusedError("ENOTEMPTY", `${path}: holds ${volume.kind}; --force overwrites it`);
    const head = new Uint8Array(Math.min(EMPTY_BYTES, device.size));
    device.read(head, 0);
    if (head.some((b) => b !== 0))
      throw new RefusedError("ENOTEMPTY", `${path}: its first MiB is not empty; --force overwrites it`);
  } finally {
    device.close();
  }
}
