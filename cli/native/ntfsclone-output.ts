import { closeSync, ftruncateSync, openSync, type Stats, statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { ImprintError, IoError, RefusedError } from "../../src/errors.ts";
import type { Target } from "../../src/io/target.ts";
import type { NtfscloneOptions } from "./ntfsclone-options.ts";
import { megabytes, Refusal, refusal, systemRefusal } from "./ntfsclone-text.ts";

/** An opened output. */
export interface CloneOutput {
  readonly target: Target;
  /** "stream": standard output, a FIFO or a character device. */
  readonly kind: "file" | "device" | "stream";
}

/** Refuses an output that exists, where it must not. Throws Refusal. */
export function checkOutput(o: NtfscloneOptions): void {
  if (o.output === null || o.output === "-") return;
  let st: Stats | undefined;
  try {
    st = statSync(o.output, { throwIfNoEntry: false });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A name that cannot be, "" above all, is refused where it is opened.
    if (code === "ENOENT") return;
    throw systemRefusal(code ?? "EIO", `Couldn't access '${o.output}'`);
  }
  if (st === undefined) return;
  if (!o.overwrite)
    throw new Refusal(
      `ERROR: Output file '${o.output}' already exists.\n` +
        "Use option --overwrite if you want to replace its content.\n",
    );
  if (o.metadata && o.force === 0 && st.isBlockDevice())
    throw new Refusal(
      "ERROR: Cloning only metadata to a block device does not usually make sense, aborting...\n" +
        "If you were instructed to do this by a developer and/or are sure that this is what you want to do, run " +
        "this utility again but this time add the force option, i.e. add '--force' to the command line arguments.",
    );
}

/** What an output has to hold. */
export interface OutputNeeds {
  /** True for a special image, which any stream can take. */
  readonly image: boolean;
  /** Bytes of the volume with the backup boot sector; for an image 0. */
  readonly bytes: number;
  /** What is written is made on the way, in long runs. */
  readonly stream?: boolean;
  /** Files that are read meanwhile. */
  readonly sources: readonly string[];
  /** A file is written under its own name from the start, and stays when the run is interrupted. */
  readonly inPlace?: boolean;
  /** With `inPlace`: the file is there and keeps what it holds. */
  readonly resume?: boolean;
}

/** Opens the output of a run. A file appears under its name when it is committed. Throws Refusal. */
export async function openCloneOutput(path: string, needs: OutputNeeds): Promise<CloneOutput> {
  const m = await import("../../src/node.ts");
  if (path === "-") return { target: m.openStdoutTarget(), kind: "stream" };
  try {
    const st = path === "" ? undefined : statSync(path, { throwIfNoEntry: false });
    if (path === "") throw new IoError("ENOENT", "no name");
    if (st?.isBlockDevice()) return { target: openDevice(m, path, needs), kind: "device" };
    if (st?.isFIFO() || st?.isCharacterDevice()) {
      if (!needs.image) throw unsizable(path, "EINVAL");
      return { target: m.openSequentialTarget(path), kind: "stream" };
    }
    m.checkTarget(path, { sources: needs.sources });
    if (needs.inPlace === true) {
      if (needs.resume !== true) closeSync(openSync(path, "w", 0o600));
      return { target: m.openInPlaceTarget(path, { shrink: true, sync: true }), kind: "file" };
    }
    const target = m.createFileTarget(path, { mode: needs.image ? 0o666 : 0o600, sync: true });
    if (!needs.image) proveSize(path, target, needs.bytes);
    return { target: needs.stream === true ? m.pastPageCache(target) : target, kind: "file" };
  } catch (error) {
    if (error instanceof IoError || (error instanceof RefusedError && error.code === "EISDIR"))
      throw systemRefusal(error.code, `Opening file '${path}' failed`);
    if (error instanceof Refusal || error instanceof ImprintError) throw error;
    throw systemRefusal((error as NodeJS.ErrnoException).code ?? "EIO", `Opening file '${path}' failed`);
  }
}

type Node = typeof import("../../src/node.ts");

function openDevice(m: Node, path: string, needs: OutputNeeds): Target {
  const { size } = m.checkTarget(path, { sources: needs.sources, force: true });
  if (size < needs.bytes)
    throw refusal(`Output device is too small (${size}) to fit the NTFS image (${needs.bytes}).`);
  const state = m.mountState(path);
  if (state.mounted) {
    const how = state.readOnly ? "mounted" : "mounted read-write";
    throw refusal(`Device '${path}' is ${how}. You must 'umount' it first.`);
  }
  m.checkTarget(path, { sources: needs.sources });
  return m.openInPlaceTarget(path);
}

/** Finds out early whether the file can become as long as it has to. */
function proveSize(path: string, target: { readonly fd: number; abort(): void }, bytes: number): void {
  try {
    ftruncateSync(target.fd, bytes);
    ftruncateSync(target.fd, 0);
  } catch (error) {
    target.abort();
    throw unsizable(path, (error as NodeJS.ErrnoException).code ?? "EIO");
  }
}

function unsizable(path: string, code: string): Refusal {
  const type = statfsSync(path, { bigint: true }).type;
  const large =
    code === "E2BIG" ? "Your system or the destination filesystem doesn't support large files.\n" : "";
  return systemRefusal(
    code,
    `ftruncate failed for file '${path}'`,
    `${large}Destination filesystem type is 0x${type.toString(16)}.\n`,
  );
}

/** Refuses a regular file on a filesystem with less than `needed` bytes free. */
export function checkFree(path: string, needed: number): void {
  let free: number;
  try {
    const s = statfsSync(dirname(path));
    if (s.blocks === 0) return;
    free = s.bfree * s.bsize;
  } catch {
    return;
  }
  if (free < needed)
    throw refusal(
      `Destination doesn't have enough free space: ${megabytes(free)} MB < ${megabytes(needed)} MB`,
    );
}

/** Milliseconds between two starts of writing to the disk. */
const WRITEBACK_EVERY = 30;

/** Lets the disk work while more is written, since all of it is flushed at the end; to be called often. */
export async function writebackOf(target: Target): Promise<() => void> {
  const { startWriteback } = await import("../../src/io/node/native.ts");
  const fd = target.host?.fd;
  if (fd === undefined) return () => {};
  let next = performance.now() + WRITEBACK_EVERY;
  return () => {
    if (performance.now() < next) return;
    startWriteback(fd);
    next = performance.now() + WRITEBACK_EVERY;
  };
}

/** A target that says so before it is committed, when it is flushed to the disk. */
export class AnnouncedTarget implements Target {
  readonly label: string;
  readonly seekable: boolean;
  readonly fresh: boolean;
  readonly capacity: number;
  readonly host?: NonNullable<Target["host"]>;
  readonly read?: NonNullable<Target["read"]>;
  private readonly target: Target;
  private readonly announce: () => void;

  constructor(target: Target, announce: () => void) {
    this.target = target;
    this.announce = announce;
    this.label = target.label;
    this.seekable = target.seekable;
    this.fresh = target.fresh;
    this.capacity = target.capacity;
    if (target.host !== undefined) this.host = target.host;
    if (target.read !== undefined) this.read = (into, at) => target.read!(into, at);
  }

  write(bytes: Uint8Array, at: number): void | Promise<void> {
    return this.target.write(bytes, at);
  }

  zero(at: number, length: number): void | Promise<void> {
    return this.target.zero(at, length);
  }

  commit(size: number): void | Promise<void> {
    this.announce();
    return this.target.commit(size);
  }

  abort(): void | Promise<void> {
    return this.target.abort();
  }
}
