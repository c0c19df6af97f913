import { storedSize } from "../../../src/engine/stored-size.ts";
import { ImprintError } from "../../../src/errors.ts";
import { allocatedSize, bitmapsSize } from "../../../src/image/qcow2/create/measure.ts";
import {
  checkCreateOptions,
  DEFAULTS,
  l1Entries,
  type Preallocation,
  type Qcow2CreateOptions,
} from "../../../src/image/qcow2/create/options.ts";
import { LIMIT } from "../../../src/image/qcow2/layout.ts";
import type { Source } from "../../../src/io/source.ts";
import { print } from "../../ui/out.ts";
import { type SnapshotChoice, snapshotChoice } from "./convert-options.ts";
import { askForHoles, openSnapshot } from "./convert-source.ts";
import {
  type CreateFormat,
  type CreateValues,
  createFormat,
  readCreateOptions,
  refuseKey,
  sizeOf,
  textOf,
} from "./create-options.ts";
import { errorText, QemuError } from "./errors.ts";
import { qemuJson } from "./json.ts";
import { joinOptions } from "./keyval.ts";
import { type OpenedChain, openImage } from "./open.ts";
import { OPTION, outputKind, parseCommand } from "./options.ts";
import { parseSize } from "./sizes.ts";

/** Sizes of a new image, bytes. */
interface Measured {
  readonly required: number;
  readonly full: number;
  /** Null where the image or its source cannot have any. */
  readonly bitmaps: number | null;
}

