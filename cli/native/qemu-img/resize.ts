import { IoError } from "../../../src/errors.ts";
import type { Preallocation } from "../../../src/image/qcow2/create/options.ts";
import { print } from "../../ui/out.ts";
import { codeOf, editImage } from "./edit.ts";
import { complain, QemuError, QemuUsageError, warn } from "./errors.ts";
import { hostText } from "./host-text.ts";
import { parseOptionList } from "./keyval.ts";
import { type Editable, openEditable } from "./open.ts";
import { OPTION, parseCommand } from "./options.ts";

interface ResizeArguments {
  readonly file: string;
  readonly format: string | null;
  readonly imageOpts: boolean;
  readonly quiet: boolean;
  readonly shrink: boolean;
  readonly preallocation: Preallocation;
  /** 0: the size itself; 1 and -1: added to the size there is. */
  readonly relative: -1n | 0n | 1n;
  readonly amount: bigint;
}

const MODES: readonly string[] = ["off", "metadata", "falloc", "full"];
const SIZE = [{ name: "size", type: "size", help: "Virtual disk size" }] as const;

/** qemu-img resize. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  const o = parseArguments(args);
  const image = await openEditable(o.file, { format: o.format, imageOpts: o.imageOpts });
  try {
    if (image.header === null) await resizeRaw(image, o);
    else await resizeQcow2(image, o);
  } finally {
    await image.close();
  }
  if (!o.quiet) print("Image resized.\n");
  return 0;
}

function parseArguments(args: readonly string[]): ResizeArguments {
  // The last word is the size, also where it starts with a dash.
  if (args.length < 2) throw new QemuUsageError("Not enough arguments");
  let format: string | null = null;
  let imageOpts = false;
  let quiet = false;
  let shrink = false;
  let preallocation: Preallocation = "off";
  const specs = [
    OPTION.format,
    OPTION.quiet,
    OPTION.object,
    OPTION.imageOpts,
    { key: "preallocation", long: "preallocation", arg: "prealloc" },
    { key: "shrink", long: "shrink" },
  ];
  const operands = parseCommand("resize", args.slice(0, -1), specs, (key, value) => {
    switch (key) {
      case "format":
        format = value;
        break;
      case "quiet":
        quiet = true;
        break;
      case "image-opts":
        imageOpts = true;
        break;
      case "shrink":
        shrink = true;
        break;
      case "preallocation":
        if (!MODES.includes(value)) throw new QemuError(`Invalid preallocation mode '${value}'`);
        preallocation = value as Preallocation;
    }
  });
  if (operands.length !== 1) throw new QemuUsageError("Expecting image file name and size");
  const word = args[args.length - 1];
  const relative = word.startsWith("+") ? 1n : word.startsWith("-") ? -1n : 0n;
  const text = relative === 0n ? word : word.slice(1);
  const amount = parseOptionList(`size=${text.replaceAll(",", ",,")}`, SIZE).get("size")!.value as bigint;
  return { file: operands[0], format, imageOpts, quiet, shrink, preallocation, relative, amount };
}

/** The size asked for. Throws QemuError with native's text where it is none, or smaller without --shrink. */
function newSize(o: ResizeArguments, current: number): number {
  const now = BigInt(current);
  const total = BigInt.asIntN(64, o.relative === 0n ? o.amount : now + o.relative * o.amount);
  if (total <= 0n) throw new QemuError("New image size must be positive");
  if (total <= now && o.preallocation !== "off")
    throw new QemuError("Preallocation can only be used for growing images");
  if (total < now && !o.shrink) {
    complain("Use the --shrink option to perform a shrink operation.");
    warn(
      "Shrinking an image will delete all data beyond the shrunken image's end. " +
        "Before performing such an operation, make sure there is no important data there.",
    );
    throw new QemuError("");
  }
  return Number(total);
}

async function resizeRaw(image: Editable, o: ResizeArguments): Promise<void> {
  const { file } = image;
  const old = file.size();
  const size = newSize(o, Math.ceil(old / 512) * 512);
  const mode = o.preallocation;
  if (mode === "metadata") throw new QemuError("Unsupported preallocation mode: metadata");
  if (file.blockDevice) {
    if (size !== old) throw new QemuError("Cannot resize device files");
    return;
  }
  try {
    if (size > Number.MAX_SAFE_INTEGER) throw new IoError("EFBIG", "too large");
    file.truncate(size);
    if (mode === "off" || size <= old) return;
    if (mode === "falloc" && (await reserve(file.fd, old, size - old))) return;
    const zeros = new Uint8Array(1024 * 1024);
    for (let at = old; at < size; at += zeros.length)
      file.write(zeros.subarray(0, Math.min(zeros.length, size - at)), at);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    if (file.size() > old) file.truncate(old);
    throw new QemuError(`Could not resize file: ${hostText(error.code) ?? error.message}`);
  }
}

async function reserve(fd: number, at: number, length: number): Promise<boolean> {
  const { allocate } = await import("../../../src/io/node/native.ts");
  return allocate(fd, at, length);
}

async function resizeQcow2(image: Editable, o: ResizeArguments): Promise<void> {
  const editor = await editImage(image);
  try {
    const size = newSize(o, editor.size);
    const { resizeImage } = await import("../../../src/image/qcow2/edit/resize.ts");
    const { allocate } = await import("../../../src/io/node/native.ts");
    await resizeImage(editor, size, {
      preallocation: o.preallocation === "off" ? undefined : o.preallocation,
      reserve: (which, at, length) =>
        allocate(which === "data" ? image.dataFile!.fd : image.file.fd, at, length),
    });
  } catch (error) {
    if (error instanceof IoError && codeOf(error) !== "EIO")
      throw new QemuError(`Could not resize file: ${hostText(error.code)!}`);
    throw error;
  } finally {
    editor.close();
  }
}
