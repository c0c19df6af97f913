import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import type { HostFile } from "../../bytes/runs.ts";
import { RefusedError } from "../../errors.ts";
import type { DurableFile, JournalStore } from "../durable.ts";
import { deviceId, deviceSize } from "./block-device.ts";
import { closeQuietly, readAt, writeAt } from "./file-io.ts";
import { codeOf, hostError } from "./host-error.ts";
import type { InPlaceTarget } from "./in-place-target.ts";
import { startWriteback } from "./native.ts";

/**
 * Bytes written after which the host is told to begin writing to the disk: the flush at the end waits for less then.
 */
const WRITEBACK_EVERY = 32 * 1024 * 1024;

/** A target opened in place, as a durable file. */
export function durableTarget(target: InPlaceTarget): DurableFile {
  return new NodeDurableFile(
    target.fd,
    target.label,
    target.blockDevice ? target.capacity : null,
    target.host,
  );
}

/** A file or block device of this machine that is changed in place; close it. */
export interface OpenedDurableFile extends DurableFile {
  readonly fd: number;
  readonly blockDevice: boolean;
  truncate(size: number): void;
  close(): void;
}

/** Opens an existing file or block device for reading and writing. Throws IoError, RefusedError for a directory. */
export function openDurableFile(path: string, label = path): OpenedDurableFile {
  let fd = -1;
  try {
    fd = fs.openSync(path, fs.constants.O_RDWR);
    const st = fs.fstatSync(fd, { bigint: true });
    if (!st.isFile() && !st.isBlockDevice())
      throw new RefusedError("ENOTSEEKABLE", `${label}: is neither a file nor a block device`);
    const fixed = st.isBlockDevice() ? deviceSize(fd, deviceId(st.rdev)) : null;
    return new NodeDurableFile(fd, label, fixed, { path, fd });
  } catch (error) {
    if (fd >= 0) closeQuietly(fd);
    throw error instanceof RefusedError ? error : hostError(error, label, "cannot open");
  }
}

class NodeDurableFile implements OpenedDurableFile {
  readonly label: string;
  readonly fd: number;
  readonly host?: HostFile;
  private readonly fixed: number | null;
  /** Bytes written since the host was told. */
  private unsent = 0;

  /** `fixed`: bytes of a device, which cannot grow. */
  constructor(fd: number, label: string, fixed: number | null, host?: HostFile) {
    this.fd = fd;
    this.label = label;
    this.fixed = fixed;
    this.host = host;
  }

  get blockDevice(): boolean {
    return this.fixed !== null;
  }

  size(): number {
    if (this.fixed !== null) return this.fixed;
    return this.call("cannot look at", () => fs.fstatSync(this.fd).size);
  }

  read(into: Uint8Array, at: number): number {
    return readAt(this.fd, into, at, this.label);
  }

  write(bytes: Uint8Array, at: number): void {
    writeAt(this.fd, bytes, at, this.label);
    this.unsent += bytes.length;
    if (this.unsent < WRITEBACK_EVERY) return;
    startWriteback(this.fd);
    this.unsent = 0;
  }

  grow(size: number): void {
    if (this.fixed !== null || this.size() >= size) return;
    this.call("cannot resize", () => fs.ftruncateSync(this.fd, size));
  }

  truncate(size: number): void {
    if (this.fixed !== null) return;
    this.call("cannot resize", () => fs.ftruncateSync(this.fd, size));
  }

  sync(): void {
    this.call("cannot flush", () => fs.fsyncSync(this.fd));
  }

  close(): void {
    closeQuietly(this.fd);
  }

  private call<T>(doing: string, call: () => T): T {
    try {
      return call();
    } catch (error) {
      throw hostError(error, this.label, doing);
    }
  }
}

/** A journal store of the host. `close` lets it go without removing anything. */
export interface NodeJournalStore extends JournalStore {
  close(): void;
}

/**
 * The journal at `path`, held by this process alone: a symbolic link `PATH.lock` names the process, and one of a
 * process that is gone counts for nothing. Throws RefusedError "EBUSY_TARGET" where another process holds it, IoError
 * where nothing can be made there.
 */
export function openJournalStore(path: string): NodeJournalStore {
  return new FileJournalStore(path);
}

class FileJournalStore implements NodeJournalStore {
  readonly label: string;
  private readonly lock: string;
  private locked = false;
  private file: NodeDurableFile | null = null;

