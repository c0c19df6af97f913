import * as dispatch from "./dispatch.ts";
import { report } from "./ui/errors.ts";

/** Runs a command line with the compile cache on where this Node has one, and ends with its exit code. */
export function start(run: (d: typeof dispatch) => Promise<number>): void {
  // Node 20 has none: there looking for it would cost a millisecond.
  if (!process.version.startsWith("v20.")) {
    const module = process.getBuiltinModule("node:module") as { enableCompileCache?: () => void };
    module.enableCompileCache?.();
  }
  // Ended at once: to take the heap down first would cost milliseconds.
  run(dispatch).then(
    (code) => process.exit(code),
    (error) => process.exit(report("imprint", error)),
  );
}
