import { ImprintError, IoError, RefusedError } from "../../../src/errors.ts";
import type { Qcow2Header } from "../../../src/image/qcow2/header.ts";
import { CRYPT } from "../../../src/image/qcow2/layout.ts";
import type { Qcow2Image } from "../../../src/image/qcow2/reader.ts";
import type { Gate } from "../../../src/io/gate.ts";
import type { OpenedDurableFile } from "../../../src/io/node/durable-file.ts";
import { type FileSource, openFileSource } from "../../../src/io/node/file-source.ts";
import type { Source } from "../../../src/io/source.ts";
import { printError } from "../../ui/out.ts";
import { errorText, QemuError, warn } from "./errors.ts";
import { hostText } from "./host-text.ts";
import { type Access, refuseLocked } from "./lock.ts";
import { cannotOpen, checkDriver, type NamedFile, namedByImage, namedFile, notRead } from "./names.ts";
import { secrets, settings } from "./options.ts";
import { probeFormat } from "./probe.ts";

/** How an image is opened. */
export interface OpenRequest {
  /** -f: "raw" or "qcow2"; absent or null to look at the first bytes. */
  readonly format?: string | null;
  /** --image-opts: the name is an option list. */
  readonly imageOpts?: boolean;
  /** -U: do not mind that another process uses the image. */
  readonly share?: boolean;
  /** "follow" (default) opens the whole backing chain and the data file; "none" opens no file that the image names. */
  readonly backing?: "follow" | "none";
  /** False where only metadata is read: decompressors are not loaded. Default true. */
  readonly data?: boolean;
  /** For a check: what the check itself looks at is not refused at opening. */
  readonly check?: boolean;
  /**
   * What becomes of an image that lacks its end: "warn" (default) says so and reads zeros, "refuse" ends with an error
   * when something missing is read.
   */
  readonly truncated?: "warn" | "refuse";
  /** "refuse" where guest data is read or written: none of it is decrypted here. Default: encrypted images open. */
  readonly encrypted?: "refuse";
  /** Number of the layer in a chain that the caller walks itself. Default 0. */
  readonly depth?: number;
}

/** One image of a backing chain. */
export interface Layer {
  /** Name as native shows it. */
  readonly name: string;
  /** Path of its file. */
  readonly path: string;
  /** "qcow2", "raw", or "file" (--image-opts driver=file). */
  readonly format: string;
  /** Null unless the format is qcow2. */
  readonly header: Qcow2Header | null;
  /** The image file itself. */
  readonly file: FileSource;
  /** The opened image, or null for raw. Its reads go through the backing chain. */
  readonly image: Qcow2Image | null;
  /** The guest disk: whole 512-byte sectors; reads go through the backing chain. */
  readonly disk: Source;
  /** The layer below, or null where there is none (or it was not opened). */
  readonly backing: Layer | null;
  /** True where the image names a layer below that was not opened. */
  readonly unopened: boolean;
}

/** An opened image: its top layer, and all layers from the top. */
export interface OpenedChain extends Layer {
  readonly layers: readonly Layer[];
  close(): Promise<void>;
}

/** Layers of a backing chain, at most. */
const DEEPEST = 1000;

/**
 * Opens an image as qemu-img does: a format given or found by its magic, its backing chain and data file (names beside
 * the image as qemu joins them). Throws QemuError with native's text ("Could not open 'NAME': ..."); formats that are
 * known but not read here are refused by name, never taken for raw. With --untrusted the format must be given and no
 * named file is opened.
 */
export async function openImage(
  name: string,
  request: OpenRequest & { readonly locked?: Access } = {},
): Promise<OpenedChain> {
  const named = resolveName(name, request);
  if (request.data ?? true) await import("../../../src/node/codecs.ts");
  try {
    const opened: Layer[] = [];
    try {
      const layer = await openLayer(named, {
        ...request,
        share: request.share ?? false,
        truncated: request.truncated ?? "warn",
        locked: request.locked ?? "read",
        follow: request.backing !== "none" && !settings.untrusted,
        depth: request.depth ?? 0,
        check: request.check ?? false,
        gate: null,
        opened,
      });
      const layers: Layer[] = [];
      for (let l: Layer | null = layer; l !== null; l = l.backing) layers.push(l);
      if (request.encrypted === "refuse") refuseEncrypted(layers);
      return { ...layer, layers, close: () => closeAll(opened) };
    } catch (error) {
      await closeAll(opened);
      throw error;
    }
  } catch (error) {
    throw openError(name, error);
  }
}

