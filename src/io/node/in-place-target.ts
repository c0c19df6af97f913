import * as fs from "node:fs";
import type { HostFile } from "../../bytes/runs.ts";
import { IoError, RefusedError } from "../../errors.ts";
import type { Target } from "../target.ts";
import { deviceId, deviceSize } from "./block-device.ts";
import { closeQuietly, readAt, writeAt, writeZeros } from "./file-io.ts";
import { codeOf, hostError } from "./host-error.ts";
import { punchHole } from "./native.ts";

/** Options of `openInPlaceTarget`. */
export interface InPlaceOptions {
  /** What messages call it; the path by default. */
  readonly label?: string;
  /** Make the file (with this mode) when there is none. */
  readonly create?: number;
  /** Let commit shorten a file to the committed size. Default false: it only grows. */
  readonly shrink?: boolean;
  /**
   * Open a device even where something holds it (mounted, part of a volume). Default false: RefusedError
   * "EBUSY_TARGET".
   */
  readonly force?: boolean;
  /** Flush at commit; default true for devices, false for files. */
  readonly sync?: boolean;
}

/** An existing file or block device that is written where it is. Everything answers synchronously. */
export interface InPlaceTarget extends Target {
  readonly path: string;
  readonly fd: number;
  readonly blockDevice: boolean;
  readonly host: HostFile;
  write(bytes: Uint8Array, at: number): void;
  zero(at: number, length: number): void;
  read(into: Uint8Array, at: number): number;
  commit(size: number): void;
  abort(): void;
}

/**
 * Opens a regular file or block device to be written in place; what is not written keeps its bytes, and abort cannot
 * take writes back. A device is opened exclusively, so that nothing can mount it meanwhile. Call `checkTarget` first.
 */
export function openInPlaceTarget(path: string, options: InPlaceOptions = {}): InPlaceTarget {
  const label = options.label ?? path;
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants;
  let fd = -1;
  try {
    const st = fs.statSync(path, { throwIfNoEntry: options.create === undefined });
    if (st?.isDirectory()) throw new RefusedError("EISDIR", `${label}: is a directory`);
    if (st !== undefined && !st.isFile() && !st.isBlockDevice())
      throw new RefusedError("ENOTSEEKABLE", `${label}: is neither a regular file nor a block device`);
    const exclusive = st?.isBlockDevice() === true && options.force !== true ? O_EXCL : 0;
    fd = fs.openSync(path, O_RDWR | (st === undefined ? O_CREAT : exclusive), options.create ?? 0o666);
    const now = fs.fstatSync(fd, { bigint: true });
    const capacity = now.isBlockDevice() ? deviceSize(fd, deviceId(now.rdev)) : Number.POSITIVE_INFINITY;
    return new NodeInPlaceTarget(path, fd, label, capacity, options);
  } catch (error) {
    if (fd >= 0) closeQuietly(fd);
    if (error instanceof RefusedError) throw error;
    if (codeOf(error) === "EBUSY")
      throw new RefusedError(
        "EBUSY_TARGET",
        `${label}: is in use (mounted, swap, or part of another device)`,
      );
    throw hostError(error, label, "cannot open for writing");
  }
}

class NodeInPlaceTarget implements InPlaceTarget {
  readonly label: string;
  readonly seekable = true;
  readonly fresh = false;
  readonly capacity: number;
  readonly path: string;
  readonly fd: number;
  readonly blockDevice: boolean;
  readonly host: HostFile;
  private readonly shrink: boolean;
  private readonly sync: boolean;
  private state: "open" | "committed" | "aborted" = "open";

  constructor(path: string, fd: number, label: string, capacity: number, options: InPlaceOptions) {
    this.path = path;
    this.fd = fd;
    this.label = label;
    this.capacity = capacity;
    this.blockDevice = capacity !== Number.POSITIVE_INFINITY;
    this.shrink = options.shrink ?? false;
    this.sync = options.sync ?? this.blockDevice;
    this.host = { path, fd, flushed: this.sync };
  }

  write(bytes: Uint8Array, at: number): void {
    this.need("write");
    this.room(at + bytes.length);
    writeAt(this.fd, bytes, at, this.label);
  }

  zero(at: number, length: number): void {
    this.need("zero");
    this.room(at + length);
    if (!this.blockDevice) {
      const size = fs.fstatSync(this.fd).size;
      if (at + length > size) {
        this.grow(at + length);
        length = size - at;
      }
    }
    if (length <= 0 || punchHole(this.fd, at, length)) return;
    writeZeros(this.fd, at, length, this.label);
  }

  read(into: Uint8Array, at: number): number {
    this.need("read");
    return readAt(this.fd, into, at, this.label);
  }

  commit(size: number): void {
    this.need("commit");
    try {
      if (!this.blockDevice) {
        const now = fs.fstatSync(this.fd).size;
        if (now < size || (now > size && this.shrink)) this.grow(size);
      }
      if (this.sync) fs.fsyncSync(this.fd);
    } catch (error) {
      this.abort();
      throw hostError(error, this.label, "cannot finish", size);
    }
    this.state = "committed";
    try {
      fs.closeSync(this.fd);
    } catch (error) {
      throw hostError(error, this.label, "cannot finish", size);
    }
  }

  abort(): void {
    if (this.state !== "open") return;
    this.state = "aborted";
    closeQuietly(this.fd);
  }

  private grow(size: number): void {
    try {
      fs.ftruncateSync(this.fd, size);
    } catch (error) {
      throw hostError(error, this.label, "cannot resize", size);
    }
  }

  private room(end: number): void {
    if (end <= this.capacity) return;
    throw new IoError(
      "ENOSPC",
      `${this.label}: the device ends at byte ${this.capacity}, cannot write up to ${end}`,
      this.capacity,
    );
  }

  private need(what: string): void {
    if (this.state !== "open") throw new IoError("ECLOSED", `${this.label}: ${what} after ${this.state}`);
  }
}
