import { QemuError, warn } from "./errors.ts";
import { type Json, type JsonObject, qemuJson, qemuOrder } from "./json.ts";
import { JsonTextError, readJson } from "./json-text.ts";
import { splitPairs } from "./keyval.ts";
import { OTHER_FORMATS } from "./probe.ts";
import { readSize } from "./sizes.ts";

/** What a name on the command line, or the json: name of a backing file, stands for. */
export interface NamedFile {
  /** Path of the host file. */
  readonly path: string;
  /** What native shows for it. */
  readonly shown: string;
  /** Driver that was asked for ("qcow2", "raw", "file", "host_device"), or null to look at the file. */
  readonly format: string | null;
  /** Window of a raw image in its file, bytes: driver=raw,offset=,size=. */
  readonly window: { readonly offset: number; readonly size: number | null } | null;
  /** What was said of the backing file; absent: the image's own word counts. */
  readonly backing?: BackingChoice;
  /** Path of the data file, where the options name one. */
  readonly dataFile?: string;
  /** An option that no driver takes: an error once the file is open. `file`: one of the file below the format. */
  readonly unknown?: { readonly key: string; readonly file: boolean };
}

/** What options say of a backing file: that there is none, another file, or another driver for the image's own. */
export type BackingChoice =
  | { readonly kind: "none" }
  | { readonly kind: "file"; readonly file: NamedFile; readonly key: string }
  | { readonly kind: "driver"; readonly driver: string; readonly key: string };

/** Options of drivers that change how qemu does its work but not what it reads: they are taken and not used. */
const NO_MATTER =
  /^(?:read-only|auto-read-only|force-share|detect-zeroes|discard|node-name|cache\.(?:direct|no-flush|writeback)|locking|aio|aio-max-batch|drop-cache|check-cache-dropped|pr-manager|x-check-cache-dropped)$|^(?:lazy-refcounts|pass-discard-(?:request|snapshot|other)|discard-no-unref|overlap-check(?:\.[a-z-]+)?|l2-cache-size|l2-cache-entry-size|refcount-cache-size|cache-size|cache-clean-interval)$/;

/**
 * Resolves a file name operand, or with `imageOpts` an option list. `format` (-f) stands before what the options say.
 * Throws QemuError with native's text.
 */
export function namedFile(name: string, imageOpts = false, format: string | null = null): NamedFile {
  try {
    if (imageOpts) return fromOptions(optionList(name), format);
    if (name.startsWith("json:")) return fromOptions(jsonOptions(name), format);
    if (format !== null) checkDriver(format);
    const path = newFilePath(name);
    if (path === "") throw new QemuError(NO_FILE_NAME);
    return { path, shown: path, format, window: null };
  } catch (error) {
    if (error instanceof NamedError) throw new QemuError(error.message);
    throw error instanceof QemuError ? cannotOpen(name, error.message) : error;
  }
}

/**
 * The path that the name of a new file stands for. Throws QemuError with native's text for other protocols than file:
 */
export function newFilePath(name: string): string {
  const protocol = /^([^/:]*):/.exec(name)?.[1];
  if (protocol !== undefined && protocol !== "file") throw new QemuError(`Unknown protocol '${protocol}'`);
  return protocol === undefined ? name : name.slice("file:".length);
}

/**
 * The file that the json: name of a backing file stands for; `format` as `namedFile`. Throws
 * QemuError, its name not in front.
 */
export function namedByImage(name: string, format: string | null): NamedFile {
  return fromOptions(jsonOptions(name), format);
}

/** `Could not open 'NAME': TEXT` */
export function cannotOpen(name: string, text: string): QemuError {
  return new QemuError(`Could not open '${name}': ${text}`);
}

const NO_FILE_NAME = "The 'file' block driver requires a file name";
const PROTOCOLS: ReadonlySet<string> = new Set(["file", "host_device"]);

/** An error that native tells without the image's name. */
class NamedError extends QemuError {}

type Options = Map<string, Json>;

function optionList(text: string): Options {
  const pairs = splitPairs(text, "device");
  const options: Options = new Map();
  for (const { name, value, bare } of pairs) {
    if (name === "id" && !/^[a-zA-Z][-._a-zA-Z0-9]*$/.test(value))
      throw new NamedError(
        "Parameter 'id' expects an identifier\n" +
          "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
      );
    if (!bare) {
      if (name !== "") options.set(name, value);
      continue;
    }
    warn(
      `short-form boolean option '${value === "off" ? "no" : ""}${name}' deprecated\nPlease use ${name}=${value} instead`,
    );
    options.set(name, value);
  }
  return options;
}

