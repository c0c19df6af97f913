import * as fs from "node:fs";
import { AbortError, IoError } from "../../errors.ts";
import { breathe } from "../pace.ts";
import type { Sink } from "../stream.ts";
import { closeQuietly } from "./file-io.ts";
import { codeOf, hostError } from "./host-error.ts";
import { endAsked } from "./live-files.ts";
import { UNAVAILABLE } from "./native.ts";
import {
  AGAIN,
  duplicatePipe,
  enlargePipe,
  nativePipes,
  newPipe,
  sendNow,
  spliceFile,
  waitFor,
} from "./native-pipe.ts";
import { pause } from "./pause.ts";

/** Milliseconds that a call stays away from the event loop. */
const PATIENCE = 40;
/** Bytes that any pipe has room for while nobody reads: up to here nothing is prepared. */
const SMALL = 64 * 1024;

/** Moves up to `length` bytes, `done` of the call's bytes being over; returns how many, 0 to give up, or AGAIN. */
type Move = (done: number, length: number) => number;

/**
 * The writing end of a pipe, a FIFO, a socket or anything else that takes bytes front to back. A pipe gets room for 1
 * MiB, and file contents and zeros go into it without being copied, where the host can. What waits for the reader, or
 * takes long, settles later and lets the event loop turn meanwhile: a signal, or `abort`, then ends it with AbortError.
 * Without native calls all writes wait as long as they have to.
 */
export class PipeSink implements Sink {
  private readonly base: number;
  private readonly label: string;
  private readonly owned: boolean;
  private readonly kind: "pipe" | "socket" | "other";
  /** Descriptor that is written: `base`, or one of our own on the same pipe that never waits. */
  private fd: number;
  private prepared = false;
  private native = false;
  private at = 0;
  private aborted = false;
  private open = true;
  /** Whether the last `advance` stopped because its time was over. */
  private late = false;
  /** A pipe full of zeros that is read by nobody. */
  private zeroPipe: { readonly read: number; readonly write: number } | null = null;
  readonly pull?: (fd: number, at: number, length: number) => number | Promise<number>;
  readonly zeros?: (length: number) => void | Promise<void>;

  /** `owned`: closed with the sink. */
  constructor(fd: number, label: string, owned: boolean) {
    this.base = fd;
    this.fd = fd;
    this.label = label;
    this.owned = owned;
    const st = fs.fstatSync(fd);
    this.kind = st.isFIFO() ? "pipe" : st.isSocket() ? "socket" : "other";
    if (this.kind === "pipe") {
      this.pull = (from, at, length) => this.pullFile(from, at, length);
      this.zeros = (length) => this.putZeros(length);
    }
  }

  write(bytes: Uint8Array): void | Promise<void> {
    if (!this.prepared && this.at + bytes.length > SMALL) this.prepare();
    const move: Move =
      this.native && this.kind === "socket"
        ? (done) => this.send(bytes, done)
        : (done, length) => this.put(bytes, done, length);
    return asVoid(this.transfer(bytes.length, move));
  }

  close(): void {
    this.dropOwn();
    if (!this.owned || !this.open) return;
    this.open = false;
    try {
      fs.closeSync(this.base);
    } catch (error) {
      throw hostError(error, this.label, "cannot finish", this.at);
    }
  }

  abort(): void {
    this.aborted = true;
    this.dropOwn();
    if (this.owned && this.open) closeQuietly(this.base);
    this.open = false;
  }

  /** Takes the descriptors that never wait. */
  private prepare(): void {
    this.prepared = true;
    this.native = this.kind !== "other" && nativePipes();
    if (!this.native || this.kind !== "pipe") return;
    enlargePipe(this.base);
    try {
      this.fd = fs.openSync(`/proc/self/fd/${this.base}`, fs.constants.O_WRONLY | fs.constants.O_NONBLOCK);
    } catch {
      // No /proc, another user's pipe, or no reader any more: the descriptor itself does, and waits.
    }
  }

