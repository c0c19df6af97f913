import * as fs from "node:fs";
import type { IoError } from "../../errors.ts";
import { Kernel, type Slot } from "../../kernel/kernel.ts";
import type { Target } from "../target.ts";
import { DIRECT_GRAIN, DIRECT_LEAST, DIRECT_MEMORY, leftToCache, openDirect } from "./direct.ts";
import { closeQuietly, writeAt } from "./file-io.ts";
import type { FileTarget } from "./file-target.ts";
import { hostError } from "./host-error.ts";

/** Bytes of one direct write. */
const PIECE = 1024 * 1024;
/** Pieces in memory: one that is filled, the others on their way to the disk. */
const PIECES = 4;

/** A part of the kernel's memory that is filled, or on its way to the disk. */
interface Piece {
  readonly bytes: Uint8Array;
  writing: boolean;
}

/**
 * `target` with its long runs of bytes written past the page cache, several at a time, while the caller makes the next
 * ones: for outputs that are flushed to the disk anyway. Memory that only passes bytes on is then not needed, and the
 * flush at the end finds little left. Where the filesystem is not known to write directly, `target` itself.
 */
export function pastPageCache(target: FileTarget): Target {
  const fd = openDirect(target.fd);
  if (fd < 0) return target;
  try {
    return new DirectTarget(target, fd);
  } catch (error) {
    closeQuietly(fd);
    // No memory for it.
    if (error instanceof RangeError) return target;
    throw error;
  }
}

class DirectTarget implements Target {
  readonly label: string;
  readonly seekable = true;
  readonly fresh = true;
  readonly capacity = Number.POSITIVE_INFINITY;
  private readonly target: FileTarget;
  private readonly fd: number;
  private readonly slot: Slot;
  private readonly pieces: Piece[] = [];
  /** The piece that is filled: `filled` bytes, which belong at `start`. */
  private piece: Piece | null = null;
  private start = 0;
  private filled = 0;
  /** End of all that was written so far. */
  private end = 0;
  private readonly writes = new Set<Promise<void>>();
  private failure: IoError | null = null;
  private open = true;

  /** Takes `fd`, open for direct writes to the target's file. Throws RangeError where the kernel has no memory left. */
  constructor(target: FileTarget, fd: number) {
    this.target = target;
    this.fd = fd;
    this.label = target.label;
    this.slot = Kernel.get().take(PIECES * PIECE, DIRECT_MEMORY);
    for (let at = 0; at < PIECES * PIECE; at += PIECE)
      this.pieces.push({ bytes: this.slot.bytes.subarray(at, at + PIECE), writing: false });
  }

  write(bytes: Uint8Array, at: number): void | Promise<void> {
    // What goes back may meet bytes that are on their way.
    if (at < this.end) return this.settled().then(() => this.append(bytes, 0, at));
    return this.append(bytes, 0, at);
  }

  zero(at: number, length: number): void | Promise<void> {
    if (at >= this.end) return;
    return this.settled().then(() => this.target.zero(at, length));
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    await this.settled();
    return this.target.read(into, at);
  }

  async commit(size: number): Promise<void> {
    try {
      await this.settled();
    } catch (error) {
      await this.abort();
      throw error;
    }
    this.release();
    this.target.commit(size);
  }

  async abort(): Promise<void> {
    await Promise.all(this.writes);
    this.release();
    this.target.abort();
  }

  /** Adds `bytes` from index `done` on; they belong at `at`. Waits only where every piece is on its way. */
  private append(bytes: Uint8Array, done: number, at: number): void | Promise<void> {
    if (this.failure !== null) throw this.failure;
    if (at + done !== this.start + this.filled) this.send();
    while (done < bytes.length) {
      const to = at + done;
      if (this.filled === 0 && to % DIRECT_GRAIN !== 0) {
        const n = Math.min(DIRECT_GRAIN - (to % DIRECT_GRAIN), bytes.length - done);
        writeAt(this.target.fd, bytes.subarray(done, done + n), to, this.label);
        done += n;
        continue;
      }
      this.piece ??= this.pieces.find((p) => !p.writing) ?? null;
      if (this.piece === null) {
        const next = done;
        return Promise.race(this.writes).then(() => this.append(bytes, next, at));
      }
      if (this.filled === 0) this.start = to;
      const n = Math.min(PIECE - this.filled, bytes.length - done);
      this.piece.bytes.set(bytes.subarray(done, done + n), this.filled);
      this.filled += n;
      done += n;
      if (this.filled === PIECE) this.send();
    }
    this.end = Math.max(this.end, at + bytes.length);
  }

  /** Begins to write the piece that is filled: what can be directly, the rest through the page cache. */
  private send(): void {
    const { piece, start, filled } = this;
    if (piece === null || filled === 0) return;
    this.filled = 0;
    const direct = filled < DIRECT_LEAST ? 0 : filled - (filled % DIRECT_GRAIN);
    if (direct > 0) {
      this.piece = null;
      piece.writing = true;
      const write = this.writeDirectly(piece.bytes.subarray(0, direct), start).finally(() => {
        piece.writing = false;
        this.writes.delete(write);
      });
      this.writes.add(write);
    }
    if (direct < filled)
      writeAt(this.target.fd, piece.bytes.subarray(direct, filled), start + direct, this.label);
  }

  /** Never rejects: the first failure is kept. */
  private async writeDirectly(bytes: Uint8Array, at: number): Promise<void> {
    try {
      const done = await new Promise<number>((resolve, reject) =>
        fs.write(this.fd, bytes, 0, bytes.length, at, (error, n) =>
          error === null ? resolve(n) : reject(error),
        ),
      ).catch((error: unknown) => leftToCache(error, this.label, at));
      if (done < bytes.length) writeAt(this.target.fd, bytes.subarray(done), at + done, this.label);
    } catch (error) {
      this.failure ??= hostError(error, this.label, "write error", at) as IoError;
    }
  }

  /** Everything is with the host; throws the first failure. */
  private async settled(): Promise<void> {
    this.send();
    await Promise.all(this.writes);
    if (this.failure !== null) throw this.failure;
  }

  private release(): void {
    if (!this.open) return;
    this.open = false;
    closeQuietly(this.fd);
    Kernel.get().give(this.slot);
  }
}
