import * as fs from "node:fs";
import type { Target } from "../target.ts";
import { createFileTarget } from "./file-target.ts";
import { openInPlaceTarget } from "./in-place-target.ts";
import { openSequentialTarget, openStdoutTarget } from "./stdout-target.ts";

/** Options of `openTarget`. */
export interface OpenTargetOptions {
  /** Mode of a new file before the umask, default 0o666. */
  readonly mode?: number;
  readonly sync?: boolean;
  /** Write to a device that something holds. */
  readonly force?: boolean;
}

/**
 * The target that suits a path: "-" is standard output, a block device is written in place, a FIFO or character device
 * front to back, anything else is a file that appears at commit. Call `checkTarget` first.
 */
export function openTarget(path: string, options: OpenTargetOptions = {}): Target {
  if (path === "-") return openStdoutTarget();
  const st = fs.statSync(path, { throwIfNoEntry: false });
  if (st?.isBlockDevice()) return openInPlaceTarget(path, options);
  if (st?.isFIFO() || st?.isCharacterDevice()) return openSequentialTarget(path);
  return createFileTarget(path, options);
}