/** qemu-img measure. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  let output = "human";
  let format: string | null = null;
  let target = "raw";
  let options: string | null = null;
  let imageOpts = false;
  let share = false;
  let size: number | null = null;
  let snapshot: SnapshotChoice | null = null;
  const specs = [
    OPTION.format,
    OPTION.outputFormat,
    OPTION.options,
    OPTION.output,
    OPTION.object,
    OPTION.imageOpts,
    OPTION.share,
    { key: "snapshot", short: "l", arg: "snapshot_param" },
    { key: "size", long: "size", arg: "N" },
  ];
  const operands = parseCommand("measure", args, specs, (key, value) => {
    if (key === "format") format = value;
    else if (key === "output-format") target = value;
    else if (key === "options") options = joinOptions(options, value);
    else if (key === "output") output = outputKind(value);
    else if (key === "image-opts") imageOpts = true;
    else if (key === "share") share = true;
    else if (key === "size") size = parseSize(value, "image size");
    else snapshot = snapshotChoice(value);
  });
  if (operands.length > 1) throw new QemuError("At most one filename argument is allowed.");
  const name = operands.at(0);
  if (name === undefined) {
    if (imageOpts || format !== null || snapshot !== null)
      throw new QemuError("--image-opts, -f, and -l require a filename argument.");
    if (size === null) throw new QemuError("Either --size N or one filename must be specified.");
  } else if (size !== null) throw new QemuError("--size N cannot be used together with a filename.");
  const chain = name === undefined ? null : await openImage(name, { format, imageOpts, share, data: false });
  try {
    const measured = await measure(chain, snapshot, size, target, options);
    print(output === "json" ? jsonText(measured) : humanText(measured));
  } finally {
    await chain?.close();
  }
  return 0;
}

function humanText(m: Measured): string {
  const bitmaps = m.bitmaps === null ? "" : `bitmaps size: ${BigInt(m.bitmaps)}\n`;
  return `required size: ${BigInt(m.required)}\nfully allocated size: ${BigInt(m.full)}\n${bitmaps}`;
}

function jsonText(m: Measured): string {
  const value = {
    required: BigInt(m.required),
    "fully-allocated": BigInt(m.full),
    bitmaps: m.bitmaps ?? undefined,
  };
  return `${qemuJson(value)}\n`;
}

async function measure(
  chain: OpenedChain | null,
  snapshot: SnapshotChoice | null,
  size: number | null,
  target: string,
  options: string | null,
): Promise<Measured> {
  let view: Source | null = null;
  try {
    if (chain !== null && snapshot !== null) view = await openSnapshot(chain, snapshot);
    const format = measuredFormat(target);
    let values: CreateValues;
    try {
      values = readCreateOptions(format, options);
    } catch (error) {
      if (!(error instanceof QemuError)) throw error;
      throw new QemuError(`${error.message}\nqemu-img: Invalid options for file format '${target}'`);
    }
    if (format === "file") throw noMeasurement(format);
    // 64 bits that wrap around, as in native.
    const wanted = Number((BigInt.asUintN(64, BigInt(size ?? sizeOf(values) ?? 0n) + 511n) / 512n) * 512n);
    const disk = view ?? chain?.disk ?? null;
    if (format === "raw") {
      const bytes = disk?.size ?? wanted;
      return { required: bytes, full: bytes, bitmaps: null };
    }
    if (chain !== null) await askForHoles(chain);
    return await measureQcow2(shapeOf(values, wanted), values, chain, disk);
  } catch (error) {
    if (error instanceof ImprintError) throw new QemuError(errorText(error));
    throw error;
  } finally {
    await view?.close();
  }
}

function measuredFormat(name: string): CreateFormat {
  // Formats that can be made but not measured say so, "file" when its options are read.
  if (["qcow", "qed", "vmdk", "vdi", "vhdx", "vpc", "parallels"].includes(name)) throw noMeasurement(name);
  return createFormat(name);
}

function noMeasurement(driver: string): QemuError {
  return new QemuError(`Block driver '${driver}' does not support size measurement`);
}

/** The image that the options describe, as far as its size depends on them. Checked in native's order. */
function shapeOf(values: CreateValues, size: number): Qcow2CreateOptions {
  const fail = (text: string): never => {
    throw new QemuError(text);
  };
  const base = {
    ...DEFAULTS,
    size,
    clusterSize: Number(values.get("cluster_size")?.value ?? 65536n),
    extendedL2: values.get("extended_l2")?.value === true,
  };
  checkCreateOptions({ ...base, size: 0 });
  const preallocation = textOf(values, "preallocation") ?? "off";
  if (!["off", "metadata", "falloc", "full"].includes(preallocation))
    fail(`invalid parameter value: ${preallocation}`);
  const compat = textOf(values, "compat") ?? "1.1";
  if (compat !== "0.10" && compat !== "1.1") fail(`Invalid compatibility level: '${compat}'`);
  const shape: Qcow2CreateOptions = {
    ...base,
    preallocation: preallocation as Preallocation,
    version: compat === "0.10" ? 2 : 3,
    refcountBits: Number(values.get("refcount_bits")?.value ?? 16n),
  };
  if (shape.version < 3 && shape.refcountBits !== 16 && isPowerOfTwo(shape.refcountBits))
    fail(
      "Different refcount widths than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)",
    );
  checkCreateOptions({ ...shape, size: 0, extendedL2: false, preallocation: "off" });
  if (textOf(values, "encrypt.format") === "luks") refuseKey(values, fail);
  if (l1Entries(shape) * 8 > LIMIT.l1) fail("The image size is too large (try using a larger cluster size)");
  return shape;
}

function isPowerOfTwo(n: number): boolean {
  return n >= 1 && n <= 64 && Number.isInteger(Math.log2(n));
}

async function measureQcow2(
  shape: Qcow2CreateOptions,
  values: CreateValues,
  chain: OpenedChain | null,
  disk: Source | null,
): Promise<Measured> {
  const cs = shape.clusterSize;
  const guest = Math.ceil((disk?.size ?? shape.size) / cs) * cs;
  let stored = 0;
  if (shape.preallocation === "falloc" || shape.preallocation === "full") stored = guest;
  else if (disk !== null) {
    // What an image shares with its backing file is not known: it may store everything.
    if (values.has("backing_file")) stored = guest;
    else {
      const alone = chain!.layers.length === 1 && disk === chain!.disk ? chain!.image : null;
      stored = await storedSize(
        disk,
        cs,
        alone === null ? undefined : (at, end) => alone.emptyUntil(at, end),
      );
    }
  }
  const full = allocatedSize(shape, guest);
  const header = chain?.header ?? null;
  let bitmaps: number | null = null;
  if (shape.version >= 3 && header !== null && header.version >= 3) {
    const { readBitmaps } = await import("../../../src/image/qcow2/bitmaps.ts");
    bitmaps = bitmapsSize(await readBitmaps(chain!.file, header), header.size, cs);
  }
  return { required: full - guest + stored, full, bitmaps };
}
