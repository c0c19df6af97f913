import type { HostFile } from "../../bytes/runs.ts";
import type { Target } from "../target.ts";
import { writeLater } from "./file-io.ts";
import type { FileTarget } from "./file-target.ts";

/**
 * A file target whose writes are done by another thread: they settle later, and a caller that prepares the next bytes
 * meanwhile loses no time. All else is done by `target` itself, whose descriptor is closed only when nothing is written
 * any more; what a caller reads, zeroes or commits must not be on its way.
 */
export class BehindTarget implements Target {
  readonly label: string;
  readonly seekable = true;
  readonly fresh = true;
  readonly capacity = Number.POSITIVE_INFINITY;
  readonly host: HostFile;
  private readonly target: FileTarget;
  private readonly writing = new Set<Promise<void>>();

  constructor(target: FileTarget) {
    this.target = target;
    this.label = target.label;
    this.host = target.host;
  }

  write(bytes: Uint8Array, at: number): Promise<void> {
    const write = writeLater(this.target.fd, bytes, at, this.label).finally(() => this.writing.delete(write));
    this.writing.add(write);
    return write;
  }

  zero(at: number, length: number): void {
    this.target.zero(at, length);
  }

  read(into: Uint8Array, at: number): number {
    return this.target.read(into, at);
  }

  commit(size: number): void {
    this.target.commit(size);
  }

  async abort(): Promise<void> {
    await Promise.allSettled(this.writing);
    this.target.abort();
  }
}
