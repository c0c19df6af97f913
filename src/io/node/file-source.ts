import * as fs from "node:fs";
import { DATA, HOLE, type HostFile, MapRuns } from "../../bytes/runs.ts";
import { IoError, RefusedError } from "../../errors.ts";
import type { Source } from "../source.ts";
import { deviceId, deviceSectorSize, deviceSize } from "./block-device.ts";
import { closeQuietly, readAt } from "./file-io.ts";
import { hostError } from "./host-error.ts";
import { seekData, seekHole, UNAVAILABLE } from "./native.ts";

/** Options of `openFileSource`. */
export interface FileSourceOptions {
  /** What messages call it; the path by default. */
  readonly label?: string;
  /** False refuses block devices (RefusedError "EDEVICE"). Default true. */
  readonly devices?: boolean;
  /** True takes character devices too, as files of 0 bytes. */
  readonly characterDevices?: boolean;
}

/** A regular file or block device. Everything answers synchronously. */
export interface FileSource extends Source {
  readonly path: string;
  readonly fd: number;
  readonly blockDevice: boolean;
  readonly characterDevice: boolean;
  /** Identity of the file; `rdev` is meaningful for devices. */
  readonly stat: { readonly dev: bigint; readonly ino: bigint; readonly rdev: bigint };
  readonly plain: { readonly file: HostFile; readonly base: number };
  read(into: Uint8Array, at: number): number;
  map(from: number, to: number): MapRuns;
  close(): void;
}

/** Runs in one batch of a map. */
const BATCH = 4096;

/**
 * Filesystems whose st_blocks counts every byte that is not a hole, delayed allocation included (statfs magic numbers
 * of ext2/3/4, XFS and tmpfs); elsewhere a count of 0 proves nothing.
 */
const EXACT_BLOCKS = new Set([0xef53, 0x58465342, 0x01021994]);
/** Larger than any file that ext4 keeps inside its inode, where st_blocks is 0 though there is data. */
const NEVER_INLINE = 65536;

/**
 * Opens a regular file or a block device for reading. Throws IoError where the host refuses, RefusedError for a
 * directory ("EISDIR") or anything that cannot be read at an offset ("ENOTSEEKABLE"). The size is taken once, here.
 */
export function openFileSource(path: string, options: FileSourceOptions = {}): FileSource {
  const label = options.label ?? path;
  let fd = -1;
  try {
    refuseKind(fs.statSync(path), label, options);
    fd = fs.openSync(path, fs.constants.O_RDONLY);
    const st = fs.fstatSync(fd, { bigint: true });
    refuseKind(st, label, options);
    const size = st.isBlockDevice() ? deviceSize(fd, deviceId(st.rdev)) : Number(st.size);
    return new NodeFileSource(path, label, fd, st, size);
  } catch (error) {
    if (fd >= 0) closeQuietly(fd);
    throw error instanceof RefusedError ? error : hostError(error, label, "cannot open");
  }
}

interface Kind {
  isFile(): boolean;
  isBlockDevice(): boolean;
  isDirectory(): boolean;
  isCharacterDevice(): boolean;
}

function refuseKind(st: Kind, label: string, options: FileSourceOptions): void {
  if (st.isFile() || (options.characterDevices === true && st.isCharacterDevice())) return;
  if (st.isBlockDevice()) {
    if (options.devices ?? true) return;
    throw new RefusedError("EDEVICE", `${label}: is a block device, which is not allowed here`);
  }
  if (st.isDirectory())
    throw new RefusedError("EISDIR", `${label}: is a directory, not an image or a device`);
  throw new RefusedError(
    "ENOTSEEKABLE",
    st.isCharacterDevice()
      ? `${label}: is a character device; only files and block devices can be read at any offset`
      : `${label}: is a pipe or socket; only files and block devices can be read at any offset`,
  );
}

class NodeFileSource implements FileSource {
  readonly size: number;
  readonly label: string;
  readonly path: string;
  readonly fd: number;
  readonly sectorSize?: number;
  readonly blockDevice: boolean;
  readonly characterDevice: boolean;
  readonly stat: FileSource["stat"];
  readonly plain: FileSource["plain"];
  private open = true;
  private readonly empty: boolean;

  constructor(path: string, label: string, fd: number, st: fs.BigIntStats, size: number) {
    this.path = path;
    this.label = label;
    this.fd = fd;
    this.size = size;
    this.blockDevice = st.isBlockDevice();
    this.characterDevice = st.isCharacterDevice();
    this.stat = { dev: st.dev, ino: st.ino, rdev: st.rdev };
    if (this.blockDevice) this.sectorSize = deviceSectorSize(fd, deviceId(st.rdev));
    this.plain = { file: { path, fd }, base: 0 };
    this.empty = !this.blockDevice && st.blocks === 0n && size >= NEVER_INLINE;
  }

  read(into: Uint8Array, at: number): number {
    const room = this.size - at;
    if (room <= 0) return 0;
    const wanted = room < into.length ? into.subarray(0, room) : into;
    const n = readAt(this.fd, wanted, at, this.label);
    if (n < wanted.length)
      throw new IoError(
        "ESHORT",
        `${this.label}: ends at byte ${at + n}, but was ${this.size} bytes long when opened`,
        at + n,
      );
    return n;
  }

  map(from: number, to: number): MapRuns {
    const runs = new MapRuns(from);
    const end = Math.min(to, this.size);
    const file = this.plain.file;
    if (this.blockDevice) {
      runs.push(end - from, DATA, 0, from, file);
      return runs;
    }
    while (runs.end < end && runs.count < BATCH) {
      const at = runs.end;
      const data = this.nextData(at);
      if (data > at) {
        runs.push(Math.min(data, end) - at, HOLE, 0, at, file);
        continue;
      }
      const hole = seekHole(this.fd, at);
      runs.push((hole > at ? Math.min(hole, end) : end) - at, DATA, 0, at, file);
    }
    return runs;
  }

  /** Start of the data at or after `at`; `at` itself where nothing is known. */
  private nextData(at: number): number {
    const data = seekData(this.fd, at);
    if (data !== UNAVAILABLE) return data;
    return this.empty && this.exactBlocks() ? Number.POSITIVE_INFINITY : at;
  }

  private exactBlocks(): boolean {
    try {
      const now = fs.fstatSync(this.fd, { bigint: true });
      return now.blocks === 0n && EXACT_BLOCKS.has(fs.statfsSync(this.path).type >>> 0);
    } catch {
      return false;
    }
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    closeQuietly(this.fd);
  }
}
