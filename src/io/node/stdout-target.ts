import * as fs from "node:fs";
import { IoError } from "../../errors.ts";
import { type Sink, StreamTarget } from "../stream.ts";
import { closeQuietly } from "./file-io.ts";
import { codeOf, hostError } from "./host-error.ts";
import { pause } from "./pause.ts";

/**
 * Standard output as a target, written synchronously from front to back, also where it is redirected to a file. A
 * reader that has gone away is IoError "EPIPE".
 */
export function openStdoutTarget(label = "standard output"): StreamTarget {
  return new StreamTarget(new DescriptorSink(1, label, false), label);
}

/** A FIFO or character device as a target, written from front to back. Opening a FIFO waits for its reader. */
export function openSequentialTarget(path: string, label = path): StreamTarget {
  try {
    const fd = fs.openSync(path, fs.constants.O_WRONLY);
    return new StreamTarget(new DescriptorSink(fd, label, true), label);
  } catch (error) {
    throw hostError(error, label, "cannot open for writing");
  }
}

class DescriptorSink implements Sink {
  private readonly fd: number;
  private readonly label: string;
  private readonly owned: boolean;
  private at = 0;

  constructor(fd: number, label: string, owned: boolean) {
    this.fd = fd;
    this.label = label;
    this.owned = owned;
  }

  write(bytes: Uint8Array): void {
    let tries = 0;
    for (let done = 0; done < bytes.length; ) {
      try {
        const n = fs.writeSync(this.fd, bytes, done, bytes.length - done, null);
        if (n === 0) throw new IoError("EIO", `${this.label}: nothing written at byte ${this.at}`, this.at);
        done += n;
        this.at += n;
        tries = 0;
      } catch (error) {
        const code = codeOf(error);
        if (code === "EAGAIN") pause(tries++);
        else if (code !== "EINTR") throw hostError(error, this.label, "write error", this.at);
      }
    }
  }

  close(): void {
    if (!this.owned) return;
    try {
      fs.closeSync(this.fd);
    } catch (error) {
      throw hostError(error, this.label, "cannot finish", this.at);
    }
  }

  abort(): void {
    if (this.owned) closeQuietly(this.fd);
  }
}
