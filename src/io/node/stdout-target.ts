import * as fs from "node:fs";
import { StreamTarget } from "../stream.ts";
import { hostError } from "./host-error.ts";
import { PipeSink } from "./pipe-sink.ts";

/**
 * Standard output as a target, written from front to back, also where it is redirected to a file; what waits for the reader
 * of a pipe settles later. A reader that has gone away is IoError "EPIPE".
 */
export function openStdoutTarget(label = "standard output"): StreamTarget {
  return new StreamTarget(new PipeSink(1, label, false), label);
}

/** A FIFO or character device as a target, written from front to back. Opening a FIFO waits for its reader. */
export function openSequentialTarget(path: string, label = path): StreamTarget {
  try {
    const fd = fs.openSync(path, fs.constants.O_WRONLY);
    return new StreamTarget(new PipeSink(fd, label, true), label);
  } catch (error) {
    throw hostError(error, label, "cannot open for writing");
  }
}
