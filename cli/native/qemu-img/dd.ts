import { copyBlocks, copyBlocksToQcow2 } from "../../../src/engine/block-copy.ts";
import { RequestError } from "../../../src/engine/requests/copy-requests.ts";
import { ImprintError } from "../../../src/errors.ts";
import { createFormat } from "./create-options.ts";
import { complain, errorText, QemuError } from "./errors.ts";
import { newFilePath } from "./names.ts";
import { emptyTarget, newFile } from "./new-file.ts";
import { type OpenedChain, openImage } from "./open.ts";
import { OPTION, parseCommand } from "./options.ts";
import { parseSize } from "./sizes.ts";

/** What the command line of dd says. Bytes and blocks. */
interface DdRequest {
  input: string | null;
  output: string | null;
  block: number;
  count: number | null;
  skip: number | null;
}

const MAX_BLOCK = 0x7fffffffn;

/** qemu-img dd. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  let format: string | null = null;
  let target = "raw";
  let imageOpts = false;
  let share = false;
  const specs = [OPTION.format, OPTION.outputFormat, OPTION.object, OPTION.imageOpts, OPTION.share];
  const operands = parseCommand("dd", args, specs, (key, value) => {
    if (key === "format") format = value;
    else if (key === "output-format") target = value;
    else if (key === "image-opts") imageOpts = true;
    else share = true;
  });
  const request: DdRequest = { input: null, output: null, block: 512, count: null, skip: null };
  for (const operand of operands) readOperand(operand, request);
  const { input, output } = request;
  if (input === null || output === null) throw new QemuError("Must specify both input and output files");
  const chain = await openImage(input, { format, imageOpts, share, encrypted: "refuse" });
  try {
    await copy(chain, request, target, output);
  } finally {
    await chain.close();
  }
  return 0;
}

function readOperand(operand: string, request: DdRequest): void {
  const equals = operand.indexOf("=");
  const name = equals < 0 ? operand : operand.slice(0, equals);
  const value = equals < 0 ? null : operand.slice(equals + 1);
  if (value === null) throw new QemuError(`unrecognized operand ${name}`);
  if (name === "if") request.input = value;
  else if (name === "of") request.output = value;
  else if (name === "bs") request.block = parseSize(value, "bs", 1n, MAX_BLOCK);
  else if (name === "count") request.count = parseSize(value, "count");
  else if (name === "skip") request.skip = parseSize(value, "skip");
  else throw new QemuError(`unrecognized operand ${name}`);
}

async function copy(chain: OpenedChain, request: DdRequest, target: string, output: string): Promise<void> {
  const { disk } = chain;
  const { block } = request;
  if (target !== "raw" && target !== "file" && target !== "qcow2") {
    try {
      createFormat(target);
    } catch (error) {
      if (error instanceof QemuError && error.message.startsWith("Unknown file format"))
        throw new QemuError("Unknown file format");
      throw error;
    }
  }
  const path = newFilePath(output);
  // As native has it: the count says where the input ends, before anything is skipped.
  const to = request.count === null ? disk.size : Math.min(disk.size, request.count * block);
  const skip = (request.skip ?? 0) * block;
  const from = Math.min(skip, to);
  const failed = (text: string): QemuError =>
    new QemuError(`${output}: error while creating output image: ${text}`);
  const sources = chain.layers.map((l) => l.path);
  const file = newFile(path, path, sources, failed);
  try {
    if (skip > to) complain(`${request.input}: cannot skip to specified offset`);
    const made = target === "qcow2" ? emptyTarget(file) : file.target;
    const job = { disk, from, to, target: made };
    const bytes = Math.ceil((to - from) / 512) * 512;
    let size = bytes;
    if (target === "qcow2") size = await copyBlocksToQcow2(job, block);
    else {
      if (bytes > file.target.capacity) throw failed("Cannot grow device files");
      await copyBlocks(job);
    }
    made.commit(made.fresh ? size : 0);
  } catch (error) {
    file.target.abort();
    if (error instanceof RequestError)
      throw new QemuError(
        error.step === "write"
          ? `error while writing to output image file: ${errorText(error.cause)}`
          : `error while reading from input image file: ${errorText(error.cause)}`,
      );
    if (error instanceof ImprintError) throw new QemuError(`error while copying: ${errorText(error)}`);
    throw error;
  }
}