/** Encrypted data cannot be read here, with or without a key. */
function refuseEncrypted(layers: readonly Layer[]): void {
  for (const [depth, { header, name }] of layers.entries())
    if (header !== null && header.cryptMethod !== CRYPT.none)
      throw new QemuError(
        (depth > 0 ? "Could not open backing file: " : "") +
          (secrets.size === 0
            ? "Parameter 'encrypt.key-secret' is required for cipher"
            : `'${name}' is encrypted, and this tool does not decrypt`),
      );
}

/** How an image that will be changed is opened. */
export interface EditRequest extends Omit<OpenRequest, "depth"> {
  /** False where the lines of warning about a probed raw file are the caller's to print. Default true. */
  readonly warnRaw?: boolean;
}

/** An image opened to be changed. `close` closes everything; nothing is flushed by it. */
export interface Editable {
  readonly name: string;
  readonly path: string;
  /** "qcow2" or "raw". */
  readonly format: string;
  /** True where nobody said that it is raw. */
  readonly probed: boolean;
  readonly file: OpenedDurableFile;
  /** Null for raw. The header as it is now: the editor parses it again. */
  readonly header: Qcow2Header | null;
  /** The layer below, or null (no backing file, or `backing: "none"`). */
  readonly backing: Layer | null;
  /** The external data file, or null (there is none, or `backing: "none"`). */
  readonly dataFile: OpenedDurableFile | null;
  close(): Promise<void>;
}

/**
 * Opens an image that will be changed, with its backing chain (read-only) and data file. A raw image that nobody called
 * raw gets native's three lines of warning. Throws QemuError with native's text.
 */
export async function openEditable(name: string, request: EditRequest = {}): Promise<Editable> {
  const chain = await openImage(name, { ...request, locked: "write" });
  const opened: OpenedDurableFile[] = [];
  const edit = async (path: string, label: string): Promise<OpenedDurableFile> => {
    const { openDurableFile } = await import("../../../src/io/node/durable-file.ts");
    try {
      const file = openDurableFile(path, label);
      opened.push(file);
      if (file.blockDevice) {
        const { checkTarget } = await import("../../../src/io/node/safety.ts");
        checkTarget(path);
      }
      return file;
    } catch (error) {
      if (error instanceof IoError) throw new QemuError(`Could not open '${label}': ${errorText(error)}`);
      throw error;
    }
  };
  const close = async (): Promise<void> => {
    for (const file of opened) file.close();
    await chain.close();
  };
  try {
    const file = await edit(chain.path, chain.name);
    const external = (chain.header?.external ?? false) && request.backing !== "none" && !settings.untrusted;
    const data = external ? ((await chain.image!.openData()) as FileSource) : null;
    const dataFile = data === null ? null : await edit(data.path, data.label);
    const probed = !request.imageOpts && resolveName(name, request).format === null;
    if (chain.format === "raw" && probed && (request.warnRaw ?? true)) printError(rawWarning(chain.name));
    const { format, header, backing, path } = chain;
    return { name: chain.name, path, format, probed, file, header, backing, dataFile, close };
  } catch (error) {
    await close();
    throw openError(name, error);
  }
}

/** The lines that native prints for a raw image that was probed, and will be written to. */
export function rawWarning(name: string): string {
  return `WARNING: Image format was not specified for '${name}' and probing guessed raw.
         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.
         Specify the 'raw' format explicitly to remove the restrictions.
`;
}

/** What the name and the options of the command line stand for; checks -f against --image-opts. */
function resolveName(name: string, request: OpenRequest): NamedFile {
  if (request.imageOpts && request.format != null)
    throw new QemuError("--image-opts and --format are mutually exclusive");
  const named = namedFile(name, request.imageOpts, request.format ?? null);
  if (named.format === null && settings.untrusted)
    throw cannotOpen(name, "--untrusted probes no format: say which it is with -f");
  return named;
}

async function closeAll(opened: readonly Layer[]): Promise<void> {
  for (const layer of opened) {
    await layer.image?.close();
    layer.file.close();
  }
}

interface LayerRequest {
  readonly share: boolean;
  readonly truncated: "warn" | "refuse";
  /** What the top layer is opened for. */
  readonly locked: Access;
  readonly follow: boolean;
  readonly depth: number;
  /** For a check of the top layer. */
  readonly check: boolean;
  /** The gate of the chain; null for the file that the person named. */
  readonly gate: Gate | null;
  /** Collects every layer that was opened, for closing. */
  readonly opened: Layer[];
}

async function openLayer(named: NamedFile, request: LayerRequest): Promise<Layer> {
  const file = openHostFile(named.path, named.shown, request.locked === "write");
  try {
    checkFileOptions(file, named);
    return await layerOf(file, named, request);
  } catch (error) {
    if (!request.opened.some((l) => l.file === file)) file.close();
    throw error;
  }
}

