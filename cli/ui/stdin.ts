import { fstatSync, ftruncateSync, read } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { enlargePipe } from "../../src/io/node/native-pipe.ts";
import { createFileTarget, IoError, type SequentialSource, spool } from "../../src/node.ts";
import { UsageError } from "./errors.ts";
import { isTerminal } from "./terminal.ts";

let path: Promise<string> | null = null;

/**
 * A path under which standard input can be read at any offset: itself where it is a file or a device, else a sparse
 * copy in the temporary directory, which goes away with the process. The same one however often it is asked for.
 */
export function standardInput(): Promise<string> {
  path ??= seekableInput();
  return path;
}

async function seekableInput(): Promise<string> {
  const stat = fstatSync(0);
  if (stat.isFile() || stat.isBlockDevice()) return "/dev/stdin";
  if (isTerminal(0)) throw new UsageError("standard input is a terminal; redirect an image into it");
  // Never committed: its temporary file is one of those that are removed however the process ends.
  const copy = createFileTarget(join(tmpdir(), "imprint-stdin"), {
    mode: 0o600,
    label: "copy of standard input",
  });
  ftruncateSync(copy.fd, await spool(patientInput(), copy));
  return copy.temporary;
}

/**
 * Standard input, waited for off this thread: signals are heard meanwhile, and also before the end of a pipe whose
 * writer the same Ctrl-C has ended is taken for the end of the image.
 */
function patientInput(): SequentialSource {
  enlargePipe(0);
  const readSome = promisify(read);
  let at = 0;
  return {
    label: "standard input",
    async next(into) {
      for (;;) {
        try {
          const { bytesRead } = await readSome(0, into, 0, into.length, null);
          at += bytesRead;
          if (bytesRead === 0) await sleep(10);
          return bytesRead;
        } catch (error) {
          const { code } = error as NodeJS.ErrnoException;
          if (code === "EOF") return 0;
          if (code === "EAGAIN") await sleep(1);
          else if (code !== "EINTR")
            throw new IoError(code ?? "EIO", `standard input: read error at byte ${at}: ${code}`, at, error);
        }
      }
    },
    close() {},
  };
}
