import { AbortError, ImprintError } from "../../src/errors.ts";
import { printError } from "./out.ts";

/** Wrong usage: the message goes out with a hint at --help, exit 2. */
export class UsageError extends Error {}

/** Exit codes of Imprint's own commands. */
export const EXIT = { ok: 0, failure: 1, usage: 2 } as const;

const SIGNAL_NUMBER = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/** Exit code of a job that was stopped: 128 and the signal's number, as of a program that the signal ended. */
let interrupted = 128 + SIGNAL_NUMBER.SIGINT;

/** Takes down which signal stops the job; returns the exit code that follows from it. */
export function noteSignal(signal: keyof typeof SIGNAL_NUMBER): number {
  interrupted = 128 + SIGNAL_NUMBER[signal];
  return interrupted;
}

/** Prints what went wrong as one line for a person and returns the exit code. */
export function report(program: string, error: unknown): number {
  if (error instanceof UsageError) {
    printError(`${program}: ${error.message}\nTry '${program} --help'.\n`);
    return EXIT.usage;
  }
  printError(`${program}: ${describe(error)}\n`);
  if (process.env["IMPRINT_DEBUG"] === "1" && error instanceof Error) printError(`${stackOf(error)}\n`);
  return error instanceof AbortError ? interrupted : EXIT.failure;
}

/** The message of an error, with the cause's where the host gave one, on one line. */
export function describe(error: unknown): string {
  if (error instanceof ImprintError) return error.message;
  const system = systemMessage(error);
  if (system !== null) return system;
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return `unexpected ${text} (a bug in Imprint; IMPRINT_DEBUG=1 shows where)`;
}

/** "PATH: no such file or directory" of a host error, or null for any other. */
function systemMessage(error: unknown): string | null {
  const e = error as NodeJS.ErrnoException;
  if (!(error instanceof Error) || typeof e.code !== "string" || typeof e.errno !== "number") return null;
  const text = /^[A-Z0-9]+: ([^,]*)/.exec(e.message)?.[1] ?? e.message;
  return e.path === undefined ? text : `${e.path}: ${text}`;
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : "";
  return (error.stack ?? String(error)) + cause;
}
