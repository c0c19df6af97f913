import { writeSync } from "node:fs";

/**
 * Text to standard output and standard error without the start-up cost of process.stdout. A reader that went away
 * (`| head`) ends the process as SIGPIPE would.
 */
export function print(text: string): void {
  writeAll(1, text);
}

export function printError(text: string): void {
  writeAll(2, text);
}

function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (e) {
      const code = (e as NodeJS.ErrnoException).code;
      if (code === "EAGAIN") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
      else if (code === "EPIPE" && fd === 1) process.exit(141);
      else if (fd === 2) return;
      else throw Object.assign(e as Error, { path: "standard output" });
    }
  }
}
