import type { JobOptions } from "../../src/engine/api.ts";
import { AbortError, ImprintError, IoError, RefusedError } from "../../src/errors.ts";
import { ExtError } from "../../src/fs/ext/errors.ts";
import type { E2image } from "../../src/image/e2image/image.ts";
import type { InPlaceTarget } from "../../src/io/node/in-place-target.ts";
import type { Source } from "../../src/io/source.ts";
import { withJob } from "../commands/job.ts";
import { describe } from "../ui/errors.ts";
import { printable } from "../ui/format.ts";
import { printError } from "../ui/out.ts";
import type { E2imageOptions } from "./e2image-options.ts";
import { hasDetail, nativeText } from "./native-errors.ts";

const FAILURE = 1;

/** `e2image -I DEVICE IMAGE`: installs a normal image's metadata on a device or file, in place. */
export async function install(program: string, o: E2imageOptions, image: string): Promise<number> {
  const fail = (text: string, error: unknown): number => {
    if (!(error instanceof ImprintError)) throw error;
    printError(`${text}\n`);
    if (hasDetail(error)) printError(`${program}: ${printable(error.message)}\n`);
    return FAILURE;
  };
  const { openFileSource } = await import("../../src/io/node/file-source.ts");
  const { readE2image } = await import("../../src/image/e2image/image.ts");
  let file: Source;
  try {
    file = openFileSource(image);
  } catch (error) {
    return fail(`${program}: ${nativeText(error)} while trying to open ${image}`, error);
  }
  try {
    let opened: E2image;
    try {
      opened = await readE2image(file);
    } catch (error) {
      const doing =
        error instanceof ExtError && error.doing !== "" ? error.doing : `while trying to open ${image}`;
      return fail(`${program}: ${nativeText(error)} ${doing}`, error);
    }
    let device: Device;
    try {
      device = await openDevice(o.source, image);
    } catch (error) {
      // What we refuse says why; what the host refuses is said in native's words, which name the device first.
      if (error instanceof RefusedError && error.code !== "EISDIR" && error.code !== "ENOTSEEKABLE")
        throw error;
      return fail(`${o.source}: while opening device file`, error);
    }
    return await withJob((job) => installOn(program, o, image, opened, device, job), { line: false });
  } finally {
    await file.close();
  }
}

interface Device {
  readonly target: InPlaceTarget;
  /** Bytes. */
  readonly size: number;
}

async function openDevice(path: string, image: string): Promise<Device> {
  const { checkTarget, openInPlaceTarget } = await import("../../src/node.ts");
  const { kind, size } = checkTarget(path, { sources: [image] });
  if (kind === "new") throw new IoError("ENOENT", `${path}: no such file or directory`);
  return { target: openInPlaceTarget(path), size };
}

async function installOn(
  program: string,
  o: E2imageOptions,
  image: string,
  opened: E2image,
  { target, size }: Device,
  job: JobOptions,
): Promise<number> {
  const { installE2image } = await import("../../src/image/e2image/install.ts");
  let writing = false;
  try {
    await installE2image(opened, target, {
      size,
      time: Math.floor(Date.now() / 1000),
      force: o.force,
      signal: job.signal,
      onWrite: () => {
        writing = true;
      },
    });
    target.commit(size);
    return 0;
  } catch (error) {
    target.abort();
    if (error instanceof AbortError)
      throw new AbortError(`interrupted, ${writing ? `${o.source} is incomplete` : "nothing was written"}`);
    if (error instanceof ExtError) printError(`${image}: while restoring the image table\n`);
    printError(`${program}: ${printable(describe(error))}\n`);
    if (writing) printError(`${program}: ${o.source} is incomplete; the same command completes it\n`);
    return FAILURE;
  }
}
