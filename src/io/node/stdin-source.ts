import * as fs from "node:fs";
import type { SequentialSource } from "../source.ts";
import { closeQuietly } from "./file-io.ts";
import { codeOf, hostError } from "./host-error.ts";
import { pause } from "./pause.ts";

/** Standard input, read synchronously from front to back. */
export function openStdinSource(): SequentialSource {
  return new DescriptorSource(0, "standard input", false);
}

/** A FIFO, socket or character device, read from front to back. Opening a FIFO waits for its writer. */
export function openSequentialSource(path: string): SequentialSource {
  try {
    return new DescriptorSource(fs.openSync(path, fs.constants.O_RDONLY), path, true);
  } catch (error) {
    throw hostError(error, path, "cannot open");
  }
}

class DescriptorSource implements SequentialSource {
  readonly label: string;
  private readonly fd: number;
  private readonly owned: boolean;
  private at = 0;
  private open = true;

  constructor(fd: number, label: string, owned: boolean) {
    this.fd = fd;
    this.label = label;
    this.owned = owned;
  }

  next(into: Uint8Array): number {
    for (let tries = 0; ; tries++) {
      try {
        const n = fs.readSync(this.fd, into, 0, into.length, null);
        this.at += n;
        return n;
      } catch (error) {
        const code = codeOf(error);
        if (code === "EOF") return 0;
        if (code === "EAGAIN") pause(tries);
        else if (code !== "EINTR") throw hostError(error, this.label, "read error", this.at);
      }
    }
  }

  close(): void {
    if (this.open && this.owned) closeQuietly(this.fd);
    this.open = false;
  }
}
