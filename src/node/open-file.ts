import type { OpenOptions } from "../engine/api.ts";
import { type Opened, openImage } from "../engine/open.ts";
import { openFileSource } from "../io/node/file-source.ts";
import { fileGate } from "../io/node/gate.ts";

/** Opens a file or block device of this machine. Files that it names are looked for beside it; see `fileGate`. */
export async function openFile(path: string, options: Partial<OpenOptions> = {}): Promise<Opened> {
  const source = openFileSource(path);
  try {
    return await openImage(source, { gate: fileGate(), ...options });
  } catch (error) {
    source.close();
    throw error;
  }
}