function jsonOptions(name: string): Options {
  let parsed: Json;
  try {
    parsed = readJson(name.slice("json:".length));
  } catch (error) {
    if (error instanceof JsonTextError)
      throw new QemuError(`Could not parse the JSON options: ${error.message}`);
    throw error;
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw new QemuError("Invalid JSON object given");
  const flat: Options = new Map();
  const walk = (value: object, prefix: string): void => {
    for (const [key, v] of Object.entries(value) as [string, Json][]) {
      if (typeof v === "object" && v !== null) walk(v, `${prefix}${key}.`);
      else flat.set(prefix + key, v);
    }
  };
  walk(parsed as JsonObject, "");
  return flat;
}

/** An option as text; null where it is not there, or null. */
function take(options: Options, key: string): string | null {
  const value = options.get(key);
  options.delete(key);
  if (value === undefined || value === null) return null;
  return value === true ? "on" : value === false ? "off" : String(value);
}

/** The options below `prefix`, which leave `options`. */
function below(options: Options, prefix: string): Options {
  const found: Options = new Map();
  for (const [key, value] of options)
    if (key.startsWith(prefix)) {
      found.set(key.slice(prefix.length), value);
      options.delete(key);
    }
  return found;
}

/** Throws QemuError for the name of a driver that is not one of those that are here. */
export function checkDriver(driver: string): void {
  if (driver === "raw" || driver === "qcow2" || PROTOCOLS.has(driver)) return;
  if (OTHER_FORMATS.has(driver)) throw new QemuError(notRead(driver));
  throw new QemuError(`Unknown driver '${driver}'`);
}

/** What is said of a format that is known, but not read here. */
export const notRead = (format: string): string => `image format '${format}' is not supported by this tool`;

function refuseReference(reference: string | null): void {
  if (reference !== null)
    throw new QemuError(`Cannot find device='${reference}' nor node-name='${reference}'`);
}

const unknownKey = (options: Options): string | undefined =>
  qemuOrder([...options.keys()]).find((key) => !NO_MATTER.test(key));

function fromOptions(options: Options, format: string | null): NamedFile {
  refuseReference(take(options, "device"));
  const said = options.get("driver");
  take(options, "driver");
  const driver = format ?? (typeof said === "string" ? said : null);
  if (driver !== null) checkDriver(driver);
  if (driver !== null && PROTOCOLS.has(driver)) return fileNode(options, driver);
  const backing = backingChoice(options, driver);
  refuseReference(take(options, "file"));
  const fileOptions = below(options, "file.");
  if (fileOptions.size === 0)
    throw new QemuError(
      driver === null ? "Must specify either driver or file" : 'A block device must be specified for "file"',
    );
  const { file, layers } = lowestFile(fileOptions);
  const offset = driver === "raw" ? sizeOption(options, "offset") : null;
  const size = driver === "raw" ? sizeOption(options, "size") : null;
  refuseReference(take(options, "data-file"));
  const data = below(options, "data-file.");
  const key = unknownKey(options);
  const nodes = (left: number): JsonObject =>
    left < 0
      ? { driver: "file", filename: file.path }
      : { driver: left === layers ? (driver ?? "raw") : "raw", file: nodes(left - 1) };
  const window =
    offset === null && size === null ? null : { offset: offset?.bytes ?? 0, size: size?.bytes ?? null };
  const strong: JsonObject = {
    ...(offset === null ? {} : { offset: offset.given }),
    ...(size === null ? {} : { size: size.given }),
    ...nodes(layers),
  };
  return {
    path: file.path,
    shown: window === null && layers === 0 ? file.path : `json:${qemuJson(strong, false)}`,
    format: driver,
    window,
    ...(backing === null ? {} : { backing }),
    ...(data.size === 0 ? {} : { dataFile: lowestFile(data).file.path }),
    ...(key !== undefined
      ? { unknown: { key, file: false } }
      : file.unknown === undefined
        ? {}
        : { unknown: file.unknown }),
  };
}

/** A node of the driver "file" or "host_device". */
function fileNode(options: Options, driver: string): NamedFile {
  const path = take(options, "filename");
  if (path === null || path === "") throw new QemuError(NO_FILE_NAME.replace("file", driver));
  const key = unknownKey(options);
  return {
    path,
    shown: path,
    format: driver,
    window: null,
    ...(key === undefined ? {} : { unknown: { key, file: true } }),
  };
}

/** The file below a format, through any number of raw drivers without a window, which change nothing. */
function lowestFile(options: Options): { readonly file: NamedFile; readonly layers: number } {
  let at = options;
  for (let layers = 0; ; layers++) {
    const driver = take(at, "driver") ?? "file";
    if (driver === "file" || driver === "host_device") return { file: fileNode(at, driver), layers };
    if (driver !== "raw") {
      checkDriver(driver);
      throw new QemuError(`the driver '${driver}' below another one is not supported by this tool`);
    }
    refuseReference(take(at, "file"));
    const key = unknownKey(new Map([...at].filter(([k]) => !k.startsWith("file."))));
    if (key === "offset" || key === "size")
      throw new QemuError(`the option '${key}' of a driver below another one is not supported by this tool`);
    if (key !== undefined) throw new QemuError(`Block format 'raw' does not support the option '${key}'`);
    at = below(at, "file.");
    if (at.size === 0) throw new QemuError('A block device must be specified for "file"');
  }
}

function backingChoice(options: Options, driver: string | null): BackingChoice | null {
  const isNull = options.has("backing") && options.get("backing") === null;
  const reference = take(options, "backing");
  if (isNull || reference === "") {
    if (!isNull) warn('Use of "backing": "" is deprecated; use "backing": null instead');
    below(options, "backing.");
    return { kind: "none" };
  }
  const given = below(options, "backing.");
  if (reference === null && given.size === 0) return null;
  if (driver !== null && driver !== "qcow2") throw new QemuError("Driver doesn't support backing files");
  try {
    refuseReference(reference);
    const [key] = qemuOrder([...given.keys()].map((k) => `backing.${k}`));
    const only = given.get("driver");
    if (given.size === 1 && typeof only === "string") {
      checkDriver(only);
      return { kind: "driver", driver: only, key };
    }
    return { kind: "file", file: fromOptions(given, null), key };
  } catch (error) {
    throw error instanceof QemuError ? new QemuError(`Could not open backing file: ${error.message}`) : error;
  }
}

/** An option that holds a size, bytes, and how it was given. Throws QemuError for what is no size. */
function sizeOption(options: Options, key: string): { readonly given: Json; readonly bytes: number } | null {
  const given = options.get(key);
  const text = take(options, key);
  if (given === undefined || text === null) return null;
  const size = readSize(text);
  if (typeof size !== "bigint")
    throw new QemuError(
      `Parameter '${key}' expects a non-negative number below 2^64\n` +
        "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.",
    );
  return { given, bytes: Number(size) };
}
