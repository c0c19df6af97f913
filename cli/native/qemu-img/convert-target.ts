import { fstatSync, statSync } from "node:fs";
import { IoError, RefusedError } from "../../../src/errors.ts";
import type { Target } from "../../../src/io/target.ts";
import { errorText, QemuError } from "./errors.ts";

/** Names of standard output. */
const STDOUT = new Set(["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]);

/** True where the output goes front to back. */
export function isStream(name: string): boolean {
  if (STDOUT.has(name)) return true;
  const st = statSync(name, { throwIfNoEntry: false });
  return st !== undefined && (st.isFIFO() || st.isCharacterDevice());
}

/**
 * Opens what a new image is written to: a file that appears under its name when it is complete, a block device in place,
 * standard output or a pipe front to back. `sources`: files that are read meanwhile. Throws QemuError with native's text.
 */
export async function openNewTarget(
  name: string,
  format: string,
  sources: readonly string[],
): Promise<Target> {
  const failed = (text: string): QemuError =>
    new QemuError(`${name}: error while converting ${format}: ${text}`);
  const { checkTarget, createFileTarget, openInPlaceTarget, openSequentialTarget, openStdoutTarget } =
    await import("../../../src/node.ts");
  try {
    if (STDOUT.has(name)) {
      if (fstatSync(1).isFile() && name !== "-") return createFileTarget(`/proc/self/fd/1`);
      return openStdoutTarget();
    }
    const path = name.startsWith("file:") ? name.slice(5) : name;
    if (path === "") throw failed("Could not create '': No such file or directory");
    const { kind } = checkTarget(path, { sources });
    if (kind === "stream") return openSequentialTarget(path);
    if (kind === "device") return openInPlaceTarget(path);
    return createFileTarget(path, { mode: 0o644 });
  } catch (error) {
    if (error instanceof RefusedError && error.code === "ESAMEFILE")
      throw failed(`Failed to get "write" lock\nIs another process using the image [${name}]?`);
    if (error instanceof RefusedError && error.code === "EISDIR")
      throw failed(`Could not create '${name}': Is a directory`);
    if (error instanceof IoError) throw failed(`Could not create '${name}': ${errorText(error)}`);
    if (error instanceof RefusedError) throw failed(error.message);
    throw error;
  }
}
