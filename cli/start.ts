import { exitNow } from "../src/io/node/native-exit.ts";
import * as dispatch from "./dispatch.ts";
import { report } from "./ui/errors.ts";

/** Milliseconds of a command from which V8 may be compiling in its threads. */
const BUSY_FROM = 40;
const began = performance.now();

/** Runs a command line with the compile cache on where this Node has one, and ends with its exit code. */
export function start(run: (d: typeof dispatch) => Promise<number>): void {
  // Node 20 has none: there looking for it would cost a millisecond.
  if (!process.version.startsWith("v20.")) {
    const module = process.getBuiltinModule("node:module") as { enableCompileCache?: () => void };
    module.enableCompileCache?.();
  }
  // Ended at once: to take the heap down first would cost milliseconds.
  run(dispatch).then(end, (error) => end(report("imprint", error)));
}

function end(code: number): void {
  if (performance.now() - began < BUSY_FROM) process.exit(code);
  // What is written to standard output and error is there: it goes by synchronous writes.
  process.on("exit", () => exitNow(code));
  process.exit(code);
}
