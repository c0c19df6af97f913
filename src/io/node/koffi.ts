import { existsSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";

/** The part of koffi used here. */
export interface Koffi {
  load(path: null): { func(prototype: string): (...args: unknown[]) => unknown };
  errno(): number;
}

/**
 * Loads koffi; throws where it is not installed or has no binary for this host. The package's own script and the search
 * for it cost 5 ms, its binary 1 ms: the binary is loaded by itself where it lies as npm puts it.
 */
export function loadKoffi(): Koffi {
  const binary = findBinary();
  if (binary !== null)
    try {
      const module: { exports: Partial<Koffi> } = { exports: {} };
      process.dlopen(module, binary);
      const { load, errno } = module.exports;
      if (typeof load === "function" && typeof errno === "function") return module.exports as Koffi;
    } catch {
      // Made for another C library: the package's script finds the one that fits.
    }
  return process.getBuiltinModule("node:module").createRequire(import.meta.url)("koffi") as Koffi;
}

/** The binary in a package beside koffi's, in the first node_modules from here upwards that has koffi. */
function findBinary(): string | null {
  const host = `${process.platform}-${process.arch}`;
  for (let dir = dirname(decodeURIComponent(new URL(import.meta.url).pathname)); ; dir = dirname(dir)) {
    const koffi = join(dir, "node_modules", "koffi");
    if (existsSync(koffi)) {
      const scope = join(dirname(realpathSync(koffi)), "@koromix");
      const binary = join(scope, `koffi-${host}`, host.replace("-", "_"), "koffi.node");
      return existsSync(binary) ? binary : null;
    }
    if (dir === dirname(dir)) return null;
  }
}
