import * as fs from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import type { HostFile } from "../../bytes/runs.ts";
import { IoError, RefusedError } from "../../errors.ts";
import type { Target } from "../target.ts";
import { closeQuietly, readAt, writeAt, writeZeros } from "./file-io.ts";
import { codeOf, hostError } from "./host-error.ts";
import { trackLive, untrackLive } from "./live-files.ts";
import { punchHole } from "./native.ts";

/** Options of `createFileTarget`. */
export interface FileTargetOptions {
  /** Mode of a new file before the umask, default 0o666. An existing file's mode and owner are kept. */
  readonly mode?: number;
  /** Flush the file and its folder to the disk at commit. Default false. */
  readonly sync?: boolean;
  /** What messages call it; the path by default. */
  readonly label?: string;
  /** False refuses to replace an existing file (IoError "EEXIST"). Default true. */
  readonly replace?: boolean;
}

/** A file being made beside its final name. Everything answers synchronously. */
export interface FileTarget extends Target {
  /** Final path, symbolic links resolved. */
  readonly path: string;
  /** The temporary file that is written until commit. */
  readonly temporary: string;
  readonly fd: number;
  readonly host: HostFile;
  write(bytes: Uint8Array, at: number): void;
  zero(at: number, length: number): void;
  read(into: Uint8Array, at: number): number;
  commit(size: number): void;
  abort(): void;
}

const NAME_BYTES = 255;
const MAX_LINKS = 40;

/**
 * Starts a file at `path`: bytes go to `.NAME.XXXXXX.imprint` in the same folder, which takes the final name at commit
 * (a symbolic link there stays one; its destination is replaced). Throws RefusedError for a directory ("EISDIR"), a
 * device, FIFO or socket ("ENOTFILE"); IoError where the host refuses.
 */
export function createFileTarget(path: string, options: FileTargetOptions = {}): FileTarget {
  const label = options.label ?? path;
  let fd = -1;
  let temporary = "";
  try {
    const final = finalPath(path);
    const old = fs.statSync(final, { throwIfNoEntry: false });
    if (old !== undefined) refuseExisting(old, final, label, options.replace ?? true);
    const mode = old === undefined ? (options.mode ?? 0o666) : old.mode & 0o777;
    [fd, temporary] = openBeside(final, old === undefined ? mode : 0o600);
    if (old !== undefined) keepOwner(fd, old, mode);
    return new NodeFileTarget(final, temporary, fd, label, options.sync ?? false);
  } catch (error) {
    if (fd >= 0) {
      closeQuietly(fd);
      remove(temporary);
    }
    throw error instanceof RefusedError ? error : hostError(error, label, "cannot create");
  }
}

/** The path a file at `path` really gets: links at the name itself are followed, also where they point nowhere yet. */
export function finalPath(path: string): string {
  let at = resolve(path);
  for (let i = 0; i < MAX_LINKS; i++) {
    const st = fs.lstatSync(at, { throwIfNoEntry: false });
    if (st === undefined || !st.isSymbolicLink()) return join(fs.realpathSync(dirname(at)), basename(at));
    at = resolve(fs.realpathSync(dirname(at)), fs.readlinkSync(at));
  }
  throw new IoError("ELOOP", `${path}: too many levels of symbolic links`);
}

function refuseExisting(old: fs.Stats, final: string, label: string, replace: boolean): void {
  if (old.isDirectory()) throw new RefusedError("EISDIR", `${label}: is a directory`);
  if (!old.isFile())
    throw new RefusedError("ENOTFILE", `${label}: is not a regular file and cannot be replaced by one`);
  if (!replace) throw new IoError("EEXIST", `${label}: exists already`);
  // A rename would replace even a file that may not be written to.
  fs.accessSync(final, fs.constants.W_OK);
}

