import * as fs from "node:fs";
import { AbortError } from "../../errors.ts";
import { breathe } from "../pace.ts";
import type { SequentialSource } from "../source.ts";
import { closeQuietly } from "./file-io.ts";
import { codeOf, hostError } from "./host-error.ts";
import { endAsked } from "./live-files.ts";
import { AGAIN, enlargePipe, nativePipes, waitFor } from "./native-pipe.ts";
import { pause } from "./pause.ts";

/** Standard input, read from front to back. */
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

/** Milliseconds that a call waits for bytes before it lets the event loop turn. */
const PATIENCE = 40;
/** Milliseconds in which a signal that ended the writer arrives here. */
const END_MS = 10;

class DescriptorSource implements SequentialSource {
  readonly label: string;
  private readonly fd: number;
  private readonly owned: boolean;
  /** Whether another process may let us wait. */
  private readonly waits: boolean;
  private readonly pipe: boolean;
  private at = 0;
  private open = true;

  constructor(fd: number, label: string, owned: boolean) {
    this.fd = fd;
    this.label = label;
    this.owned = owned;
    const st = fs.fstatSync(fd);
    this.pipe = st.isFIFO();
    this.waits = this.pipe || st.isSocket() || st.isCharacterDevice();
  }

  /** Answers synchronously while bytes come; throws AbortError where a signal ends the wait for more. */
  next(into: Uint8Array): number | Promise<number> {
    if (this.waits && nativePipes()) {
      if (this.pipe && this.at === 0) enlargePipe(this.fd);
      if (!waitFor(this.fd, "read", PATIENCE)) return this.later(into);
    }
    const n = this.read(into);
    if (n === AGAIN) return this.later(into);
    return n === 0 && this.waits ? this.atEnd() : n;
  }

  close(): void {
    if (this.open && this.owned) closeQuietly(this.fd);
    this.open = false;
  }

  private async later(into: Uint8Array): Promise<number> {
    for (;;) {
      await breathe();
      if (!this.open || endAsked()) throw new AbortError();
      if (!waitFor(this.fd, "read", PATIENCE)) continue;
      const n = this.read(into);
      if (n !== AGAIN) return n === 0 ? this.atEnd() : n;
    }
  }

  /** The Ctrl-C that ended the writer of a pipe is for us too: its end is not the end of the bytes then. */
  private async atEnd(): Promise<number> {
    await new Promise((done) => setTimeout(done, END_MS));
    if (endAsked()) throw new AbortError();
    return 0;
  }

  private read(into: Uint8Array): number {
    for (let tries = 0; ; tries++) {
      try {
        const n = fs.readSync(this.fd, into, 0, into.length, null);
        this.at += n;
        return n;
      } catch (error) {
        const code = codeOf(error);
        if (code === "EOF") return 0;
        if (code === "EAGAIN" && nativePipes()) return AGAIN;
        if (code === "EAGAIN") pause(tries);
        else if (code !== "EINTR") throw hostError(error, this.label, "read error", this.at);
      }
    }
  }
}
