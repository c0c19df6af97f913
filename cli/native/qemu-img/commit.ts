import { fstatSync, realpathSync } from "node:fs";
import { type CommitBase, commitLayers } from "../../../src/engine/commit.ts";
import { ImprintError } from "../../../src/errors.ts";
import type { ImageEditor } from "../../../src/image/qcow2/edit/editor.ts";
import { type OpenedDurableFile, openDurableFile } from "../../../src/io/node/durable-file.ts";
import type { FileSource } from "../../../src/io/node/file-source.ts";
import { punchHole } from "../../../src/io/node/native.ts";
import { checkTarget } from "../../../src/io/node/safety.ts";
import { print } from "../../ui/out.ts";
import { editImage, worded } from "./edit.ts";
import { QemuError, QemuUsageError } from "./errors.ts";
import { refuseLocked } from "./lock.ts";
import { type Editable, type Layer, openEditable } from "./open.ts";
import { checkCache, OPTION, parseCommand } from "./options.ts";
import { QemuProgress } from "./progress.ts";
import { parseSize } from "./sizes.ts";

/** What the command line of commit says. */
interface CommitRequest {
  /** The image, as it was named. */
  readonly file: string;
  readonly base: string | null;
  /** The top keeps its data. */
  readonly keep: boolean;
  /** Bytes a second, or 0. */
  readonly rate: number;
  readonly progress: QemuProgress;
}

/** qemu-img commit. */
export async function run(_program: string, args: readonly string[]): Promise<number> {
  let format: string | null = null;
  let base: string | null = null;
  let cache = "writeback";
  let keep = false;
  let quiet = false;
  let progress = false;
  let imageOpts = false;
  let rate = 0;
  const specs = [
    OPTION.format,
    OPTION.object,
    OPTION.imageOpts,
    OPTION.quiet,
    OPTION.progress,
    OPTION.cache,
    { key: "base", short: "b", arg: "base" },
    { key: "keep", short: "d" },
    { key: "rate", short: "r", arg: "rate_limit" },
  ];
  const operands = parseCommand("commit", args, specs, (key, value) => {
    if (key === "format") format = value;
    else if (key === "base") {
      base = value;
      // What lies between would be out of step with an emptied top.
      keep = true;
    } else if (key === "cache") cache = value;
    else if (key === "keep") keep = true;
    else if (key === "quiet") quiet = true;
    else if (key === "progress") progress = true;
    else if (key === "rate") rate = parseSize(value, "rate limit");
    else imageOpts = true;
  });
  if (operands.length !== 1) throw new QemuUsageError("Expecting one image file name");
  checkCache(cache);
  const shown = new QemuProgress(progress && !quiet);
  try {
    const image = await openEditable(operands[0], { format, imageOpts, encrypted: "refuse" });
    try {
      await commit(image, { file: operands[0], base, keep, rate, progress: shown });
    } finally {
      await image.close();
    }
  } finally {
    shown.end();
  }
  if (!quiet) print("Image committed.\n");
  return 0;
}

async function commit(image: Editable, request: CommitRequest): Promise<void> {
  const { layer, layers } = findBase(image, request);
  const { progress, keep } = request;
  let top: ImageEditor | null = null;
  let base: OpenedBase | null = null;
  try {
    top = await editImage(image);
    base = await openBase(layer);
    if (layer.disk.size < top.size) await base.grow(top.size);
    const slow = rateLimit(request.rate);
    const { emptyImage } = await import("../../../src/image/qcow2/edit/empty.ts");
    const emptied = top;
    await commitLayers({
      top,
      layers,
      base,
      ...(keep ? {} : { empty: () => emptyImage(emptied) }),
      onProgress: (done, total, copied) => {
        progress.update(done, total);
        return slow(copied);
      },
    });
    progress.complete();
  } catch (error) {
    if (error instanceof ImprintError) throw new QemuError(`Block job failed: ${worded(error)}`);
    throw error;
  } finally {
    base?.close();
    top?.close();
  }
}

/** The layer that takes the data, and the number of layers above it. */
function findBase(image: Editable, request: CommitRequest): { layer: Layer; layers: number } {
  const name = request.base;
  if (name === null) {
    if (image.backing === null) throw new QemuError("Image does not have a backing file");
    return { layer: image.backing, layers: 1 };
  }
  const wanted = realPath(name);
  let named = image.header?.backingFile ?? null;
  let layers = 1;
  for (let layer = image.backing; layer !== null; layer = layer.backing) {
    if (layer.name === name || named === name || (wanted !== null && realPath(layer.path) === wanted))
      return { layer, layers };
    named = layer.header?.backingFile ?? null;
    layers++;
  }
  throw new QemuError(`Did not find '${name}' in the backing chain of '${request.file}'`);
}

function realPath(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}

/** The base, opened to be written. */
interface OpenedBase extends CommitBase {
  grow(size: number): void | Promise<void>;
  close(): void;
}

async function openBase(layer: Layer): Promise<OpenedBase> {
  refuseLocked(layer.file, layer.format, "write");
  checkTarget(layer.path);
  const opened: OpenedDurableFile[] = [];
  const open = (file: FileSource): OpenedDurableFile => {
    const durable = openDurableFile(file.path, file.label);
    opened.push(durable);
    return durable;
  };
  const close = (): void => {
    for (const f of opened) f.close();
  };
  try {
    const file = open(layer.file);
    if (layer.header === null) return { ...rawBase(file), close };
    const { backing, name } = layer;
    const dataFile = layer.header.external ? open((await layer.image!.openData()) as FileSource) : null;
    const editor = await editImage({ file, backing, name, dataFile });
    return {
      write: (bytes, at) => editor.write(bytes, at),
      writeZeros: (at, length) => editor.writeZeros(at, length),
      grow: async (size) => {
        const { resizeImage } = await import("../../../src/image/qcow2/edit/resize.ts");
        await resizeImage(editor, size);
      },
      finish: () => editor.commit(),
      close: () => {
        editor.close();
        close();
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

const ZEROS = 1024 * 1024;

function rawBase(file: OpenedDurableFile): Omit<OpenedBase, "close"> {
  return {
    write: (bytes, at) => file.write(bytes, at),
    writeZeros: (at, length) => {
      const isFile = fstatSync(file.fd).isFile();
      const end = isFile ? Math.min(at + length, file.size()) : at + length;
      if (end <= at || (isFile && punchHole(file.fd, at, end - at))) return;
      const zeros = new Uint8Array(Math.min(ZEROS, end - at));
      for (let p = at; p < end; p += zeros.length)
        file.write(zeros.subarray(0, Math.min(zeros.length, end - p)), p);
    },
    grow: (size) => {
      if (file.size() < size && !fstatSync(file.fd).isFile())
        throw new QemuError("Block job failed: Cannot grow device files");
      file.grow(size);
    },
    finish: () => file.sync(),
  };
}

/** Slows a job down to so many bytes a second; 0: not at all. */
function rateLimit(rate: number): (copied: number) => void | Promise<void> {
  if (rate === 0) return () => {};
  const start = performance.now();
  let sent = 0;
  return (copied) => {
    sent += copied;
    const ahead = (sent / rate) * 1000 - (performance.now() - start);
    return ahead > 1 ? new Promise((done) => setTimeout(done, ahead)) : undefined;
  };
}
