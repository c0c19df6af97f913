import { BlobSource } from "../blob.ts";
import { cached } from "../cache.ts";
import type { Source } from "../source.ts";
import type { Target } from "../target.ts";
import { hostError } from "./host-error.ts";

/** Bytes gathered before one call into the browser: each call crosses a process border. */
const GATHER = 4 * 1024 * 1024;
/** Every read of a File costs about a millisecond, so pages are large. */
const PAGES = { page: 1024 * 1024, pages: 4, ahead: 4 };

/**
 * A file the person chose (File System Access API). The browser writes beside it and puts it in place at `commit`, so
 * an aborted job leaves the file as it was. Unwritten ranges read as zeros. Only what is in place can be read back: the
 * first `read` puts it there, and should the job be aborted after that, an empty file is left instead of a wrong one.
 */
export class FileHandleTarget implements Target {
  readonly label: string;
  readonly seekable = true;
  readonly fresh = true;
  readonly capacity = Number.POSITIVE_INFINITY;
  private readonly handle: FileSystemFileHandle;
  private readonly stream: FileSystemWritableFileStream;
  private readonly buffer = new Uint8Array(GATHER);
  private start = 0;
  private filled = 0;
  private ended = false;
  /** Bytes the file has, gathered ones not counted. */
  private length: number;
  private placed: Source | null = null;

  private constructor(handle: FileSystemFileHandle, stream: FileSystemWritableFileStream, size: number) {
    this.label = handle.name;
    this.handle = handle;
    this.stream = stream;
    this.length = size;
  }

  /**
   * Starts an output that replaces the file behind `handle`. `size`: its size where that is known, which spares a copy
   * when it is read back.
   */
  static async open(handle: FileSystemFileHandle, size = 0): Promise<FileHandleTarget> {
    try {
      const stream = await handle.createWritable({ keepExistingData: false });
      return new FileHandleTarget(handle, stream, size);
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
      this.length = Math.max(this.length, at + bytes.length);
    } catch (e) {
      throw hostError(`${this.label}: write failed`, e, at);
    }
  }

  zero(): void {}

  async read(into: Uint8Array, at: number): Promise<number> {
    this.placed ??= await this.place();
    const want = Math.min(into.length, this.placed.size - at);
    if (want <= 0) return 0;
    return this.placed.read(into.subarray(0, want), at);
  }

  async commit(size: number): Promise<void> {
    if (this.ended) return;
    if (this.placed === null) await this.finish(this.stream, size);
    else if (this.placed.size !== size)
      await this.finish(await this.handle.createWritable({ keepExistingData: true }), size);
    this.ended = true;
  }

  async abort(): Promise<void> {
    if (this.ended) return;
    this.ended = true;
    if (this.placed === null) await this.stream.abort().catch(() => {});
    else {
      const empty = this.handle.createWritable({ keepExistingData: false });
      await empty.then((stream) => stream.close()).catch(() => {});
    }
  }

  private async finish(stream: FileSystemWritableFileStream, size: number): Promise<void> {
    await this.flush();
    try {
      await stream.truncate(size);
      await stream.close();
    } catch (e) {
      throw hostError(`${this.label}: cannot be finished`, e, size);
    }
  }

  /** Puts what was written in place, and opens it. */
  private async place(): Promise<Source> {
    await this.flush();
    await this.finish(this.stream, this.length);
    try {
      return cached(new BlobSource(await this.handle.getFile()), PAGES);
    } catch (e) {
      throw hostError(`${this.label}: cannot be read back`, e);
    }
  }
}
