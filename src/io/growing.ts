import type { Target } from "./target.ts";

/**
 * A device (or anything else that holds old bytes) as a file that starts empty and grows: what was not written reads as
 * zeros up to the last byte that was. What lies behind that keeps its bytes. For targets that answer at once.
 */
export class GrowingTarget implements Target {
  readonly label: string;
  readonly seekable = true;
  readonly fresh = true;
  readonly capacity: number;
  private readonly base: SynchronousTarget;
  /** The "file" ends here; bytes. */
  private end = 0;

  constructor(base: SynchronousTarget) {
    this.base = base;
    this.label = base.label;
    this.capacity = base.capacity;
  }

  write(bytes: Uint8Array, at: number): void {
    this.grow(at);
    this.base.write(bytes, at);
    this.end = Math.max(this.end, at + bytes.length);
  }

  zero(at: number, length: number): void {
    const end = this.end;
    if (at < end) this.base.zero(at, Math.min(length, end - at));
    this.grow(at + length);
  }

  read(into: Uint8Array, at: number): number {
    const n = Math.max(0, Math.min(into.length, this.end - at));
    if (n > 0) this.base.read(into.subarray(0, n), at);
    into.fill(0, n);
    return into.length;
  }

  commit(size: number): void {
    this.grow(Math.min(size, this.capacity));
    this.base.commit(size);
  }

  abort(): void {
    this.base.abort();
  }

  private grow(to: number): void {
    if (to <= this.end) return;
    this.base.zero(this.end, to - this.end);
    this.end = to;
  }
}

/** A target that can be read and answers at once. */
export interface SynchronousTarget extends Target {
  write(bytes: Uint8Array, at: number): void;
  zero(at: number, length: number): void;
  read(into: Uint8Array, at: number): number;
  commit(size: number): void;
  abort(): void;
}