function openBeside(final: string, mode: number): [number, string] {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants;
  let name = basename(final);
  while (Buffer.byteLength(name) > NAME_BYTES - 16) name = name.slice(0, -1);
  for (let tries = 0; ; tries++) {
    const random = Math.random().toString(36).slice(2, 8).padEnd(6, "0");
    const temporary = join(dirname(final), `.${name}.${random}.imprint`);
    try {
      // First, so that no signal finds the file without its handlers; nothing else runs before the next line is done.
      trackLive(temporary);
      return [fs.openSync(temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode), temporary];
    } catch (error) {
      untrackLive(temporary);
      if (codeOf(error) !== "EEXIST" || tries >= 100) throw error;
    }
  }
}

function keepOwner(fd: number, old: fs.Stats, mode: number): void {
  const now = fs.fstatSync(fd);
  if (now.uid !== old.uid || now.gid !== old.gid) {
    try {
      fs.fchownSync(fd, old.uid, old.gid);
    } catch {
      // Only root may give files away: the new file is then the writer's own.
    }
  }
  fs.fchmodSync(fd, mode);
}

function remove(temporary: string): void {
  untrackLive(temporary);
  try {
    fs.unlinkSync(temporary);
  } catch {
    // Cleaned up already.
  }
}

class NodeFileTarget implements FileTarget {
  readonly label: string;
  readonly seekable = true;
  readonly fresh = true;
  readonly capacity = Number.POSITIVE_INFINITY;
  readonly path: string;
  readonly temporary: string;
  readonly fd: number;
  readonly host: HostFile;
  private readonly sync: boolean;
  private state: "open" | "committed" | "aborted" = "open";

  constructor(path: string, temporary: string, fd: number, label: string, sync: boolean) {
    this.path = path;
    this.temporary = temporary;
    this.fd = fd;
    this.label = label;
    this.sync = sync;
    this.host = { path, fd, flushed: sync };
  }

  write(bytes: Uint8Array, at: number): void {
    this.need("write");
    writeAt(this.fd, bytes, at, this.label);
  }

  zero(at: number, length: number): void {
    this.need("zero");
    // What lies past the end of the file reads as zeros whoever wrote the rest (this target or a bulk copier).
    const end = Math.min(at + length, fs.fstatSync(this.fd).size);
    if (end <= at || punchHole(this.fd, at, end - at)) return;
    writeZeros(this.fd, at, end - at, this.label);
  }

  read(into: Uint8Array, at: number): number {
    this.need("read");
    return readAt(this.fd, into, at, this.label);
  }

  commit(size: number): void {
    this.need("commit");
    let open = true;
    try {
      fs.ftruncateSync(this.fd, size);
      if (this.sync) fs.fsyncSync(this.fd);
      open = false;
      fs.closeSync(this.fd);
      fs.renameSync(this.temporary, this.path);
    } catch (error) {
      this.state = "aborted";
      if (open) closeQuietly(this.fd);
      remove(this.temporary);
      throw hostError(error, this.label, "cannot finish", size);
    }
    this.state = "committed";
    untrackLive(this.temporary);
    if (this.sync) syncFolder(dirname(this.path), this.label);
  }

  abort(): void {
    if (this.state !== "open") return;
    this.state = "aborted";
    closeQuietly(this.fd);
    remove(this.temporary);
  }

  private need(what: string): void {
    if (this.state !== "open") throw new IoError("ECLOSED", `${this.label}: ${what} after ${this.state}`);
  }
}

function syncFolder(path: string, label: string): void {
  let fd = -1;
  try {
    fd = fs.openSync(path, fs.constants.O_RDONLY);
    fs.fsyncSync(fd);
  } catch (error) {
    // Some filesystems cannot flush a folder; the file itself is safe.
    if (codeOf(error) !== "EINVAL" && codeOf(error) !== "EACCES")
      throw hostError(error, label, "cannot flush");
  } finally {
    if (fd >= 0) closeQuietly(fd);
  }
}
