import { statSync } from "node:fs";
import { UnsupportedError } from "../../../src/errors.ts";
import type { CreateTarget } from "../../../src/image/qcow2/create/create.ts";
import type { Preallocation } from "../../../src/image/qcow2/create/options.ts";
import { writeZeros } from "../../../src/io/node/file-io.ts";
import { createFileTarget } from "../../../src/io/node/file-target.ts";
import { openInPlaceTarget } from "../../../src/io/node/in-place-target.ts";
import { allocate } from "../../../src/io/node/native.ts";

/** A file (or device) that is being made. */
export interface NewFile {
  readonly target: CreateTarget;
  /** Gives a range its blocks: "falloc" allocates, "full" writes zeros; the other modes do nothing. Bytes. */
  allocate(from: number, length: number, mode: Preallocation): void;
}

/**
 * Starts a file that is there under its name once it is committed, or opens a block device. Throws RefusedError for what is
 * neither, IoError.
 */
export function openNewFile(path: string): NewFile {
  const st = statSync(path, { throwIfNoEntry: false });
  const target = st?.isBlockDevice() === true ? openInPlaceTarget(path) : createFileTarget(path);
  return {
    target,
    allocate: (from, length, mode) => {
      if (length <= 0 || mode === "off" || mode === "metadata") return;
      if (!Number.isSafeInteger(from + length))
        throw new UnsupportedError(`${path}: ${length} bytes cannot be allocated`);
      // Devices have their blocks.
      if (
        mode === "falloc" &&
        (target.capacity !== Number.POSITIVE_INFINITY || allocate(target.fd, from, length))
      )
        return;
      writeZeros(target.fd, from, length, path);
    },
  };
}
