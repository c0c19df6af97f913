import { fstatSync } from "node:fs";
import { ImprintError } from "../../../src/errors.ts";
import type { BitmapEntry } from "../../../src/image/qcow2/bitmaps.ts";
import type { BitmapBits, BitmapEditor } from "../../../src/image/qcow2/edit/bitmap-editor.ts";
import type { ImageEditor } from "../../../src/image/qcow2/edit/editor.ts";
import { editImage, worded } from "./edit.ts";
import { QemuError } from "./errors.ts";
import { type Editable, type OpenedChain, openEditable, openImage } from "./open.ts";
import { OPTION, parseCommand } from "./options.ts";
import { parseSize } from "./sizes.ts";

type Verb = "add" | "remove" | "clear" | "enable" | "disable" | "merge";

interface Action {
  readonly verb: Verb;
  /** Bitmap that is merged from. */
  readonly source: string;
}

interface BitmapArguments {
  readonly name: string;
  readonly bitmap: string;
  readonly actions: readonly Action[];
  readonly granularity: number;
  readonly format: string | null;
  readonly imageOpts: boolean;
  readonly sourceFile: string | null;
  readonly sourceFormat: string | null;
}

/** What qemu calls an image whose name does not matter. */
const NODE = "#block100";

/** qemu-img bitmap. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  const o = parseArguments(args);
  const { format, imageOpts } = o;
  const opened = await openEditable(o.name, { format, imageOpts, data: false });
  try {
    const source =
      o.sourceFile === null ? null : await openImage(o.sourceFile, { format: o.sourceFormat, data: false });
    try {
      const { dev, ino } = fstatSync(opened.file.fd, { bigint: true });
      if (source !== null && source.file.stat.dev === dev && source.file.stat.ino === ino)
        throw new QemuError(
          `Could not open '${o.sourceFile}': Failed to get shared "write" lock\n` +
            `Is another process using the image [${source.name}]?`,
        );
      await perform(o, opened, source);
    } finally {
      await source?.close();
    }
    return 0;
  } finally {
    await opened.close();
  }
}

function parseArguments(args: readonly string[]): BitmapArguments {
  const actions: Action[] = [];
  let granularity = 0;
  let format: string | null = null;
  let imageOpts = false;
  let sourceFile: string | null = null;
  let sourceFormat: string | null = null;
  const flag = (key: Verb) => ({ key, long: key });
  const specs = [
    { key: "source", short: "b", long: "source-file", arg: "file" },
    { key: "source-format", short: "F", long: "source-format", arg: "fmt" },
    OPTION.format,
    { key: "granularity", short: "g", long: "granularity", arg: "size" },
    OPTION.object,
    OPTION.imageOpts,
    flag("add"),
    flag("remove"),
    flag("clear"),
    flag("enable"),
    flag("disable"),
    { key: "merge", long: "merge", arg: "source" },
  ];
  const operands = parseCommand("bitmap", args, specs, (key, value) => {
    if (key === "source") sourceFile = value;
    else if (key === "source-format") sourceFormat = value;
    else if (key === "format") format = value;
    else if (key === "image-opts") imageOpts = true;
    else if (key === "granularity") granularity = parseSize(value, "granularity");
    else actions.push({ verb: key as Verb, source: value });
  });
  const has = (verb: Verb): boolean => actions.some((a) => a.verb === verb);
  if (actions.length === 0)
    throw new QemuError("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
  if (granularity !== 0 && !has("add")) throw new QemuError("granularity only supported with --add");
  if (sourceFormat !== null && sourceFile === null) throw new QemuError("-F only supported with -b");
  if (sourceFile !== null && !has("merge"))
    throw new QemuError("Merge bitmap source file only supported with --merge");
  if (operands.length !== 2) throw new QemuError("Expecting filename and bitmap name");
  const [name, bitmap] = operands;
  return { name, bitmap, actions, granularity, format, imageOpts, sourceFile, sourceFormat };
}

/** Does the actions in order; what was done before one that fails stays, as with native. */
async function perform(o: BitmapArguments, opened: Editable, source: OpenedChain | null): Promise<void> {
  if (opened.format !== "qcow2") return notQcow2(o);
  const { BitmapEditor } = await import("../../../src/image/qcow2/edit/bitmap-editor.ts");
  const editor: ImageEditor = await editImage(opened);
  try {
    const bitmaps = new BitmapEditor(editor);
    try {
      for (const action of o.actions) await act(o, action, bitmaps, source);
    } finally {
      bitmaps.store();
      editor.commit();
    }
  } finally {
    editor.close();
  }
}

async function act(
  o: BitmapArguments,
  action: Action,
  bitmaps: BitmapEditor,
  source: OpenedChain | null,
): Promise<void> {
  try {
    switch (action.verb) {
      case "add":
        bitmaps.add(o.bitmap, granularityOf(o, bitmaps.defaultGranularity), NODE);
        break;
      case "remove":
        bitmaps.remove(o.bitmap);
        break;
      case "clear":
        bitmaps.clear(o.bitmap);
        break;
      case "enable":
      case "disable":
        bitmaps.setEnabled(o.bitmap, action.verb === "enable");
        break;
      case "merge": {
        // Both are looked for before either is looked at, the one that is merged into first.
        bitmaps.demand(o.bitmap);
        if (source === null) bitmaps.demand(action.source);
        const from = source === null ? null : await entryOf(source, action.source);
        bitmaps.bits(o.bitmap);
        await bitmaps.merge(
          o.bitmap,
          from === null ? bitmaps.bits(action.source) : await bitsOf(source!, from),
        );
      }
    }
  } catch (error) {
    throw failed(action.verb, o.bitmap, error);
  }
}

/** The granularity that -g gives; native keeps its low 32 bits. */
function granularityOf(o: BitmapArguments, standard: number): number {
  return o.granularity === 0 ? standard : o.granularity % 0x100000000;
}

/** A bitmap of the file that -b names. */
async function entryOf(source: OpenedChain, name: string): Promise<BitmapEntry> {
  const { BitmapError, readBitmaps } = await import("../../../src/image/qcow2/bitmaps.ts");
  const list = source.header === null ? [] : await readBitmaps(source.file, source.header);
  const entry = list.find((b) => b.name === name);
  if (entry === undefined) throw new BitmapError(-1, `Dirty bitmap '${name}' not found`);
  return entry;
}

async function bitsOf(source: OpenedChain, entry: BitmapEntry): Promise<BitmapBits> {
  const { bitmapBits } = await import("../../../src/image/qcow2/edit/bitmap-editor.ts");
  return bitmapBits(source.file, source.header!, entry);
}

function failed(verb: Verb, bitmap: string, error: unknown): unknown {
  if (!(error instanceof ImprintError)) return error;
  const text = "text" in error && typeof error.text === "string" ? error.text : worded(error);
  return new QemuError(`Operation ${verb} on bitmap ${bitmap} failed: ${text}`);
}

/** A raw image has no bitmaps, and nowhere to store any. */
function notQcow2(o: BitmapArguments): never {
  const [{ verb }] = o.actions;
  const size = granularityOf(o, 65536);
  let text = `Dirty bitmap '${o.bitmap}' not found`;
  if (verb === "add") {
    text = `Can't store persistent bitmaps to ${NODE}: Operation not supported`;
    if (size < 512 || !Number.isInteger(Math.log2(size)))
      text = "Granularity must be power of 2 and at least 512";
    if (o.bitmap === "") text = "Bitmap name cannot be empty";
  }
  throw new QemuError(`Operation ${verb} on bitmap ${o.bitmap} failed: ${text}`);
}
