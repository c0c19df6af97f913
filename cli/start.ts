import * as dispatch from "./dispatch.ts";

/** Runs a command line with the compile cache on where this Node has one, and ends with its exit code. */
export function start(run: (d: typeof dispatch) => Promise<number>): void {
  const module = process.getBuiltinModule("node:module") as { enableCompileCache?: () => void };
  module.enableCompileCache?.();
  run(dispatch).then((code) => {
    process.exitCode = code;
  });
}