  constructor(path: string) {
    this.label = path;
    this.lock = `${path}.lock`;
    this.acquire();
  }

  open(): DurableFile | null {
    try {
      const fd = fs.openSync(this.label, fs.constants.O_RDWR);
      this.file = new NodeDurableFile(fd, this.label, null);
      return this.file;
    } catch (error) {
      if (codeOf(error) === "ENOENT") return null;
      throw hostError(error, this.label, "cannot open");
    }
  }

  create(fill: (file: DurableFile) => void): DurableFile {
    const temporary = `${this.label}.new`;
    try {
      fs.rmSync(temporary, { force: true });
      const fd = fs.openSync(temporary, "wx+", 0o600);
      const file = new NodeDurableFile(fd, this.label, null);
      this.file = file;
      fill(file);
      file.sync();
      fs.renameSync(temporary, this.label);
      syncFolder(this.label);
      return file;
    } catch (error) {
      this.file?.close();
      this.file = null;
      fs.rmSync(temporary, { force: true });
      throw hostError(error, this.label, "cannot create");
    }
  }

  remove(): void {
    try {
      fs.rmSync(this.label, { force: true });
      syncFolder(this.label);
    } catch (error) {
      throw hostError(error, this.label, "cannot remove");
    }
  }

  close(): void {
    this.file?.close();
    this.file = null;
    if (this.locked) fs.rmSync(this.lock, { force: true });
    this.locked = false;
  }

  private acquire(): void {
    const me = processName(process.pid);
    for (let tries = 0; tries < 3; tries++)
      try {
        fs.symlinkSync(me, this.lock);
        this.locked = true;
        return;
      } catch (error) {
        const code = codeOf(error);
        // A filesystem without symbolic links: nothing to hold on to.
        if (code === "EPERM" || code === "ENOSYS" || code === "EOPNOTSUPP") return;
        if (code !== "EEXIST") throw hostError(error, this.lock, "cannot create");
        this.dropDead();
      }
    throw new RefusedError("EBUSY_TARGET", `${this.lock}: cannot be taken`);
  }

  /** Removes the lock of a process that is gone. */
  private dropDead(): void {
    let holder: string;
    try {
      holder = fs.readlinkSync(this.lock);
    } catch (error) {
      if (codeOf(error) === "ENOENT") return;
      throw new RefusedError("EBUSY_TARGET", `${this.lock}: is in the way`);
    }
    const pid = Number.parseInt(holder, 10);
    if (pid > 0 && processName(pid) === holder)
      throw new RefusedError("EBUSY_TARGET", `${this.label}: process ${pid} is at work on it`);
    fs.rmSync(this.lock, { force: true });
  }
}

/** A process of this boot: its number, its start time and the boot; only the number where the host does not say. */
function processName(pid: number): string {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // A process that has ended and is still to be waited for.
    if (fields[0] === "Z") return "";
    const start = fields[19];
    const boot = fs.readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
    return `${pid}.${start}.${boot}`;
  } catch {
    return pid === process.pid || alive(pid) ? `${pid}` : "";
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === "EPERM";
  }
}

/** Makes what happened to a name last. */
function syncFolder(path: string): void {
  let fd = -1;
  try {
    fd = fs.openSync(dirname(path), "r");
    fs.fsyncSync(fd);
  } catch (error) {
    // Filesystems that cannot flush a folder say so; there is nothing more to do then.
    if (!["EINVAL", "EACCES", "EPERM", "EISDIR", "EBADF", "ENOTSUP"].includes(codeOf(error))) throw error;
  } finally {
    if (fd >= 0) closeQuietly(fd);
  }
}

/** Name of the journal of a move within the file at `path` (links resolved): beside it. */
export function journalBeside(path: string): string {
  return join(dirname(path), `.${basename(path)}.imprint-move`);
}

/** Refuses to look at a file whose move was interrupted: RefusedError "EJOURNAL" where there is a journal. */
export function refuseJournal(path: string, label: string): void {
  if (fs.existsSync(path))
    throw new RefusedError(
      "EJOURNAL",
      `${label}: a move was interrupted and has to be finished first (${path})`,
    );
}

/** A source's descriptor as a file that is only read. */
export function readOnlyFile(source: { readonly fd: number; readonly label: string }): DurableFile {
  return new NodeDurableFile(source.fd, source.label, null);
}
