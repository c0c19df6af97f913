import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { UNAVAILABLE } from "../../../src/io/node/native.ts";
import { lockedByOthers } from "../../../src/io/node/native-lock.ts";
import { QemuError } from "./errors.ts";

/**
 * qemu marks what its processes do with an image by locks on single bytes of it: 100 + n for a permission in use,
 * 200 + n for one that others may not have. n: 1 write, 3 resize.
 */
const USED = 100;
const DENIED = 200;
const END = 300;
const PERMISSIONS: readonly (readonly [bit: number, name: string])[] = [
  [1, "write"],
  [3, "resize"],
];

/** What an image is opened for. "steady": to be read while nobody writes to it, a raw one neither. */
export type Access = "read" | "steady" | "write";

/**
 * Refuses an image that a running qemu has locked against `access`, as native does: a QCOW2 image must not change while
 * it is read, a raw one may. Where the host does not tell, all is well. Throws QemuError.
 */
export function refuseLocked(
  file: { readonly fd: number; readonly label: string },
  format: string,
  access: Access,
): void {
  const held = locksOf(file.fd);
  if (held === null) return;
  for (const [bit, name] of PERMISSIONS) {
    if (access === "write" && held(DENIED + bit)) throw locked(`Failed to get "${name}" lock`, file.label);
    if ((format === "qcow2" || access === "steady") && held(USED + bit))
      throw locked(`Failed to get shared "${name}" lock`, file.label);
  }
}

/** What native says of a file that is to become a new image and that a running qemu uses; null where none does. */
export function lockOf(path: string): string | null {
  let fd = -1;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    refuseLocked({ fd, label: path }, "raw", "write");
  } catch (error) {
    // What cannot be looked at is the caller's to find out.
    return error instanceof QemuError ? error.message : null;
  } finally {
    if (fd >= 0) closeSync(fd);
  }
  return null;
}

function locked(text: string, label: string): QemuError {
  return new QemuError(`${text}\nIs another process using the image [${label}]?`);
}

/** Tells of a byte from 100 to 299 whether another open file description has locked it; null where none is. */
function locksOf(fd: number): ((at: number) => boolean) | null {
  const any = lockedByOthers(fd, USED, END - USED);
  if (any === UNAVAILABLE) return listedLocks(fd);
  return any === 0 ? null : (at) => lockedByOthers(fd, at, 1) === 1;
}

/** The same as the kernel lists it. Reading that list can take the kernel 10 ms. */
function listedLocks(fd: number): ((at: number) => boolean) | null {
  let text: string;
  try {
    text = readFileSync("/proc/locks", "latin1");
  } catch {
    return null;
  }
  if (!text.includes("OFDLCK")) return null;
  const { dev, ino } = fstatSync(fd, { bigint: true });
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  const hex = (n: bigint): string => n.toString(16).padStart(2, "0");
  const id = `${hex(major)}:${hex(minor)}:${ino}`;
  const held = new Set<number>();
  for (const line of text.split("\n")) {
    const m = / OFDLCK\s+\S+\s+\S+\s+-?\d+ (\S+) (\d+) (\d+|EOF)$/.exec(line);
    if (m === null || m[1] !== id) continue;
    const last = m[3] === "EOF" ? END - 1 : Math.min(Number(m[3]), END - 1);
    for (let at = Math.max(Number(m[2]), USED); at <= last; at++) held.add(at);
  }
  return held.size > 0 ? (at) => held.has(at) : null;
}
