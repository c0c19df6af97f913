import { IoError } from "../../errors.ts";
import { loadKoffi } from "./koffi.ts";
import {
  BLKGETSIZE64,
  BLKSSZGET,
  CLONE_RANGE_WORDS,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FICLONERANGE,
  SEEK_DATA,
  SEEK_HOLE,
  SYNC_FILE_RANGE_WRITE,
} from "./native-layout.ts";

/**
 * System calls that Node does not offer, through the optional package koffi: 64-bit Linux only. koffi is loaded by the
 * first call (about 2 ms). Where it is missing, or IMPRINT_NO_KOFFI=1 is set, every call answers UNAVAILABLE and the
 * caller takes its portable way.
 */

/** The call cannot be made here, or not on this file: use the portable way. */
export const UNAVAILABLE = -1;

interface Calls {
  lseek(fd: number, at: number, whence: number): number | bigint;
  fallocate(fd: number, mode: number, at: number, length: number): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  copyFileRange(
    from: number,
    fromAt: Uint8Array,
    to: number,
    toAt: Uint8Array,
    length: number,
    flags: number,
  ): number | bigint;
  syncFileRange(fd: number, at: number, length: number, flags: number): number;
  errno(): number;
}

let library: NativeLibrary | null | undefined;
let calls: Calls | null | undefined;

/** Whether the calls can be made at all. Loads koffi. */
export function nativeAvailable(): boolean {
  return load() !== null;
}

/** Forgets what was loaded, so that IMPRINT_NO_KOFFI is looked at again. */
export function resetNative(): void {
  library = undefined;
  calls = undefined;
}

/** First byte of data at or after `at`; Infinity where only a hole follows; UNAVAILABLE. */
export function seekData(fd: number, at: number): number {
  return seek(fd, at, SEEK_DATA);
}

/** First byte of a hole at or after `at` (the end of the file counts as one); Infinity at the end; UNAVAILABLE. */
export function seekHole(fd: number, at: number): number {
  return seek(fd, at, SEEK_HOLE);
}

/** Makes a range read as zeros and gives its blocks back; false where that cannot be done here. */
export function punchHole(fd: number, at: number, length: number): boolean {
  const c = load();
  if (c === null || length <= 0) return false;
  for (;;) {
    if (c.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, length) === 0) return true;
    const code = errorCode(c.errno());
    if (code === "EINTR") continue;
    if (code === "EIO" || code === "ENOSPC") throw failed(code, "punch a hole", at);
    return false;
  }
}

/**
 * Allocates the blocks of a range that has none, without a change of the file's size or bytes; false where that cannot
 * be done here (for want of space too). ext4 then writes a third faster: it need not reserve each block by itself.
 */
export function allocate(fd: number, at: number, length: number): boolean {
  const c = load();
  return c !== null && length > 0 && c.fallocate(fd, FALLOC_FL_KEEP_SIZE, at, length) === 0;
}

/**
 * Shares `length` bytes between two files of one filesystem without copying them; false where the filesystem cannot
 * (not the same one, no reflinks, offsets not block-aligned). `length` 0 is refused: the kernel takes it for "to the
 * end". Throws IoError for EIO, ENOSPC, EDQUOT.
 */
export function cloneRange(from: number, fromAt: number, length: number, to: number, toAt: number): boolean {
  const c = load();
  if (c === null || length <= 0) return false;
  const argument = new BigInt64Array(CLONE_RANGE_WORDS);
  argument[0] = BigInt(from);
  argument[1] = BigInt(fromAt);
  argument[2] = BigInt(length);
  argument[3] = BigInt(toAt);
  for (;;) {
    if (c.ioctl(to, FICLONERANGE, new Uint8Array(argument.buffer)) === 0) return true;
    const code = errorCode(c.errno());
    if (code === "EINTR") continue;
    if (code === "EIO" || code === "ENOSPC" || code === "EDQUOT") throw failed(code, "share extents", toAt);
    return false;
  }
}

/**
 * Copies up to `length` bytes inside the kernel; returns how many (0 at the source's end) or UNAVAILABLE. Throws
 * IoError for EIO, ENOSPC, EDQUOT, EFBIG.
 */
