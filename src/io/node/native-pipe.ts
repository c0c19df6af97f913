import { constants } from "node:os";
import { IoError } from "../../errors.ts";
import { errorCode, type NativeLibrary, nativeLibrary, UNAVAILABLE } from "./native.ts";
import {
  F_GETPIPE_SZ,
  F_SETPIPE_SZ,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  O_CLOEXEC,
  O_NONBLOCK,
  POLLFD_BYTES,
  POLLIN,
  POLLOUT,
  SPLICE_F_NONBLOCK,
} from "./native-layout.ts";

/** System calls on pipes and sockets that Node does not offer; as in native.ts, all of them may be UNAVAILABLE. */

/** There is no room now: wait for it and call again. */
export const AGAIN = -2;

/** Capacities that a pipe is given, the best first: those above 1 MiB are for root, and each user has a budget. */
const CAPACITIES = [1 << 20, 1 << 19, 1 << 18, 1 << 17];

interface Calls {
  fcntl(fd: number, command: number, argument: number): number;
  poll(fds: Uint8Array, count: number, milliseconds: number): number;
  splice(
    from: number,
    at: Uint8Array,
    to: number,
    toAt: null,
    length: number,
    flags: number,
  ): number | bigint;
  tee(from: number, to: number, length: number, flags: number): number | bigint;
  pipe2(fds: Uint8Array, flags: number): number;
  send(fd: number, bytes: Uint8Array, length: number, flags: number): number | bigint;
  errno(): number;
}

let library: NativeLibrary | null = null;
let calls: Calls | null = null;
const { EAGAIN, EINTR, EPIPE, ENOTSOCK, EOPNOTSUPP } = constants.errno;
const offset = new BigInt64Array(1);
const offsetBytes = new Uint8Array(offset.buffer);
const polled = new DataView(new ArrayBuffer(POLLFD_BYTES));
const polledBytes = new Uint8Array(polled.buffer);

/** Whether the calls can be made at all. Loads koffi. */
export function nativePipes(): boolean {
  return load() !== null;
}

/**
 * Gives a pipe room for 1 MiB, or as much as this user may have: 64 KiB, as it is at first, let its two ends wait for
 * each other all the time. Never takes room away. Nothing happens where it cannot be done.
 */
export function enlargePipe(fd: number): void {
  const c = load();
  if (c === null) return;
  const now = c.fcntl(fd, F_GETPIPE_SZ, 0);
  if (now < 0) return;
  for (const capacity of CAPACITIES) if (now >= capacity || c.fcntl(fd, F_SETPIPE_SZ, capacity) >= 0) return;
}

/**
 * Waits until a descriptor can be written (read), or there is an error to be had from it, for `milliseconds` at most
 * (less where a signal comes). False: not yet. Where it cannot be asked, true.
 */
export function waitFor(fd: number, what: "read" | "write", milliseconds: number): boolean {
  const c = load();
  if (c === null) return true;
  polled.setInt32(0, fd, true);
  polled.setInt16(4, what === "read" ? POLLIN : POLLOUT, true);
  polled.setInt16(6, 0, true);
  const n = c.poll(polledBytes, 1, Math.max(Math.ceil(milliseconds), 0));
  if (n >= 0) return n > 0;
  return c.errno() !== EINTR;
}

/**
 * Moves up to `length` bytes at `at` of a file or device into a pipe without copying them. Returns how many, AGAIN, or
 * UNAVAILABLE (the file's end, a file that cannot, a byte that cannot be read). Throws IoError "EPIPE".
 */
export function spliceFile(from: number, at: number, pipe: number, length: number): number {
  const c = load();
  if (c === null) return UNAVAILABLE;
  for (;;) {
    offset[0] = BigInt(at);
    const n = Number(c.splice(from, offsetBytes, pipe, null, length, SPLICE_F_NONBLOCK));
    if (n !== -1) return n === 0 ? UNAVAILABLE : n;
    const error = c.errno();
    if (error === EPIPE) throw new IoError("EPIPE", "broken pipe");
    if (error !== EINTR) return error === EAGAIN ? AGAIN : UNAVAILABLE;
  }
}

/**
 * Puts what lies in pipe `from`, up to `length` bytes, into pipe `to` as well, without copying.
 * Returns as `spliceFile`.
 */
export function duplicatePipe(from: number, to: number, length: number): number {
  const c = load();
  if (c === null) return UNAVAILABLE;
  for (;;) {
    const n = Number(c.tee(from, to, length, SPLICE_F_NONBLOCK));
    if (n !== -1) return n === 0 ? UNAVAILABLE : n;
    const error = c.errno();
    if (error === EPIPE) throw new IoError("EPIPE", "broken pipe");
    if (error !== EINTR) return error === EAGAIN ? AGAIN : UNAVAILABLE;
  }
}

/** A new pipe that never lets anybody wait, or null. */
export function newPipe(): { readonly read: number; readonly write: number } | null {
  const fds = new Int32Array(2);
  if (load()?.pipe2(new Uint8Array(fds.buffer), O_NONBLOCK | O_CLOEXEC) !== 0) return null;
  return { read: fds[0], write: fds[1] };
}

/** Sends up to `bytes.length` bytes to a socket; returns how many, AGAIN or UNAVAILABLE. Throws IoError. */
export function sendNow(fd: number, bytes: Uint8Array): number {
  const c = load();
  if (c === null) return UNAVAILABLE;
  for (;;) {
    const n = Number(c.send(fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL));
    if (n !== -1) return n;
    const error = c.errno();
    if (error === EINTR) continue;
    if (error === EAGAIN) return AGAIN;
    if (error === ENOTSOCK || error === EOPNOTSUPP) return UNAVAILABLE;
    throw new IoError(errorCode(error), "cannot send");
  }
}

function load(): Calls | null {
  const c = nativeLibrary();
  if (c === library) return calls;
  library = c;
  calls = null;
  if (c === null) return null;
  try {
    calls = {
      fcntl: c.func("int fcntl(int, int, long)") as Calls["fcntl"],
      poll: c.func("int poll(void *, unsigned long, int)") as Calls["poll"],
      splice: c.func("int64_t splice(int, void *, int, void *, size_t, unsigned int)") as Calls["splice"],
      tee: c.func("int64_t tee(int, int, size_t, unsigned int)") as Calls["tee"],
      pipe2: c.func("int pipe2(void *, int)") as Calls["pipe2"],
      send: c.func("int64_t send(int, void *, size_t, int)") as Calls["send"],
      errno: c.errno,
    };
  } catch {
    // A C library without one of them: the portable ways do.
  }
  return calls;
}
