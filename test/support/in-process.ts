// Runs command lines in this process: starting Node for each of a thousand of them would take minutes.
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { forgetInputs } from "../../cli/commands/input.ts";
import { dispatch } from "../../cli/dispatch.ts";

export interface Said {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

let busy: Promise<unknown> = Promise.resolve();

/**
 * Runs `imprint ARGS` in the folder `cwd` and catches what it prints; one at a time, whoever asks. Not for commands
 * that write to standard output as a file or read standard input.
 */
export function runHere(args: readonly string[], cwd: string): Promise<Said> {
  const next = busy.then(() => captured(args, cwd));
  busy = next.catch(() => {});
  return next;
}

async function captured(args: readonly string[], cwd: string): Promise<Said> {
  const said: [string[], string[]] = [[], []];
  const original = fs.writeSync;
  const before = process.cwd();
  fs.writeSync = ((fd: number, bytes: Uint8Array, ...rest: never[]) => {
    if (fd !== 1 && fd !== 2) return (original as (...a: unknown[]) => number)(fd, bytes, ...rest);
    const from = (rest[0] as number | undefined) ?? 0;
    said[fd - 1].push(Buffer.from(bytes.subarray(from)).toString("latin1"));
    return bytes.length - from;
  }) as typeof fs.writeSync;
  syncBuiltinESMExports();
  process.chdir(cwd);
  forgetInputs();
  try {
    const code = await dispatch(args);
    return { code, stdout: said[0].join(""), stderr: said[1].join("") };
  } finally {
    process.chdir(before);
    fs.writeSync = original;
    syncBuiltinESMExports();
  }
}
