import type { Target } from "../target.ts";
import { hostError } from "./host-error.ts";

/** Bytes gathered before one call into the browser: each call crosses a process border. */
const GATHER = 4 * 1024 * 1024;

/**
 * A file the person chose (File System Access API). The browser writes beside it and puts it in place at `commit`, so
 * an aborted job leaves the file as it was. Unwritten ranges read as zeros.
 */
export class FileHandleTarget implements Target {
  readonly label: string;
  readonly seekable = true;
  readonly fresh = true;
  readonly capacity = Number.POSITIVE_INFINITY;
  private readonly stream: FileSystemWritableFileStream;
  private readonly buffer = new Uint8Array(GATHER);
  private start = 0;
  private filled = 0;
  private ended = false;

  private constructor(label: string, stream: FileSystemWritableFileStream) {
    this.label = label;
    this.stream = stream;
  }

  /** Starts an output that replaces the file behind `handle`. */
  static async open(handle: FileSystemFileHandle): Promise<FileHandleTarget> {
    try {
      return new FileHandleTarget(handle.name, await handle.createWritable({ keepExistingData: false }));
    } catch (e) {
      throw hostError(`${handle.name}: cannot be written`, e);
    }
  }

  write(bytes: Uint8Array, at: number): void | Promise<void> {
    if (this.filled > 0 && at === this.start + this.filled && bytes.length <= GATHER - this.filled) {
      this.buffer.set(bytes, this.filled);
      this.filled += bytes.length;
      return;
    }
    return this.writeApart(bytes, at);
  }

  private async writeApart(bytes: Uint8Array, at: number): Promise<void> {
    await this.flush();
    if (bytes.length >= GATHER) return this.put(bytes, at);
    this.buffer.set(bytes);
    this.start = at;
    this.filled = bytes.length;
  }

  private async flush(): Promise<void> {
    const n = this.filled;
    this.filled = 0;
    if (n > 0) await this.put(this.buffer.subarray(0, n), this.start);
  }

  private async put(bytes: Uint8Array, at: number): Promise<void> {
    try {
      await this.stream.write({ type: "write", position: at, data: bytes as Uint8Array<ArrayBuffer> });
    } catch (e) {
      throw hostError(`${this.label}: write failed`, e, at);
    }
  }

  zero(): void {}

  async commit(size: number): Promise<void> {
    if (this.ended) return;
    await this.flush();
    try {
      await this.stream.truncate(size);
      await this.stream.close();
      this.ended = true;
    } catch (e) {
      throw hostError(`${this.label}: cannot be finished`, e, size);
    }
  }

  async abort(): Promise<void> {
    if (this.ended) return;
    this.ended = true;
    await this.stream.abort().catch(() => {});
  }
}
