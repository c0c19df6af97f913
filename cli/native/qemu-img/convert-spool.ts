import { ftruncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFileTarget, openSequentialSource, spool } from "../../../src/node.ts";

/** A path under which a pipe's bytes can be read at any offset: a copy that goes away with the process. */
export async function spooledPath(name: string): Promise<string> {
  const copy = createFileTarget(join(tmpdir(), "imprint-spool"), { mode: 0o600, label: `copy of ${name}` });
  const source = openSequentialSource(name);
  try {
    ftruncateSync(copy.fd, await spool(source, copy));
  } finally {
    await source.close();
  }
  return copy.temporary;
}
