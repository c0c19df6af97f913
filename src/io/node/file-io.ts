import * as fs from "node:fs";
import { IoError } from "../../errors.ts";
import { codeOf, hostError } from "./host-error.ts";

/** Most bytes read by one system call. */
const MOST = 0x40000000;
/**
 * Most bytes written by one: the page cache takes memory for a larger write in larger pieces, and a virtual
 * machine whose host takes free memory back does so from pieces of 128 KiB or of 2 MiB, which must then be faulted
 * in anew. Measured with 2.6 GB in such a machine, medians of 5: 1.1 s; 1.2 s with 128 KiB; 3.1 s with 512 KiB.
 * Elsewhere it costs a tenth.
 */
const MOST_WRITTEN = 64 * 1024;
const ZEROS = 256 * 1024;
let zeros: Uint8Array | null = null;

/** Reads until `into` is full or the file ends; returns the bytes read. Throws IoError naming the offset. */
export function readAt(fd: number, into: Uint8Array, at: number, label: string): number {
  return readPiece(fd, into, 0, into.length, at, label);
}

/** As `readAt`, into `length` bytes of `into` from index `from`: no view is made. */
export function readPiece(
  fd: number,
  into: Uint8Array,
  from: number,
  length: number,
  at: number,
  label: string,
): number {
  let done = 0;
  while (done < length) {
    let n: number;
    try {
      n = fs.readSync(fd, into, from + done, Math.min(length - done, MOST), at + done);
    } catch (error) {
      if (codeOf(error) === "EINTR") continue;
      throw hostError(error, label, "read error", at + done);
    }
    if (n === 0) break;
    done += n;
  }
  return done;
}

/** Writes all of `bytes` at `at`, or throws IoError naming the offset that could not be written. */
export function writeAt(fd: number, bytes: Uint8Array, at: number, label: string): void {
  writePiece(fd, bytes, 0, bytes.length, at, label);
}

/** As `writeAt`, for `length` bytes of `bytes` from index `from`: no view is made. */
export function writePiece(
  fd: number,
  bytes: Uint8Array,
  from: number,
  length: number,
  at: number,
  label: string,
): void {
  let done = 0;
  while (done < length) {
    let n: number;
    try {
      n = fs.writeSync(fd, bytes, from + done, Math.min(length - done, MOST_WRITTEN), at + done);
    } catch (error) {
      if (codeOf(error) === "EINTR") continue;
      throw hostError(error, label, "write error", at + done);
    }
    if (n === 0) throw new IoError("EIO", `${label}: nothing written at byte ${at + done}`, at + done);
    done += n;
  }
}

/** Writes zeros over [at, at + length). */
export function writeZeros(fd: number, at: number, length: number, label: string): void {
  zeros ??= new Uint8Array(ZEROS);
  while (length > 0) {
    const n = Math.min(length, ZEROS);
    writeAt(fd, n === ZEROS ? zeros : zeros.subarray(0, n), at, label);
    at += n;
    length -= n;
  }
}

/** Closes, ignoring errors: for descriptors that were only read, or are given up. */
export function closeQuietly(fd: number): void {
  try {
    fs.closeSync(fd);
  } catch {
    // Nothing of it is needed any more.
  }
}