function checkFileOptions(file: FileSource, named: NamedFile): void {
  const device = file.blockDevice || file.characterDevice;
  if (named.format === "file" && device)
    throw new QemuError(`'file' driver requires '${named.shown}' to be a regular file`);
  if (named.format === "host_device" && !device)
    throw new QemuError(
      `'host_device' driver requires '${named.shown}' to be either a character or block device`,
    );
  if (named.unknown?.file)
    throw new QemuError(`Block protocol 'file' doesn't support the option '${named.unknown.key}'`);
}

/** Options that were given but mean nothing to the format. `follow`: those of a backing file do. */
function checkFormatOptions(format: string, named: NamedFile, follow: boolean): void {
  const { backing, unknown } = named;
  const below = backing === undefined || backing.kind === "none" || follow ? undefined : backing.key;
  const key = below ?? (unknown?.file === false ? unknown.key : undefined);
  if (key !== undefined) throw new QemuError(`Block format '${format}' does not support the option '${key}'`);
}

/** Opens a host file to read it; errors carry native's text, for what will be written with `write`. */
function openHostFile(path: string, label: string, write = false): FileSource {
  try {
    return openFileSource(path, { label, characterDevices: true });
  } catch (error) {
    if (error instanceof RefusedError && error.code === "EISDIR")
      throw new QemuError(
        write
          ? `Could not open '${label}': ${hostText("EISDIR")}`
          : `'file' driver requires '${label}' to be a regular file`,
      );
    if (error instanceof IoError) throw new QemuError(`Could not open '${label}': ${errorText(error)}`);
    throw error;
  }
}

/** The format of a file: the one asked for, or what its first bytes say. Refuses formats that are not read here. */
function formatOf(file: FileSource, wanted: string | null): string {
  if (wanted !== null) return wanted;
  const head = new Uint8Array(512);
  file.read(head, 0);
  const format = probeFormat(head, file.path);
  if (format !== "qcow2" && format !== "raw") throw new QemuError(notRead(format));
  return format;
}

async function layerOf(file: FileSource, named: NamedFile, request: LayerRequest): Promise<Layer> {
  const format = formatOf(file, named.format);
  if (!request.share) refuseLocked(file, format, request.locked);
  const base = { name: named.shown, path: named.path, format, file };
  if (format !== "qcow2") {
    const disk = await rawDisk(file, named);
    checkFormatOptions(format, named, false);
    const layer: Layer = { ...base, header: null, image: null, disk, backing: null, unopened: false };
    request.opened.push(layer);
    return layer;
  }
  const { openQcow2 } = await import("../../../src/image/qcow2/reader.ts");
  let backing: Layer | null = null;
  const gate = withDataFile(request.gate ?? (await chainGate(request.follow)), named);
  let told = false;
  const tell = (missing: string, at: number): void => {
    if (!told)
      warn(
        `'${named.shown}' is cut short: it ends at byte ${file.size}, and the ${missing.replace("qcow2 ", "")} at byte ${at} is missing. ` +
          "What is missing reads as zeros",
      );
    told = true;
  };
  const image = await openQcow2(file, gate, {
    ...(request.truncated === "warn" ? { onTruncated: tell } : {}),
    ...(named.backing?.kind === "none" ? { backing: null } : {}),
    depth: request.depth,
    check: request.check,
    openBacking: async () => {
      if (backing === null) throw notOpened("backing file", image.header.backingFile!);
      return backing.disk;
    },
  });
  const { header } = image;
  if (!request.check) {
    const { cutShort } = await import("../../../src/image/qcow2/cut-short.ts");
    const missing = await cutShort(file, header);
    if (missing !== null) tell(missing.structure, missing.at);
  }
  await checkBitmaps(file, header);
  const hasBacking = header.backingFile !== null && named.backing?.kind !== "none";
  const layer = (): Layer => ({
    ...base,
    header,
    image,
    disk: image,
    backing,
    unopened: hasBacking && backing === null,
  });
  if (request.follow && header.backingFile === null && named.backing?.kind === "file")
    throw new QemuError("a backing file for an image that names none is not supported by this tool");
  if (request.follow && hasBacking) {
    request.opened.push(layer());
    try {
      backing = await openBacking(header, file, gate, named, request);
    } catch (error) {
      throw new QemuError(`Could not open backing file: ${errorText(error)}`);
    }
    request.opened[request.opened.findIndex((l) => l.file === file)] = layer();
  } else request.opened.push(layer());
  if (request.follow && header.external) await image.openData();
  checkFormatOptions(format, named, request.follow);
  return layer();
}

/** A gate that opens the data file that the options name, whatever the image says. */
function withDataFile(gate: Gate, { dataFile }: NamedFile): Gate {
  if (dataFile === undefined) return gate;
  return (r) => gate(r.purpose === "data file" ? { ...r, name: `file:${dataFile}` } : r);
}

