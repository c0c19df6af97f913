import { resolve } from "node:path";
import { ImprintError, IoError } from "../../../src/errors.ts";
import { print, printError } from "../../ui/out.ts";
import {
  besideImage,
  type CreateFormat,
  type CreateValues,
  createFormat,
  createOptionsHelp,
  formattingLine,
  lengthTrouble,
  qcow2Options,
  rawOptions,
  readCreateOptions,
  setSize,
  setText,
  sizeOf,
  textOf,
} from "./create-options.ts";
import { errorText, Finished, QemuError, QemuUsageError } from "./errors.ts";
import { hostText } from "./host-text.ts";
import { joinOptions, wantsHelp } from "./keyval.ts";
import { newFilePath } from "./names.ts";
import { type NewFile, newFile } from "./new-file.ts";
import { openImage } from "./open.ts";
import { OPTION, parseCommand } from "./options.ts";
import { parseSize, readSize } from "./sizes.ts";

/** What the command line of create says. */
interface CreateRequest {
  readonly name: string;
  readonly format: string;
  readonly options: string | null;
  /** Bytes, or null. */
  readonly size: bigint | null;
  readonly backing: string | null;
  readonly backingFormat: string | null;
  /** -u: the backing file is not looked at. */
  readonly unchecked: boolean;
  readonly quiet: boolean;
}

/** qemu-img create. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  let format = "raw";
  let options: string | null = null;
  let backing: string | null = null;
  let backingFormat: string | null = null;
  let unchecked = false;
  let quiet = false;
  const specs = [
    OPTION.format,
    OPTION.object,
    OPTION.quiet,
    OPTION.options,
    { key: "backing", short: "b", arg: "backing_file" },
    { key: "backing-format", short: "F", arg: "backing_fmt" },
    { key: "unchecked", short: "u" },
  ];
  const operands = parseCommand("create", args, specs, (key, value) => {
    if (key === "format") format = value;
    else if (key === "quiet") quiet = true;
    else if (key === "options") options = joinOptions(options, value);
    else if (key === "backing") backing = value;
    else if (key === "backing-format") backingFormat = value;
    else unchecked = true;
  });
  const [name, sizeText, ...more] = operands;
  if (options !== null && wantsHelp(options)) {
    print(createOptionsHelp(createFormat(format), name !== undefined));
    return 0;
  }
  if (name === undefined) throw new QemuUsageError("Expecting image file name");
  const size = sizeText === undefined ? null : imageSize(sizeText);
  if (more.length > 0) throw new QemuUsageError(`Unexpected argument: ${more[0]}`);
  await create({ name, format, options, size, backing, backingFormat, unchecked, quiet });
  return 0;
}

async function create(request: CreateRequest): Promise<void> {
  const { name } = request;
  const prefix = `${name}: `;
  const format = createFormat(request.format, prefix);
  const path = filePath(name, prefix);
  const values = readCreateOptions(format, request.options, prefix);
  if (request.size !== null) {
    if (sizeOf(values) !== null) throw new QemuError(`${prefix}The image size must be specified only once`);
    setSize(values, request.size);
  }
  setBacking(values, format, request, prefix);
  const backing = textOf(values, "backing_file");
  const sources: string[] = [];
  if (backing !== null) sources.push(...(await lookAtBacking(values, request, prefix)));
  const size = sizeOf(values);
  if (size === null || size === MINUS_ONE)
    throw new QemuError(`${prefix}Image creation needs a size parameter`);
  if (!request.quiet) print(formattingLine(name, format, values));
  try {
    if (format !== "qcow2") await createRaw(path, format, values, size, prefix);
    else await createImage(path, values, size, sources, prefix);
  } catch (error) {
    if (error instanceof ImprintError) throw new QemuError(prefix + errorText(error));
    throw error;
  }
}

const MINUS_ONE = (1n << 64n) - 1n;

/** A size operand, in bytes, all 64 bits of it. */
function imageSize(text: string): bigint {
  parseSize(text, "image size");
  return readSize(text) as bigint;
}

/** The path that a name stands for: a file's, as only files are made here. */
function filePath(name: string, prefix: string): string {
  try {
    return newFilePath(name);
  } catch (error) {
    throw error instanceof QemuError ? new QemuError(prefix + error.message) : error;
  }
}

function setBacking(
  values: CreateValues,
  format: CreateFormat,
  request: CreateRequest,
  prefix: string,
): void {
  const { backing, backingFormat, name } = request;
  if (backing !== null) {
    if (format !== "qcow2")
      throw new QemuError(`${prefix}Backing file not supported for file format '${format}'`);
    setText(values, "backing_file", backing);
  }
  if (backingFormat !== null) {
    if (format !== "qcow2")
      throw new QemuError(`${prefix}Backing file format not supported for file format '${format}'`);
    setText(values, "backing_fmt", backingFormat);
  }
  const file = textOf(values, "backing_file");
  if (file === "") throw new QemuError(`${prefix}Expected backing file name, got empty string`);
  if (file === name)
    throw new QemuError(
      `${prefix}Error: Trying to create an image with the same filename as the backing file`,
    );
}

