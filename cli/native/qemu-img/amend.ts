import { IoError } from "../../../src/errors.ts";
import type { AmendOptions } from "../../../src/image/qcow2/edit/amend.ts";
import { print } from "../../ui/out.ts";
import { isFormatName, isQcow2Options, lengthTrouble } from "./create-options.ts";
import { codeOf, editImage } from "./edit.ts";
import { QemuError, QemuUsageError } from "./errors.ts";
import { hostText } from "./host-text.ts";
import {
  joinOptions,
  type OptionDef,
  type OptionValue,
  optionsHelp,
  parseOptionList,
  wantsHelp,
} from "./keyval.ts";
import { type Editable, openEditable } from "./open.ts";
import { checkCache, OPTION, parseCommand } from "./options.ts";

const DEFS: readonly OptionDef[] = [
  { name: "encrypt.state", type: "string", help: "Select new state of affected keyslots (active/inactive)" },
  { name: "encrypt.keyslot", type: "number", help: "Select a single keyslot to modify explicitly" },
  { name: "encrypt.old-secret", type: "string", help: "Select all keyslots that match this password" },
  {
    name: "encrypt.new-secret",
    type: "string",
    help: "New secret to set in the matching keyslots. Empty string to erase",
  },
  { name: "encrypt.iter-time", type: "number", help: "Time to spend in PBKDF in milliseconds" },
  { name: "size", type: "size", help: "Virtual disk size" },
  { name: "compat", type: "string", help: "Compatibility level (v2 [0.10] or v3 [1.1])" },
  { name: "backing_file", type: "string", help: "File name of a base image" },
  { name: "backing_fmt", type: "string", help: "Image format of the base image" },
  { name: "data_file", type: "string", help: "File name of an external data file" },
  { name: "data_file_raw", type: "bool", help: "The external data file must stay valid as a raw image" },
  { name: "lazy_refcounts", type: "bool", help: "Postpone refcount updates" },
  { name: "refcount_bits", type: "number", help: "Width of a reference count entry in bits" },
];

interface AmendArguments {
  readonly operands: readonly string[];
  readonly options: string;
  readonly format: string | null;
  readonly imageOpts: boolean;
  readonly progress: boolean;
  readonly cache: string;
}

/** qemu-img amend. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  const o = parseArguments(args);
  if (o.format !== null && wantsHelp(o.options)) {
    if (!isFormatName(o.format)) throw new QemuError(`Unknown file format '${o.format}'`);
    if (o.format !== "qcow2") throw noAmendment(o.format);
    print(helpText());
    return 0;
  }
  try {
    if (o.operands.length !== 1) throw new QemuError("Expecting one image file name");
    checkCache(o.cache);
    const image = await openEditable(o.operands[0], { format: o.format, imageOpts: o.imageOpts });
    try {
      await amend(image, o);
    } finally {
      await image.close();
    }
  } finally {
    if (o.progress) print("\n");
  }
  return 0;
}

function noAmendment(format: string): QemuError {
  return new QemuError(`Format driver '${format}' does not support option amendment`);
}

function helpText(): string {
  return optionsHelp("Amend options for 'qcow2':", DEFS);
}

function parseArguments(args: readonly string[]): AmendArguments {
  let options: string | null = null;
  let format: string | null = null;
  let imageOpts = false;
  let progress = false;
  let quiet = false;
  let cache = "writeback";
  const specs = [
    OPTION.options,
    OPTION.format,
    OPTION.cache,
    OPTION.progress,
    OPTION.quiet,
    OPTION.object,
    OPTION.imageOpts,
    { key: "force", long: "force" },
  ];
  const operands = parseCommand("amend", args, specs, (key, value) => {
    switch (key) {
      case "options":
        options = joinOptions(options, value);
        break;
      case "format":
        format = value;
        break;
      case "cache":
        cache = value;
        break;
      case "progress":
        progress = true;
        break;
      case "quiet":
        quiet = true;
        break;
      case "image-opts":
        imageOpts = true;
    }
  });
  if (options === null) throw new QemuUsageError("Must specify options (-o)");
  return { operands, options, format, imageOpts, progress: progress && !quiet, cache };
}

async function amend(image: Editable, o: AmendArguments): Promise<void> {
  if (image.header === null) throw noAmendment(image.format);
  if (wantsHelp(o.options)) {
    print(helpText());
    return;
  }
  const values = readOptions(o.options);
  const shown = new Progress(o.progress);
  shown.update(0);
  const editor = await editImage(image);
  try {
    const options = amendOptions(values, editor.header.cryptMethod !== 0);
    const { amendImage } = await import("../../../src/image/qcow2/edit/amend.ts");
    await amendImage(editor, { ...options, progress: (percent) => shown.update(percent) });
  } catch (error) {
    if (error instanceof IoError && codeOf(error) !== "EIO")
      throw new QemuError(`Could not change the image: ${hostText(codeOf(error))}`);
    throw error;
  } finally {
    editor.close();
    shown.update(100);
  }
}

/** Reads -o; what only `create` knows is told apart from what nobody knows. */
function readOptions(text: string): Map<string, OptionValue> {
  try {
    return parseOptionList(text, DEFS);
  } catch (error) {
    if (!(error instanceof QemuError)) throw error;
    if (!isQcow2Options(text)) throw error;
    throw new QemuError(`${error.message}\nThis option is only supported for image creation`);
  }
}

/** The engine's options. Throws QemuError with native's text for values that are none, in native's order. */
function amendOptions(values: ReadonlyMap<string, OptionValue>, encrypted: boolean): AmendOptions {
  const text = (name: string) => values.get(name)?.text;
  const flag = (name: string) => values.get(name)?.value as boolean | undefined;
  for (const name of values.keys())
    if (name.startsWith("encrypt."))
      throw new QemuError(
        encrypted
          ? "Encryption keys cannot be changed by this tool"
          : "Can't amend encryption options - encryption not present",
      );
  const size = values.get("size")?.value as bigint | undefined;
  const bits = values.get("refcount_bits")?.value as bigint | undefined;
  const version = compatVersion(text("compat"));
  if (bits !== undefined && ![1n, 2n, 4n, 8n, 16n, 32n, 64n].includes(bits))
    throw new QemuError("Refcount width must be a power of two and may not exceed 64 bits");
  const trouble = size === undefined ? null : lengthTrouble(size);
  if (trouble !== null) throw new QemuError(trouble);
  return {
    version,
    size: size === undefined ? undefined : Number(size),
    backingFile: text("backing_file"),
    backingFormat: text("backing_fmt"),
    lazyRefcounts: flag("lazy_refcounts"),
    refcountOrder: bits === undefined ? undefined : Math.log2(Number(bits)),
    dataFile: text("data_file"),
    rawDataFile: flag("data_file_raw"),
  };
}

function compatVersion(text: string | undefined): 2 | 3 | undefined {
  if (text === undefined) return undefined;
  if (text === "0.10" || text === "v2") return 2;
  if (text === "1.1" || text === "v3") return 3;
  throw new QemuError(`Unknown compatibility level ${text}`);
}

/** Percents as amend shows them: 0 and 100 each time, others a percent or more apart. */
class Progress {
  private readonly shown: boolean;
  private last = 0;

  constructor(shown: boolean) {
    this.shown = shown;
  }

  update(percent: number): void {
    if (!this.shown || (percent !== 0 && percent !== 100 && Math.abs(percent - this.last) <= 1)) return;
    this.last = percent;
    print(`    (${percent.toFixed(2)}/100%)\r`);
  }
}
