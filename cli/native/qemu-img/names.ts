import { QemuError } from "./errors.ts";
import { type JsonObject, qemuJson } from "./json.ts";
import { splitPairs } from "./keyval.ts";
import { readSize } from "./sizes.ts";

/** What a name on the command line stands for. */
export interface NamedFile {
  /** Path of the host file. */
  readonly path: string;
  /** What native shows for it. */
  readonly shown: string;
  /** Driver that was asked for ("qcow2", "raw", "file"), or null to look at the file. */
  readonly format: string | null;
  /** Window of a raw image in its file, bytes: driver=raw,offset=,size=. */
  readonly window: { readonly offset: number; readonly size: number | null } | null;
}

/** Options of drivers that change how qemu does its work but not what it reads: they are taken and not used. */
const NO_MATTER =
  /^(?:file\.)?(?:read-only|auto-read-only|force-share|detect-zeroes|discard|node-name|cache\.(?:direct|no-flush|writeback)|locking|aio|aio-max-batch|drop-cache|check-cache-dropped|pr-manager|x-check-cache-dropped)$|^(?:lazy-refcounts|pass-discard-(?:request|snapshot|other)|discard-no-unref|overlap-check(?:\.[a-z-]+)?|l2-cache-size|l2-cache-entry-size|refcount-cache-size|cache-size|cache-clean-interval)$/;

/** Resolves a file name operand, or with `imageOpts` an option list. Throws QemuError with native's text. */
export function namedFile(name: string, imageOpts = false): NamedFile {
  if (imageOpts) {
    const pairs = splitPairs(name, undefined, "device");
    const options = new Map(pairs.map((p) => [p.name, p.value]));
    return fromOptions(name, options);
  }
  if (name.startsWith("json:")) return fromOptions(name, jsonOptions(name));
  if (name === "") throw cannotOpen(name, "The 'file' block driver requires a file name");
  const protocol = /^([^/:]+):/.exec(name)?.[1];
  if (protocol === "file") {
    const path = name.slice(5).replace(/^\/\/(?=\/)/, "");
    return { path, shown: path, format: null, window: null };
  }
  if (protocol !== undefined) throw cannotOpen(name, `Unknown protocol '${protocol}'`);
  return { path: name, shown: name, format: null, window: null };
}

/** `Could not open 'NAME': TEXT` */
export function cannotOpen(name: string, text: string): QemuError {
  return new QemuError(`Could not open '${name}': ${text}`);
}

function jsonOptions(name: string): Map<string, string> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(name.slice("json:".length));
  } catch (error) {
    throw cannotOpen(name, `Could not parse the JSON options: JSON parse error, ${(error as Error).message}`);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw cannotOpen(name, "Invalid JSON object given");
  const flat = new Map<string, string>();
  const walk = (value: object, prefix: string): void => {
    for (const [key, v] of Object.entries(value)) {
      if (typeof v === "object" && v !== null) walk(v, `${prefix}${key}.`);
      else flat.set(prefix + key, v === true ? "on" : v === false ? "off" : String(v));
    }
  };
  walk(parsed, "");
  return flat;
}

function fromOptions(name: string, options: ReadonlyMap<string, string>): NamedFile {
  const left = new Map(options);
  const take = (key: string): string | null => {
    const value = left.get(key) ?? null;
    left.delete(key);
    return value;
  };
  const device = take("device");
  if (device !== null) throw cannotOpen(name, `Cannot find device='${device}' nor node-name='${device}'`);
  const driver = take("driver");
  const fileDriver = take("file.driver");
  const direct = driver === "file" || driver === "host_device";
  const given = take(direct ? "filename" : "file.filename") ?? take("filename");
  if (given === null) throw cannotOpen(name, "The 'file' block driver requires a file name");
  if (fileDriver !== null && fileDriver !== "file" && fileDriver !== "host_device")
    throw cannotOpen(name, `Unknown protocol '${fileDriver}'`);
  let window: NamedFile["window"] = null;
  const offset = driver === "raw" ? take("offset") : null;
  const size = driver === "raw" ? take("size") : null;
  const path = given.startsWith("file:") ? given.slice(5).replace(/^\/\/(?=\/)/, "") : given;
  let shown = path;
  if (offset !== null || size !== null) {
    window = {
      offset: offset === null ? 0 : bytes(name, "offset", offset),
      size: size === null ? null : bytes(name, "size", size),
    };
    const nodes: JsonObject = {
      ...(offset === null ? {} : { offset }),
      ...(size === null ? {} : { size }),
      driver: "raw",
      file: { driver: "file", filename: path },
    };
    shown = `json:${qemuJson(nodes, false)}`;
  }
  for (const key of left.keys())
    if (!NO_MATTER.test(key))
      throw cannotOpen(name, `Block format '${driver ?? "raw"}' does not support the option '${key}'`);
  return { path, shown, format: driver, window };
}

function bytes(name: string, key: string, text: string): number {
  const size = readSize(text);
  if (typeof size !== "bigint")
    throw cannotOpen(name, `Parameter '${key}' expects a non-negative number below 2^64`);
  return Number(size);
}