/**
 * Opens the backing file, whose size the image takes where none was said. Returns the paths of all files of its chain.
 */
async function lookAtBacking(
  values: CreateValues,
  request: CreateRequest,
  prefix: string,
): Promise<string[]> {
  const backing = textOf(values, "backing_file")!;
  const format = textOf(values, "backing_fmt");
  if (request.unchecked) {
    if (format === null) throw new QemuError(`${prefix}Backing file specified without backing format`);
    return [];
  }
  const full = besideImage(request.name, backing);
  let chain: Awaited<ReturnType<typeof openImage>>;
  try {
    chain = await openImage(full, { format, share: true, data: false });
  } catch (error) {
    if (!(error instanceof QemuError)) throw error;
    const text = error.message.replace(`Could not open '${full}': `, "");
    throw new QemuError(`${prefix}${text}\nCould not open backing image.`);
  }
  try {
    if (format === null) {
      // Native ends this text without a newline.
      printError(
        `qemu-img: ${prefix}Backing file specified without backing format\nDetected format of ${chain.format}.`,
      );
      throw new Finished(1);
    }
    if (sizeOf(values) === null) setSize(values, BigInt(chain.disk.size));
    return chain.layers.map((l) => l.path);
  } finally {
    await chain.close();
  }
}

async function createRaw(
  path: string,
  format: CreateFormat,
  values: CreateValues,
  size: bigint,
  prefix: string,
): Promise<void> {
  const file = newFile(path, prefix.slice(0, -2), [], (text) => new QemuError(prefix + text));
  try {
    const { rawTrouble } = await import("./device-target.ts");
    const { preallocation } = rawOptions(values, 0, prefix);
    if (wholeSectors(size) >= 1n << 63n)
      throw new QemuError(`${prefix}Could not resize file: ${hostText("EINVAL")}`);
    const bytes = Number(wholeSectors(size));
    if (bytes > Number.MAX_SAFE_INTEGER) throw tooLarge(format, prefix);
    const { target } = file;
    const trouble = rawTrouble(file, bytes, preallocation);
    if (trouble !== null) throw new QemuError(prefix + trouble);
    file.allocate(0, bytes, preallocation);
    if (target.capacity === Number.POSITIVE_INFINITY) target.commit(bytes);
    else target.commit(0);
  } catch (error) {
    file.target.abort();
    if (error instanceof IoError && error.code === "EFBIG") throw tooLarge(format, prefix);
    throw error;
  }
}

async function createImage(
  path: string,
  values: CreateValues,
  size: bigint,
  sources: readonly string[],
  prefix: string,
): Promise<void> {
  const opened: NewFile[] = [];
  const fail = (text: string): QemuError => new QemuError(prefix + text);
  try {
    const image = newFile(path, prefix.slice(0, -2), sources, fail);
    opened.push(image);
    const dataName = textOf(values, "data_file");
    let data: NewFile | null = null;
    if (dataName !== null) {
      const dataPath = filePath(dataName, prefix);
      if (resolve(dataPath) === resolve(path))
        throw new QemuError(`${prefix}Could not create '${dataName}': it is the image itself`);
      data = newFile(dataPath, dataName, [...sources, path], fail);
      opened.push(data);
    }
    const trouble = lengthTrouble(wholeSectors(size));
    const options = qcow2Options(values, trouble === null ? Number(wholeSectors(size)) : 0, prefix);
    if (trouble !== null) throw fail(`Could not resize image: ${trouble}`);
    const { qcow2Trouble } = await import("./device-target.ts");
    const { createQcow2 } = await import("../../../src/image/qcow2/create/create.ts");
    let made: ReturnType<typeof createQcow2>;
    try {
      const refused = qcow2Trouble(image, data, options);
      if (refused !== null) throw fail(refused);
      made = createQcow2(image.target, options);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      const { backingFile, backingFormat } = options;
      throw new QemuError(
        `${prefix}Could not assign backing file '${backingFile}' with format '${backingFormat}': ${hostText("ENOSPC")}`,
      );
    }
    if (Math.max(made.size, made.dataFileSize) > Number.MAX_SAFE_INTEGER) throw tooLarge("qcow2", prefix);
    const { from, to } = made.data;
    (data ?? image).allocate(from, to - from, options.preallocation);
    data?.target.commit(made.dataFileSize);
    image.target.commit(made.size);
  } catch (error) {
    for (const file of opened) file.target.abort();
    if (error instanceof IoError && error.code === "EFBIG") throw tooLarge("qcow2", prefix);
    throw error;
  }
}

function tooLarge(format: CreateFormat, prefix: string): QemuError {
  const hint = format === "qcow2" ? " (try using a larger cluster size)" : "";
  return new QemuError(`${prefix}The image size is too large for file format '${format}'${hint}`);
}

/** `size` bytes in whole sectors of 512, as bytes. */
function wholeSectors(size: bigint): bigint {
  return ((size + 511n) / 512n) * 512n;
}
