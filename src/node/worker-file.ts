import { existsSync } from "node:fs";

/** The file of a helper thread: beside this module, in the source tree's build or in the bundle. */
export function workerFile(name: string): URL {
  const here = new URL(`./${name}.js`, import.meta.url);
  return existsSync(here) ? here : new URL(`../${name}.js`, import.meta.url);
}
