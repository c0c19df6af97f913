import * as fs from "node:fs";
import { dirname, resolve } from "node:path";
import { RefusedError } from "../../errors.ts";
import type { Gate, GateRequest } from "../gate.ts";
import { type FileSource, openFileSource } from "./file-source.ts";
import { statOf } from "./mounts.ts";

/** Options of `fileGate`. */
export interface FileGateOptions {
  /** Longest chain of backing files. Default 64. */
  readonly maxDepth?: number;
  /** Allow block devices as backing or data files. Default false. */
  readonly devices?: boolean;
  /** Folder that names are relative to where the image that holds them is not a file. Default: the working folder. */
  readonly base?: string;
  /**
   * How names are joined. "resolved" (default): to the real folder of the image that names them. "textual": as qemu
   * does, backing files to the text of the image's name up to its last slash, data files to the working folder (or,
   * where nothing is there, to the image's); labels are the joined texts.
   */
  readonly names?: "resolved" | "textual";
}

/** An opened file of a chain: its folder, and the identities of it and of every image above it. */
interface Link {
  readonly folder: string;
  readonly chain: ReadonlySet<string>;
}

/**
 * A gate that opens files by name, relative to the folder of the image that names them (as qemu does). Refuses, with
 * RefusedError: names with a protocol ("nbd:...", "json:...": EPROTOCOL), a file that is already part of the chain
 * (ELOOP), chains longer than `maxDepth` (EDEPTH), directories, FIFOs and devices. One gate serves
 * one chain or several.
 */
export function fileGate(options: FileGateOptions = {}): Gate {
  const maxDepth = options.maxDepth ?? 64;
  const links = new Map<string, Link>();
  const linkOf = (label: string): Link => {
    const known = links.get(label);
    if (known !== undefined) return known;
    const st = statOf(label);
    const link: Link =
      st === undefined
        ? { folder: options.base ?? ".", chain: new Set() }
        : { folder: dirname(fs.realpathSync(label)), chain: new Set([identity(st.isBlockDevice(), st)]) };
    links.set(label, link);
    return link;
  };
  return async (request) => {
    const what = `${request.purpose} "${request.name}" of ${request.from}`;
    if (request.depth > maxDepth)
      throw new RefusedError("EDEPTH", `${what}: more than ${maxDepth} layers of backing files`);
    const parent = linkOf(request.from);
    const path = options.names === "textual" ? join(request, what) : locate(request, parent.folder, what);
    const source = openFileSource(path, { devices: options.devices ?? false });
    const id = identity(source.blockDevice, source.stat);
    if (parent.chain.has(id)) {
      source.close();
      throw new RefusedError("ELOOP", `${what}: the file is already part of this chain of images`);
    }
    links.set(path, { folder: dirname(fs.realpathSync(path)), chain: new Set([...parent.chain, id]) });
    return source;
  };
}

function identity(device: boolean, st: FileSource["stat"]): string {
  return device ? `device ${st.rdev}` : `file ${st.dev}:${st.ino}`;
}

/** The path a name stands for by its text alone. */
function join(request: GateRequest, what: string): string {
  const name = fileName(request, what);
  if (name.startsWith("/") || request.name.startsWith("file:")) return existing(name, "");
  const beside = request.from.slice(0, request.from.lastIndexOf("/") + 1);
  if (request.purpose === "data file" && statOf(existing(name, "")) !== undefined) return existing(name, "");
  return existing(name, beside);
}

/** `folder` and `name` together, the name's bytes taken as UTF-8 where only that is there. */
function existing(name: string, folder: string): string {
  const path = folder + name;
  if (statOf(path) !== undefined) return path;
  const bytes = [...name].every((c) => c.charCodeAt(0) < 256) ? Buffer.from(name, "latin1").toString() : name;
  const other = folder + bytes;
  return statOf(other) !== undefined ? other : path;
}

/** The name without "file:"; other protocols are refused. */
function fileName(request: GateRequest, what: string): string {
  const { name } = request;
  if (name === "" || name.includes("\0")) throw new RefusedError("EPROTOCOL", `${what}: is not a file name`);
  if (name.startsWith("file:")) return name.slice("file:".length).replace(/^\/\/(?=\/)/, "");
  if (/^[^/]*:/.test(name))
    throw new RefusedError("EPROTOCOL", `${what}: names with a protocol are not opened, only files`);
  return name;
}

/** The path a name stands for. */
function locate(request: GateRequest, folder: string, what: string): string {
  const name = fileName(request, what);
  // qemu takes what follows "file:" as a path of its own, not relative to the image.
  const base = request.name.startsWith("file:") ? "." : folder;
  return existing(resolve(base, name), "");
}
