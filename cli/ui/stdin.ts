import { fstatSync, ftruncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isatty } from "node:tty";
import { createFileTarget, openStdinSource, spool } from "../../src/node.ts";
import { UsageError } from "./errors.ts";

/**
 * A path under which standard input can be read at any offset: itself where it is a file or a device, else a sparse
 * copy in the temporary directory, which goes away with the process.
 */
export async function standardInput(): Promise<string> {
  const stat = fstatSync(0);
  if (stat.isFile() || stat.isBlockDevice()) return "/dev/stdin";
  if (isatty(0)) throw new UsageError("standard input is a terminal; redirect an image into it");
  // Never committed: its temporary file is one of those that are removed however the process ends.
  const copy = createFileTarget(join(tmpdir(), "imprint-stdin"), {
    mode: 0o600,
    label: "copy of standard input",
  });
  ftruncateSync(copy.fd, await spool(openStdinSource(), copy));
  return copy.temporary;
}
