import { rebaseImage } from "../../../src/engine/rebase.ts";
import { ImprintError, IoError } from "../../../src/errors.ts";
import type { ImageEditor } from "../../../src/image/qcow2/edit/editor.ts";
import { LIMIT } from "../../../src/image/qcow2/layout.ts";
import { PaddedSource } from "../../../src/io/padded.ts";
import type { Source } from "../../../src/io/source.ts";
import { besideImage, isFormatName } from "./create-options.ts";
import { editImage } from "./edit.ts";
import { errorText, QemuError, QemuUsageError } from "./errors.ts";
import { type Editable, type OpenedChain, openEditable, openImage } from "./open.ts";
import { checkCache, OPTION, parseCommand } from "./options.ts";
import { QemuProgress } from "./progress.ts";

/** What the command line of rebase says. */
interface RebaseRequest {
  readonly backing: string | null;
  readonly backingFormat: string | null;
  /** -u: only the name is changed. */
  readonly unsafe: boolean;
  readonly share: boolean;
  readonly progress: QemuProgress;
}

/** Codes of a host that takes no more bytes. */
const NO_ROOM = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** qemu-img rebase. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  let format: string | null = null;
  let backing: string | null = null;
  let backingFormat: string | null = null;
  let cache = "writeback";
  let sourceCache = "writeback";
  let unsafe = false;
  let share = false;
  let quiet = false;
  let progress = false;
  let imageOpts = false;
  const specs = [
    OPTION.format,
    OPTION.object,
    OPTION.imageOpts,
    OPTION.share,
    OPTION.quiet,
    OPTION.progress,
    OPTION.cache,
    OPTION.sourceCache,
    { key: "backing", short: "b", arg: "backing_file" },
    { key: "backing-format", short: "F", arg: "backing_fmt" },
    { key: "unsafe", short: "u" },
  ];
  const operands = parseCommand("rebase", args, specs, (key, value) => {
    if (key === "format") format = value;
    else if (key === "backing") backing = value;
    else if (key === "backing-format") backingFormat = value;
    else if (key === "cache") cache = value;
    else if (key === "source-cache") sourceCache = value;
    else if (key === "unsafe") unsafe = true;
    else if (key === "share") share = true;
    else if (key === "quiet") quiet = true;
    else if (key === "progress") progress = true;
    else imageOpts = true;
  });
  if (operands.length !== 1) throw new QemuUsageError("Expecting one image file name");
  if (!unsafe && backing === null)
    throw new QemuUsageError("Must specify backing file (-b) or use unsafe mode (-u)");
  const shown = new QemuProgress(progress && !quiet);
  try {
    checkCache(cache);
    checkCache(sourceCache, "source");
    const image = await openEditable(operands[0], {
      format,
      imageOpts,
      ...(unsafe ? { backing: "none" } : { encrypted: "refuse" }),
    });
    try {
      await rebase(image, { backing, backingFormat, unsafe, share, progress: shown });
    } finally {
      await image.close();
    }
  } finally {
    shown.end();
  }
  return 0;
}

async function rebase(image: Editable, request: RebaseRequest): Promise<void> {
  const { backing, backingFormat, unsafe, progress } = request;
  if (backingFormat !== null && !isFormatName(backingFormat))
    throw new QemuError(`Invalid format name: '${backingFormat}'`);
  const name = backing === null || backing === "" ? null : backing;
  // Native copies first and fails then.
  if (unsafe) checkNames(name, backingFormat, image.header === null);
  let next: OpenedChain | null = null;
  let editor: ImageEditor | null = null;
  try {
    if (!unsafe && name !== null) next = await openNext(image, name, request);
    checkNames(name, backingFormat, image.header === null);
    if (image.header === null) throw cannotChange(backing, "Operation not supported");
    const old = image.backing?.disk ?? null;
    const under: Source = new PaddedSource(old, image.header.size);
    // -u opens nothing that the image names, and touches no data: whatever stands for the data file is not written.
    const dataFile = image.dataFile ?? (unsafe && image.header.external ? image.file : null);
    editor = await editImage({ ...image, dataFile }, unsafe ? null : under);
    const names = { backingFile: name, backingFormat: name === null ? null : backingFormat };
    if (unsafe) {
      editor.setHeader(names);
      editor.commit();
    } else
      await rebaseImage({
        ...names,
        editor,
        old: under,
        next: next?.disk ?? null,
        onProgress: (done, total) => progress.update(done, total),
      });
    if (unsafe) progress.update(1, 1);
    else progress.complete();
  } catch (error) {
    const { HeaderFull } = await import("../../../src/image/qcow2/edit/editor.ts");
    if (error instanceof HeaderFull || error instanceof RangeError)
      throw cannotChange(backing, "No space left in the file header");
    if (error instanceof IoError && NO_ROOM.has(error.code))
      throw new QemuError(`Error while writing to COW image: ${errorText(error)}`);
    if (error instanceof ImprintError) throw cannotChange(backing, errorText(error));
    throw error;
  } finally {
    editor?.close();
    await next?.close();
  }
}

/** `anyLength`: how long the name is does not matter. */
function checkNames(name: string | null, format: string | null, anyLength: boolean): void {
  if (name === null) return;
  if (format === null) throw cannotChange(name, "backing format must be specified");
  if (anyLength) return;
  if (new TextEncoder().encode(name).length > LIMIT.backingName) throw cannotChange(name, "Invalid argument");
}

function cannotChange(name: string | null, text: string): QemuError {
  return new QemuError(`Could not change the backing file to '${name ?? "(null)"}': ${text}`);
}

async function openNext(image: Editable, name: string, request: RebaseRequest): Promise<OpenedChain> {
  const full = besideImage(image.path, name);
  let chain: OpenedChain;
  try {
    chain = await openImage(full, {
      format: request.backingFormat,
      share: request.share,
      encrypted: "refuse",
    });
  } catch (error) {
    if (!(error instanceof QemuError)) throw error;
    const text = error.message.replace(`Could not open '${full}': `, "");
    throw new QemuError(`Could not open new backing file '${name}': ${text}`);
  }
  const { fstatSync } = await import("node:fs");
  // A raw image cannot have a backing file: that is said later.
  if (image.header === null) return chain;
  const me = fstatSync(image.file.fd, { bigint: true });
  for (const layer of chain.layers) {
    const st = fstatSync(layer.file.fd, { bigint: true });
    if (st.dev !== me.dev || st.ino !== me.ino) continue;
    await chain.close();
    throw new QemuError(
      `Could not open new backing file '${name}': Failed to get shared "write" lock\n` +
        `Is another process using the image [${layer.name}]?`,
    );
  }
  return chain;
}