  private dropOwn(): void {
    if (this.fd !== this.base) closeQuietly(this.fd);
    this.fd = this.base;
    if (this.zeroPipe === null) return;
    closeQuietly(this.zeroPipe.read);
    closeQuietly(this.zeroPipe.write);
    this.zeroPipe = null;
  }

  private pullFile(from: number, at: number, length: number): number | Promise<number> {
    if (!this.prepared) this.prepare();
    return this.transfer(length, (done, left) => this.told(() => spliceFile(from, at + done, this.fd, left)));
  }

  private putZeros(length: number): void | Promise<void> {
    if (!this.prepared) this.prepare();
    const pipe = this.zeroSource();
    const put: Move = (_done, left) => this.put(ZEROS, 0, Math.min(left, ZEROS.length));
    if (pipe === null) return asVoid(this.transfer(length, put));
    const r = this.transfer(length, (_done, left) =>
      this.told(() => duplicatePipe(pipe.read, this.fd, left)),
    );
    if (r instanceof Promise)
      return r.then((n) => (n < length ? asVoid(this.transfer(length - n, put)) : undefined));
    return r < length ? asVoid(this.transfer(length - r, put)) : undefined;
  }

  private zeroSource(): { readonly read: number } | null {
    if (this.zeroPipe !== null) return this.zeroPipe;
    const pipe = newPipe();
    if (pipe === null) return null;
    this.zeroPipe = pipe;
    try {
      fs.writeSync(pipe.write, ZEROS, 0, SMALL);
    } catch {
      return null;
    }
    return pipe;
  }

  /** Makes `length` bytes go; returns how many did, fewer where the move gave up. */
  private transfer(length: number, move: Move): number | Promise<number> {
    const done = this.advance(0, length, move);
    return this.late ? this.later(done, length, move) : done;
  }

  private advance(done: number, length: number, move: Move): number {
    const until = performance.now() + PATIENCE;
    this.late = false;
    for (let tries = 0; done < length; ) {
      const n = move(done, length - done);
      if (n === 0) return done;
      if (n > 0) {
        done += n;
        this.at += n;
        tries = 0;
        if (!this.native) continue;
      }
      const left = until - performance.now();
      if (left <= 0 && this.native && done < length) {
        this.late = true;
        return done;
      }
      if (n !== AGAIN) continue;
      if (this.native) waitFor(this.fd, "write", left);
      else pause(tries++);
    }
    return done;
  }

  private async later(done: number, length: number, move: Move): Promise<number> {
    for (;;) {
      await breathe();
      if (this.aborted || endAsked()) throw new AbortError();
      done = this.advance(done, length, move);
      if (!this.late) return done;
    }
  }

  private put(bytes: Uint8Array, from: number, length: number): number {
    for (;;) {
      try {
        const n = fs.writeSync(this.fd, bytes, from, length, null);
        if (n === 0) throw new IoError("EIO", `${this.label}: nothing written at byte ${this.at}`, this.at);
        return n;
      } catch (error) {
        const code = codeOf(error);
        if (code === "EAGAIN") return AGAIN;
        if (code !== "EINTR") throw hostError(error, this.label, "write error", this.at);
      }
    }
  }

  private send(bytes: Uint8Array, done: number): number {
    const n = this.told(() => sendNow(this.fd, done === 0 ? bytes : bytes.subarray(done)));
    return n === 0 ? this.put(bytes, done, bytes.length - done) : n;
  }

  /** The answer of a native call as a move: 0 where it was not possible. */
  private told(call: () => number): number {
    try {
      const n = call();
      return n === UNAVAILABLE ? 0 : n;
    } catch (error) {
      throw hostError({ code: codeOf(error) }, this.label, "write error", this.at);
    }
  }
}

const ZEROS = new Uint8Array(4 * SMALL);

function asVoid(r: number | Promise<number>): void | Promise<void> {
  return r instanceof Promise ? r.then(() => {}) : undefined;
}
