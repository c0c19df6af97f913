import { closeSync, fstatSync, ftruncateSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isatty } from "node:tty";
import { IoError } from "../../src/errors.ts";
import { UsageError } from "./errors.ts";

const PIECE = 256 * 1024;
const BLOCK = 4096;

/**
 * A path under which standard input can be read at any offset: itself where it is a file or a device, else a sparse
 * copy in the temporary directory, which goes away with the process.
 */
export function standardInput(): string {
  const stat = fstatSync(0);
  if (stat.isFile() || stat.isBlockDevice()) return "/dev/stdin";
  if (isatty(0)) throw new UsageError("standard input is a terminal; redirect an image into it");
  const name = join(tmpdir(), `imprint-stdin-${process.pid}-${Date.now().toString(36)}`);
  const fd = openSync(name, "wx+", 0o600);
  let path = name;
  if (process.platform === "linux") {
    // Nameless from the start: nothing is left behind, however the process ends.
    rmSync(name);
    path = `/proc/self/fd/${fd}`;
  } else process.on("exit", () => rmSync(name, { force: true }));
  try {
    spool(fd);
  } catch (e) {
    closeSync(fd);
    const error = e as NodeJS.ErrnoException;
    throw new IoError(error.code ?? "EIO", `keeping standard input in ${tmpdir()}: ${error.message}`, -1, e);
  }
  return path;
}

function spool(fd: number): void {
  const buffer = Buffer.alloc(PIECE);
  const zeros = Buffer.alloc(BLOCK);
  let at = 0;
  for (;;) {
    const n = readInput(buffer);
    if (n === 0) break;
    for (let from = 0; from < n; ) {
      let to = Math.min(n, from + BLOCK);
      const zero = zeros.subarray(0, to - from).equals(buffer.subarray(from, to));
      while (
        !zero &&
        to < n &&
        !zeros.subarray(0, Math.min(n, to + BLOCK) - to).equals(buffer.subarray(to, to + BLOCK))
      )
        to = Math.min(n, to + BLOCK);
      for (let p = from; !zero && p < to; ) p += writeSync(fd, buffer, p, to - p, at + p);
      from = to;
    }
    at += n;
  }
  ftruncateSync(fd, at);
}

function readInput(into: Buffer): number {
  for (;;) {
    try {
      return readSync(0, into);
    } catch (e) {
      const { code } = e as NodeJS.ErrnoException;
      if (code === "EOF") return 0;
      if (code !== "EAGAIN") throw e;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
