import type { Inspection, OutputFormat } from "../../src/engine/api.ts";
import type { Opened } from "../../src/engine/open.ts";
import { ImprintError, IoError, RefusedError } from "../../src/errors.ts";
import type { Gate } from "../../src/io/gate.ts";
import type { Source } from "../../src/io/source.ts";
import { UsageError } from "../ui/errors.ts";

export interface InputOptions {
  /** Read it as this format; null looks at it. */
  readonly format: OutputFormat | null;
  /** Partition to take. */
  readonly partition?: number | null;
  /** Bytes of a sector of the disk; null where it says so itself or has to be guessed. */
  readonly sectorSize?: number | null;
}

const files = new Set<string>();
let target: string | null = null;

/** Paths of all files that were opened to be read so far, those that images name among them. */
export function inputFiles(): readonly string[] {
  return [...files];
}

/** Forgets what was read and what will be written, for a process that runs several command lines. */
export function forgetInputs(): void {
  files.clear();
  target = null;
}

/** Says what will be written: from now on no image may name it as its backing or data file. */
export function keepApart(path: string): void {
  target = path;
}

/** The gate of the command line: files beside the image that names them, opened when they are first needed. */
async function noticedGate(): Promise<Gate> {
  const { fileGate } = await import("../../src/io/node/gate.ts");
  const gate = fileGate();
  return async (request) => {
    const source = await gate(request).catch((error: unknown) => {
      if (!(error instanceof IoError)) throw error;
      const text = `${request.purpose} of ${request.from}: ${error.message}`;
      throw new IoError(error.code, text, error.offset, error);
    });
    try {
      if (target !== null) {
        const { checkTarget } = await import("../../src/io/node/safety.ts");
        checkTarget(target, { sources: [source.label], force: true });
      }
    } catch (error) {
      await source.close();
      throw error;
    }
    files.add(source.label);
    return source;
  };
}

/**
 * Opens what a command reads, down to the filesystem. "-" is standard input: used in place where it is a file or
 * device, else kept in a temporary file that goes away when the process ends.
 */
export async function openInput(name: string, options: InputOptions): Promise<Opened> {
  const { openImage } = await import("../../src/engine/open.ts");
  const file = await openSource(name);
  try {
    return await openImage(file, {
      gate: await noticedGate(),
      format: options.format ?? "auto",
      ...(options.partition == null ? {} : { partition: options.partition }),
      ...(options.sectorSize == null ? {} : { sectorSize: options.sectorSize }),
    });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** What an image itself says where its contents cannot be read because of `error`; null where that is not known. */
export async function inspectContainer(
  name: string,
  options: InputOptions,
  error: unknown,
): Promise<Inspection | null> {
  if (name === "-" || !(error instanceof IoError || error instanceof RefusedError)) return null;
  const { openContainer } = await import("../../src/engine/open.ts");
  const file = await openSource(name);
  try {
    const container = await openContainer(file, {
      gate: await noticedGate(),
      format: options.format ?? "auto",
    });
    const info = [{ key: "error", label: "Error", value: error.message }];
    return {
      label: file.label,
      size: file.size,
      format: container.format,
      container: container.info(),
      diskSize: container.size,
      partitionTable: "none",
      partitions: [],
      filesystem: { kind: "damaged", supported: false, size: 0, blockSize: 0, info },
    };
  } finally {
    await file.close();
  }
}

/** Bytes of a disk, or of one of its partitions, without a look at any filesystem. */
export interface OpenedDisk {
  readonly source: Source;
  close(): Promise<void>;
}

/** As `openInput`, for commands that take every byte whatever it means: a damaged filesystem is no matter here. */
export async function openDisk(name: string, options: InputOptions): Promise<OpenedDisk> {
  const { openContainer } = await import("../../src/engine/open.ts");
  const { slice } = await import("../../src/io/slice.ts");
  const file = await openSource(name);
  let container: Source | null = null;
  const close = async (): Promise<void> => {
    await container?.close();
    await file.close();
  };
  try {
    container = await openContainer(file, { gate: await noticedGate(), format: options.format ?? "auto" });
    if (options.partition == null) return { source: container, close };
    const { readPartitionTable } = await import("../../src/fs/partition/table.ts");
    const { partitions } = await readPartitionTable(container, options.sectorSize ?? undefined);
    const found = partitions.find((p) => p.number === options.partition);
    if (found === undefined)
      throw new ImprintError("EPARTITION", `${name}: has no partition ${options.partition}`);
    return { source: slice(container, found.start, found.size), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openSource(name: string): Promise<Source> {
  const { openFileSource } = await import("../../src/io/node/file-source.ts");
  await import("../../src/node/codecs.ts");
  if (name === "") throw new UsageError("empty file name");
  let path = name;
  if (name === "-") {
    const { standardInput } = await import("../ui/stdin.ts");
    path = await standardInput();
  }
  files.add(path);
  return openFileSource(path, { label: name === "-" ? "standard input" : name });
}
