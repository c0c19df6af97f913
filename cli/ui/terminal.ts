import { fstatSync } from "node:fs";

/**
 * Whether a descriptor is a terminal. What is no character device is none; node:tty, which costs 2
 * ms, is asked of the rest.
 */
export function isTerminal(fd: number): boolean {
  try {
    return fstatSync(fd).isCharacterDevice() && process.getBuiltinModule("node:tty").isatty(fd);
  } catch {
    return false;
  }
}
