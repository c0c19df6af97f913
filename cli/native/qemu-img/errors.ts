import { ImprintError, IoError } from "../../../src/errors.ts";
import { printError } from "../../ui/out.ts";
import { hostText } from "./host-text.ts";

/**
 * Ends a command: the lines of `text` go to standard error, the first one after "qemu-img: ", and `exitCode` is the
 * process's. An empty text prints nothing.
 */
export class QemuError extends Error {
  readonly exitCode: number;
  constructor(text: string, exitCode = 1) {
    super(text);
    this.exitCode = exitCode;
  }
}

/** Wrong usage: as `QemuError`, with the line that points at --help. */
export class QemuUsageError extends QemuError {
  constructor(text: string) {
    super(`${text}\nTry 'qemu-img --help' for more information`);
  }
}

/** Ends a command quietly with an exit code (after --help, say). */
export class Finished extends Error {
  readonly exitCode: number;
  constructor(exitCode = 0) {
    super("finished");
    this.exitCode = exitCode;
  }
}

/** Prints `qemu-img: TEXT` as a line of its own to standard error. */
export function complain(text: string): void {
  printError(`qemu-img: ${text}\n`);
}

/** Prints a warning as qemu does. */
export function warn(text: string): void {
  complain(`warning: ${text}`);
}

/** What qemu-img says of an error that came from the engine: strerror's words for the host's, else our own message. */
export function errorText(error: unknown): string {
  if (error instanceof QemuError) return error.message;
  if (error instanceof ImprintError && error.native !== undefined) return error.native;
  if (error instanceof IoError) return hostText(error.code) ?? error.message;
  if (error instanceof ImprintError) return error.message;
  return error instanceof Error ? error.message : String(error);
}

/** Prints an error that ended a command and returns the exit code. Bugs show their stack only with IMPRINT_DEBUG=1. */
export function reportQemu(error: unknown): number {
  if (error instanceof Finished) return error.exitCode;
  if (error instanceof QemuError) {
    if (error.message !== "") complain(error.message);
    return error.exitCode;
  }
  if (error instanceof ImprintError && error.code === "EABORT") return 130;
  const known = error instanceof ImprintError || isSystemError(error);
  complain(known ? errorText(error) : `unexpected ${String(error)} (a bug in Imprint)`);
  if (process.env["IMPRINT_DEBUG"] === "1" && error instanceof Error) printError(`${error.stack}\n`);
  return 1;
}

function isSystemError(error: unknown): boolean {
  const e = error as NodeJS.ErrnoException;
  return error instanceof Error && typeof e.code === "string" && typeof e.errno === "number";
}
