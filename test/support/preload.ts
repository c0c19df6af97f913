// C libraries that tests load before the C library of a program, to have its calls fail or to end it in the middle.
import { createHash } from "node:crypto";
import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "./run.ts";

const built = new Map<string, Promise<string | null>>();

/** Path of the library built from `source`, once on this machine; null where there is no C compiler. */
export function preloadLibrary(name: string, source: string): Promise<string | null> {
  let path = built.get(name);
  if (path === undefined) built.set(name, (path = build(name, source)));
  return path;
}

async function build(name: string, source: string): Promise<string | null> {
  const hash = createHash("sha256").update(source).digest("hex").slice(0, 16);
  const path = join(tmpdir(), `imprint-${name}-${hash}.so`);
  if (existsSync(path)) return path;
  const stem = `${path}.${process.pid}`;
  writeFileSync(`${stem}.c`, source);
  const r = await run("cc", ["-shared", "-fPIC", "-O1", "-w", "-o", stem, `${stem}.c`, "-ldl"]).catch(
    () => null,
  );
  rmSync(`${stem}.c`);
  if (r === null) return null;
  if (r.code !== 0) throw new Error(`the preloaded library does not compile:\n${r.stderr}`);
  renameSync(stem, path);
  return path;
}