export function copyRange(from: number, fromAt: number, to: number, toAt: number, length: number): number {
  const c = load();
  if (c === null) return UNAVAILABLE;
  const offsets = new BigInt64Array([BigInt(fromAt), BigInt(toAt)]);
  const bytes = new Uint8Array(offsets.buffer);
  for (;;) {
    const n = Number(c.copyFileRange(from, bytes.subarray(0, 8), to, bytes.subarray(8, 16), length, 0));
    if (n >= 0) return n;
    const code = errorCode(c.errno());
    if (code === "EINTR") continue;
    if (code === "EIO" || code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG")
      throw failed(code, "copy", toAt);
    return UNAVAILABLE;
  }
}

/**
 * Makes the host begin to write a file's changes to its disk, without waiting for them: what a later flush has to wait
 * for is then less. Nothing happens where that cannot be done.
 */
export function startWriteback(fd: number): void {
  load()?.syncFileRange(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

/** Size in bytes of the block device open as `fd`, or UNAVAILABLE. */
export function blockDeviceSize(fd: number): number {
  const c = load();
  if (c === null) return UNAVAILABLE;
  const size = new BigUint64Array(1);
  return c.ioctl(fd, BLKGETSIZE64, new Uint8Array(size.buffer)) === 0 ? Number(size[0]) : UNAVAILABLE;
}

/** Bytes of a logical sector of the block device open as `fd`, or UNAVAILABLE. */
export function blockDeviceSector(fd: number): number {
  const c = load();
  if (c === null) return UNAVAILABLE;
  const size = new Int32Array(1);
  return c.ioctl(fd, BLKSSZGET, new Uint8Array(size.buffer)) === 0 ? size[0] : UNAVAILABLE;
}

function seek(fd: number, at: number, whence: number): number {
  const c = load();
  if (c === null) return UNAVAILABLE;
  const r = Number(c.lseek(fd, at, whence));
  if (r >= 0) return r;
  const code = errorCode(c.errno());
  if (code === "ENXIO") return Number.POSITIVE_INFINITY;
  if (code === "EIO") throw failed(code, "read the map", at);
  return UNAVAILABLE;
}

function failed(code: string, doing: string, at: number): IoError {
  return new IoError(code, `cannot ${doing} at byte ${at}: ${code}`, at);
}

/** "ENOSPC" for the number this host gives it. */
export function errorCode(errno: number): string {
  // Loaded here, as few runs need it.
  const { constants } = process.getBuiltinModule("node:os");
  for (const [name, value] of Object.entries(constants.errno)) if (value === errno) return name;
  return `E${errno}`;
}

/** The C library of this process. */
export interface NativeLibrary {
  /** A function of it, from its C prototype. */
  func(prototype: string): (...args: unknown[]) => unknown;
  /** Error number of the last call that failed. */
  errno(): number;
}

/** The C library, or null where no call can be made. Loads koffi. */
export function nativeLibrary(): NativeLibrary | null {
  if (library !== undefined) return library;
  library = null;
  if (process.env["IMPRINT_NO_KOFFI"] === "1") return null;
  if (process.platform !== "linux" || (process.arch !== "x64" && process.arch !== "arm64")) return null;
  try {
    const koffi = loadKoffi();
    const c = koffi.load(null);
    library = { func: (prototype) => c.func(prototype), errno: () => koffi.errno() };
  } catch {
    // Not installed, or no binary for this C library: the portable ways do.
  }
  return library;
}

function load(): Calls | null {
  if (calls !== undefined) return calls;
  calls = null;
  const c = nativeLibrary();
  if (c === null) return null;
  try {
    calls = {
      lseek: c.func("int64_t lseek(int, int64_t, int)") as Calls["lseek"],
      fallocate: c.func("int fallocate(int, int, int64_t, int64_t)") as Calls["fallocate"],
      ioctl: c.func("int ioctl(int, unsigned long, void *)") as Calls["ioctl"],
      copyFileRange: c.func(
        "int64_t copy_file_range(int, void *, int, void *, size_t, unsigned int)",
      ) as Calls["copyFileRange"],
      syncFileRange: c.func(
        "int sync_file_range(int, int64_t, int64_t, unsigned int)",
      ) as Calls["syncFileRange"],
      errno: c.errno,
    };
  } catch {
    // A C library without one of them: the portable ways do.
  }
  return calls;
}