/** As native, opens no image whose bitmaps it could not load, and warns of those it ignores. */
async function checkBitmaps(file: FileSource, header: Qcow2Header): Promise<void> {
  if (header.bitmaps === null) return;
  if (!header.bitmapsValid) {
    // The last line has no end, as native prints it.
    printError(
      `qemu-img: warning: ${
        header.version < 3
          ? "This qcow2 v2 image contains bitmaps, but they may have been modified by software without persistent bitmap support; so now these bitmaps are inconsistent"
          : "a program lacking bitmap support modified this file, so all bitmaps are now considered inconsistent"
      }\nSome clusters may be leaked, run 'qemu-img check -r' on the image file to fix.`,
    );
    return;
  }
  const { BitmapError, checkBitmapsLoad } = await import("../../../src/image/qcow2/bitmaps.ts");
  try {
    await checkBitmapsLoad(file, header);
  } catch (error) {
    if (error instanceof BitmapError) throw new QemuError(error.text);
    throw error;
  }
}

async function openBacking(
  header: Qcow2Header,
  from: FileSource,
  gate: Gate,
  above: NamedFile,
  request: LayerRequest,
): Promise<Layer> {
  const depth = request.depth + 1;
  if (depth > DEEPEST) throw new QemuError(`more than ${DEEPEST} layers of backing files`);
  const { backing } = above;
  const format = backing?.kind === "driver" ? backing.driver : header.backingFormat;
  if (format !== null) checkDriver(format);
  let named: NamedFile | null = null;
  if (backing?.kind === "file") named = { ...backing.file, format: backing.file.format ?? format };
  else if (header.backingFile!.startsWith("json:")) named = namedByImage(header.backingFile!, format);
  // A path that options name is not relative to the image.
  const name = named === null ? header.backingFile! : `file:${named.path}`;
  let file: FileSource;
  try {
    file = (await gate({ name, purpose: "backing file", format, from: from.label, depth })) as FileSource;
  } catch (error) {
    if (error instanceof RefusedError && error.code === "ELOOP")
      throw new QemuError(`Backing file '${named?.path ?? name}' creates an infinite loop.`);
    throw error;
  }
  try {
    named ??= { path: file.path, shown: file.label, format, window: null };
    checkFileOptions(file, named);
    return await layerOf(file, named, { ...request, depth, gate, locked: "read", check: false });
  } catch (error) {
    if (!request.opened.some((l) => l.file === file)) file.close();
    throw error;
  }
}

function notOpened(purpose: string, name: string): RefusedError {
  const why = settings.untrusted ? " (--untrusted)" : "";
  return new RefusedError("EGATE", `the ${purpose} "${name}" is not opened${why}`);
}

/** The gate of one chain. `follow` false: a gate that opens nothing. */
function chainGate(follow: boolean): Gate {
  if (!follow) return (r) => Promise.reject(notOpened(r.purpose, r.name));
  let gate: Gate | null = null;
  return async (request) => {
    if (gate === null) {
      const { fileGate } = await import("../../../src/io/node/gate.ts");
      gate = fileGate({ maxDepth: DEEPEST, names: "textual", devices: true });
    }
    try {
      return await gate(request);
    } catch (error) {
      if (error instanceof IoError) {
        // The label of the host's error is the joined path.
        const path = error.message.slice(0, error.message.indexOf(": cannot open"));
        throw new QemuError(`Could not open '${path}': ${errorText(error)}`);
      }
      throw error;
    }
  };
}

/** A raw file as a disk: its window, rounded up to whole sectors that read as zeros past the end. */
async function rawDisk(file: FileSource, named: NamedFile): Promise<Source> {
  if (named.window === null && file.size % 512 === 0) return file;
  const { sectored } = await import("../../../src/image/raw/sectored.ts");
  const { offset, size } = named.window ?? { offset: 0, size: null };
  if (offset > file.size)
    throw new QemuError(
      `Offset (${offset}) cannot be greater than size of the containing file (${file.size})`,
    );
  if (size !== null && size % 512 !== 0) throw new QemuError("Specified size is not multiple of 512");
  if (size !== null && offset + size > file.size)
    throw new QemuError(
      `The sum of offset (${offset}) and size (${size}) has to be smaller or equal to the  actual size of the containing file (${file.size})`,
    );
  return sectored(file, offset, size ?? file.size - offset);
}

/** `Could not open 'NAME': TEXT` around what opening threw; bugs stay as they are. */
export function openError(name: string, error: unknown): unknown {
  if (error instanceof QemuError || error instanceof ImprintError) return cannotOpen(name, errorText(error));
  return error;
}
