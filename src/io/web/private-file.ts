import { IoError } from "../../errors.ts";
import type { Target } from "../target.ts";
import { hostError } from "./host-error.ts";

/** The synchronous file of a worker (the type library of windows does not have it). */
interface SyncAccessHandle {
  read(into: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

interface SyncCapable {
  createSyncAccessHandle?(): Promise<SyncAccessHandle>;
}

/**
 * An output in the browser's private file system (OPFS), for browsers that cannot write a file the person chose: it is
 * handed over as a download from disk. Workers only.
 */
export class PrivateFileTarget implements Target {
  readonly label: string;
  readonly seekable = true;
  readonly fresh = true;
  readonly capacity = Number.POSITIVE_INFINITY;
  private readonly folder: FileSystemDirectoryHandle;
  private readonly handle: FileSystemFileHandle;
  private readonly name: string;
  private access: SyncAccessHandle | null;

  private constructor(
    label: string,
    name: string,
    folder: FileSystemDirectoryHandle,
    handle: FileSystemFileHandle,
    access: SyncAccessHandle,
  ) {
    this.label = label;
    this.name = name;
    this.folder = folder;
    this.handle = handle;
    this.access = access;
  }

  /**
   * Starts an empty file `name` of `folder`, or answers null where the browser has no working private file system or
   * would not keep `size` bytes (private windows of some browsers accept calls and lose the bytes, which a short trial
   * shows).
   */
  static async open(
    label: string,
    folder: FileSystemDirectoryHandle,
    name: string,
    size = 0,
  ): Promise<PrivateFileTarget | null> {
    let access: SyncAccessHandle | undefined;
    try {
      const handle = await folder.getFileHandle(name, { create: true });
      access = await (handle as unknown as SyncCapable).createSyncAccessHandle?.();
      if (access !== undefined && works(access, size))
        return new PrivateFileTarget(label, name, folder, handle, access);
    } catch {
      // falls through: not available here
    }
    access?.close();
    await folder.removeEntry(name).catch(() => {});
    return null;
  }

  write(bytes: Uint8Array, at: number): void {
    let n: number;
    try {
      n = this.opened().write(bytes, { at });
    } catch (e) {
      throw hostError(`${this.label}: write failed`, e, at);
    }
    if (n !== bytes.length)
      throw new IoError("ENOSPC", `${this.label}: the browser has no more room for it`, at);
  }

  zero(): void {}

  read(into: Uint8Array, at: number): number {
    try {
      return this.opened().read(into, { at });
    } catch (e) {
      throw hostError(`${this.label}: read failed`, e, at);
    }
  }

  commit(size: number): void {
    if (this.access === null) return;
    try {
      this.access.truncate(size);
      this.access.flush();
      if (this.access.getSize() !== size)
        throw new IoError("ENOSPC", `${this.label}: the browser did not keep ${size} bytes`, size);
    } catch (e) {
      throw e instanceof IoError ? e : hostError(`${this.label}: cannot be finished`, e, size);
    }
    this.access.close();
    this.access = null;
  }

  async abort(): Promise<void> {
    if (this.access === null) return;
    this.access.close();
    this.access = null;
    await this.folder.removeEntry(this.name).catch(() => {});
  }

  /** The finished file; after `commit`. */
  file(): Promise<File> {
    return this.handle.getFile();
  }

  private opened(): SyncAccessHandle {
    if (this.access === null) throw new IoError("EBADF", `${this.label}: already closed`);
    return this.access;
  }
}

/** Whether the file keeps what is written to it, and has room for `size` bytes. Leaves it empty. */
function works(access: SyncAccessHandle, size: number): boolean {
  access.truncate(size);
  if (access.getSize() !== size) return false;
  access.truncate(0);
  const mark = new Uint8Array([0x49, 0x4d, 0x50]);
  if (access.write(mark, { at: 4096 }) !== mark.length || access.getSize() !== 4099) return false;
  access.truncate(4098);
  if (access.getSize() !== 4098) return false;
  const back = new Uint8Array(2);
  if (access.read(back, { at: 4096 }) !== 2 || back[0] !== 0x49 || back[1] !== 0x4d) return false;
  access.truncate(0);
  return access.getSize() === 0;
}
