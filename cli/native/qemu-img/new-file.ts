import { IoError, RefusedError, UnsupportedError } from "../../../src/errors.ts";
import type { Preallocation } from "../../../src/image/qcow2/create/options.ts";
import { GrowingTarget, type SynchronousTarget } from "../../../src/io/growing.ts";
import { writeZeros } from "../../../src/io/node/file-io.ts";
import { createFileTarget } from "../../../src/io/node/file-target.ts";
import { openInPlaceTarget } from "../../../src/io/node/in-place-target.ts";
import { statOf } from "../../../src/io/node/mounts.ts";
import { allocate } from "../../../src/io/node/native.ts";
import { checkTarget } from "../../../src/io/node/safety.ts";
import { errorText, type QemuError } from "./errors.ts";
import { hostText } from "./host-text.ts";
import { lockOf } from "./lock.ts";

/** A file (or device) that is being made. */
export interface NewFile {
  readonly target: SynchronousTarget;
  /** It is a block device: it has old bytes, and does not grow. */
  readonly device: boolean;
  /** Gives a range its blocks: "falloc" allocates, "full" writes zeros; the other modes do nothing. Bytes. */
  allocate(from: number, length: number, mode: Preallocation): void;
}

/**
 * Starts a file that is there under its name once it is committed, or opens a block device. Throws RefusedError for
 * what is neither, IoError.
 */
export function openNewFile(path: string): NewFile {
  const st = statOf(path);
  const device = st?.isBlockDevice() === true;
  const target = device ? openInPlaceTarget(path) : createFileTarget(path);
  return {
    target,
    device,
    allocate: (from, length, mode) => {
      if (length <= 0 || mode === "off" || mode === "metadata") return;
      if (!Number.isSafeInteger(from + length))
        throw new UnsupportedError(`${path}: ${length} bytes cannot be allocated`);
      // Devices have their blocks.
      if (mode === "falloc" && (device || allocate(target.fd, from, length))) return;
      writeZeros(target.fd, from, length, path);
    },
  };
}

/** The target of a new QCOW2 image, whose layout counts on zeros wherever nothing was written. */
export function emptyTarget(file: NewFile): SynchronousTarget {
  return file.device ? new GrowingTarget(file.target) : file.target;
}

/**
 * `openNewFile`, after a look at what is there: what is in use, and the files in `sources`, are never overwritten.
 * `failed` makes the error of native's text, "Could not create 'SHOWN': ...".
 */
export function newFile(
  path: string,
  shown: string,
  sources: readonly string[],
  failed: (text: string) => QemuError,
): NewFile {
  const fail = (text: string): QemuError => failed(`Could not create '${shown}': ${text}`);
  if (path === "") throw fail(hostText("ENOENT")!);
  const used = lockOf(path);
  if (used !== null) throw failed(used);
  try {
    checkTarget(path, { sources });
    return openNewFile(path);
  } catch (error) {
    if (error instanceof RefusedError) throw fail(hostText(error.code) ?? error.message);
    if (error instanceof IoError) throw fail(errorText(error));
    throw error;
  }
}
