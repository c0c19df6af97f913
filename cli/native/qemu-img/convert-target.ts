import { fstatSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IoError, RefusedError } from "../../../src/errors.ts";
import { statOf } from "../../../src/io/node/mounts.ts";
import type { Target } from "../../../src/io/target.ts";
import { errorText, QemuError } from "./errors.ts";
import { lockOf } from "./lock.ts";
import { newFilePath } from "./names.ts";
import { type NewFile, openNewFile } from "./new-file.ts";

/** Names of standard output. */
const STDOUT = new Set(["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]);

/** True where the output goes front to back. */
export function isStream(name: string): boolean {
  if (name === "-") return true;
  if (STDOUT.has(name)) return !fstatSync(1).isBlockDevice();
  const st = statOf(name);
  return st !== undefined && (st.isFIFO() || st.isCharacterDevice() || st.isSocket());
}

/** Opens standard output or a pipe. */
export async function openStream(name: string, format: string): Promise<Target> {
  const { openSequentialTarget, openStdoutTarget } = await import("../../../src/io/node/stdout-target.ts");
  if (STDOUT.has(name)) return openStdoutTarget();
  try {
    return openSequentialTarget(name);
  } catch (error) {
    if (error instanceof IoError)
      throw new QemuError(
        `${name}: error while converting ${format}: Could not create '${name}': ${errorText(error)}`,
      );
    throw error;
  }
}

/** A temporary file for what has to be whole before it can go front to back. */
export async function openSpool(): Promise<NewFile> {
  return openNewFile(join(tmpdir(), "imprint-output"));
}

/**
 * Opens what a new image is written to: a file that appears under its name when it is complete, or a block device in
 * place. `sources`: files that are read meanwhile. Throws QemuError with native's text; `file` is
 * what is made of `name`.
 */
export async function openNewTarget(
  name: string,
  format: string,
  sources: readonly string[],
  file = name,
): Promise<NewFile> {
  const failed = (text: string): QemuError =>
    new QemuError(`${name}: error while converting ${format}: ${text}`);
  const { checkTarget } = await import("../../../src/io/node/safety.ts");
  const path = newFilePath(file);
  try {
    if (path === "") throw failed("Could not create '': No such file or directory");
    checkTarget(path, { sources });
    const used = lockOf(path);
    if (used !== null) throw failed(used);
    return openNewFile(path);
  } catch (error) {
    if (error instanceof RefusedError && error.code === "ESAMEFILE")
      throw failed(`Failed to get "write" lock\nIs another process using the image [${file}]?`);
    if (error instanceof RefusedError && error.code === "EISDIR")
      throw failed(`Could not create '${file}': Is a directory`);
    if (error instanceof IoError) throw failed(`Could not create '${file}': ${errorText(error)}`);
    if (error instanceof RefusedError) throw failed(error.message);
    throw error;
  }
}
