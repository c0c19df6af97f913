import { DATA, MapRuns } from "../bytes/runs.ts";
import { IoError } from "../errors.ts";
import type { Source } from "./source.ts";
import type { Target } from "./target.ts";

/** A source over bytes in memory. Every read answers synchronously. */
export class MemorySource implements Source {
  readonly label: string;
  private readonly bytes: Uint8Array;

  /** `bytes` is used as it is, not copied. */
  constructor(bytes: Uint8Array, label = "memory") {
    this.bytes = bytes;
    this.label = label;
  }

  get size(): number {
    return this.bytes.length;
  }

  read(into: Uint8Array, at: number): number {
    if (at >= this.bytes.length) return 0;
    const n = Math.min(into.length, this.bytes.length - at);
    into.set(this.bytes.subarray(at, at + n));
    return n;
  }

  map(from: number, to: number): MapRuns {
    const runs = new MapRuns(from);
    runs.push(Math.min(to, this.bytes.length) - from, DATA);
    return runs;
  }

  close(): void {}
}

/** A target that grows in memory, by doubling. `bytes` is the result once committed. */
export class MemoryTarget implements Target {
  readonly label: string;
  readonly seekable = true;
  readonly fresh = true;
  readonly capacity: number;
  private buffer: Uint8Array;
  private length = 0;
  private state: "open" | "committed" | "aborted" = "open";

  /** `capacity`: bytes it may grow to (default 2 GiB - 1); writes beyond throw IoError("ENOSPC"). */
  constructor(label = "memory", capacity = 0x7fffffff) {
    this.label = label;
    this.capacity = capacity;
    this.buffer = new Uint8Array(Math.min(65536, capacity));
  }

  /** What was written so far; after `commit`, exactly the committed size. */
  get bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }

  write(bytes: Uint8Array, at: number): void {
    this.need("write");
    this.reserve(at + bytes.length);
    this.buffer.set(bytes, at);
    if (at + bytes.length > this.length) this.length = at + bytes.length;
  }

  zero(at: number, length: number): void {
    this.need("zero");
    if (at < this.length) this.buffer.fill(0, at, Math.min(at + length, this.length));
  }

  read(into: Uint8Array, at: number): number {
    if (at >= this.length) return 0;
    const n = Math.min(into.length, this.length - at);
    into.set(this.buffer.subarray(at, at + n));
    return n;
  }

  commit(size: number): void {
    this.need("commit");
    this.reserve(size);
    if (size < this.length) this.buffer.fill(0, size, this.length);
    this.length = size;
    this.state = "committed";
  }

  abort(): void {
    if (this.state !== "open") return;
    this.state = "aborted";
    this.buffer = new Uint8Array(0);
    this.length = 0;
  }

  private need(what: string): void {
    if (this.state !== "open") throw new IoError("ECLOSED", `${this.label}: ${what} after ${this.state}`);
  }

  private reserve(end: number): void {
    if (end <= this.buffer.length) return;
    if (!(end <= this.capacity))
      throw new IoError(
        "ENOSPC",
        `${this.label}: ${end} bytes wanted, room for ${this.capacity}`,
        this.capacity,
      );
    const wider = new Uint8Array(Math.min(Math.max(end, this.buffer.length * 2), this.capacity));
    wider.set(this.bytes);
    this.buffer = wider;
  }
}
