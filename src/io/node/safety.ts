import * as fs from "node:fs";
import { dirname } from "node:path";
import { RefusedError } from "../../errors.ts";
import {
  deviceId,
  deviceName,
  deviceReadOnly,
  deviceSize,
  diskOf,
  HOST,
  type HostRoots,
  holdersOf,
  loopDevices,
  partitionNumber,
  partitionsOf,
  slavesOf,
} from "./block-device.ts";
import { closeQuietly } from "./file-io.ts";
import { finalPath } from "./file-target.ts";
import { codeOf, hostError } from "./host-error.ts";
import { mounts, sameFile, statOf, swaps } from "./mounts.ts";

export { type MountState, mountState } from "./mounts.ts";

/** Options of `checkTarget`. */
export interface TargetCheck {
  /** Files that are read while the target is written: the source and the files its image names. */
  readonly sources?: readonly string[];
  /** Bytes that will be written (for a file: the space it takes; for a device: its least size). */
  readonly needed?: number;
  /** Write even to what is mounted or in use, or where space seems short. Never the source itself. */
  readonly force?: boolean;
  /** Where the kernel's views are mounted. */
  readonly host?: HostRoots;
}

/** What a path is as a target. */
export interface TargetKind {
  /** "stream": a FIFO or character device, written front to back. */
  readonly kind: "new" | "file" | "device" | "stream";
  /** Bytes of an existing file or device, else 0. */
  readonly size: number;
}

/**
 * Refuses a target that must not be written, before anything is: RefusedError with the code
 * - EISDIR: a directory;
 * - ESAMEFILE: the target is a source, or one lies on the other (partition and disk, loop device and file);
 * - EMOUNTED: it, one of its partitions, the disk it is on, or a device built on it is mounted or swapped to;
 * - EBUSY_TARGET: it is held otherwise (device mapper, md, a loop device, an exclusive opener);
 * - EROFS: the device is read-only;
 * - ETOOSMALL: the device has fewer than `needed` bytes;
 * - ENOSPC: the target's filesystem has less than `needed` bytes free.
 * IoError where the path cannot be looked at.
 */
export function checkTarget(path: string, check: TargetCheck = {}): TargetKind {
  const host = check.host ?? HOST;
  const force = check.force ?? false;
  let st: fs.BigIntStats | undefined;
  try {
    st = fs.statSync(path, { bigint: true, throwIfNoEntry: path === "" });
  } catch (error) {
    throw hostError(error, path, "cannot look at");
  }
  if (st?.isDirectory()) throw new RefusedError("EISDIR", `${path}: is a directory`);
  if (st !== undefined && !st.isFile() && !st.isBlockDevice()) return { kind: "stream", size: 0 };
  if (st !== undefined)
    for (const source of check.sources ?? [])
      if (overlaps(source, path, st, host))
        throw new RefusedError("ESAMEFILE", `${path}: is (or holds, or lies on) the source ${source}`);
  if (st?.isBlockDevice()) {
    const size = checkDevice(path, st, check.needed ?? 0, force, host);
    return { kind: "device", size };
  }
  if (st !== undefined && !force) refuseUsedFile(path, st, host);
  if (!force) refuseFull(path, check.needed ?? 0);
  return { kind: st === undefined ? "new" : "file", size: Number(st?.size ?? 0n) };
}

function checkDevice(
  path: string,
  st: fs.BigIntStats,
  needed: number,
  force: boolean,
  host: HostRoots,
): number {
  const id = deviceId(st.rdev);
  if (!force) {
    refuseUsedDevice(path, id, host);
    if (held(path))
      throw new RefusedError("EBUSY_TARGET", `${path}: is in use (something holds it exclusively)`);
  }
  if (deviceReadOnly(id, host)) throw new RefusedError("EROFS", `${path}: the device is read-only`);
  let size: number;
  let fd = -1;
  try {
    fd = fs.openSync(path, fs.constants.O_RDONLY);
    size = deviceSize(fd, id, host);
  } catch (error) {
    throw hostError(error, path, "cannot open");
  } finally {
    if (fd >= 0) closeQuietly(fd);
  }
  if (size < needed)
    throw new RefusedError("ETOOSMALL", `${path}: the device has ${size} bytes, ${needed} are needed`);
  return size;
}

/** True where an exclusive open fails because of another holder, not for want of permission. */
function held(path: string): boolean {
  try {
    fs.closeSync(fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_EXCL));
    return false;
  } catch (error) {
    return codeOf(error) === "EBUSY";
  }
}

/**
 * Where bytes of a file or block device are mounted read-write, so that they may change while they are
 * read, or null: its own mount, those of its partitions (of partition `partition` alone, where that is
 * given) and of what is built on it.
 */
export function writableMount(path: string, partition: number | null = null, host = HOST): string | null {
  const st = statOf(path);
  if (st === undefined) return null;
  const devices = st.isBlockDevice()
    ? [deviceId(st.rdev)]
    : loopDevices(host)
        .filter((l) => l.dev === st.dev && l.ino === st.ino)
        .map((l) => l.id);
  const parts = devices.flatMap((id) => partitionsOf(id, host));
  const read =
    partition === null
      ? [...devices, ...parts]
      : parts.filter((id) => partitionNumber(id, host) === partition);
  const all = new Set([...read, ...builtOn(read, host)]);
  if (all.size === 0) return null;
  for (const m of mounts(host))
    if (!m.readOnly && (all.has(m.device) || all.has(deviceIdOf(m.source) ?? ""))) return m.where;
  return null;
}

/** What the kernel's tables say is in use: mounts and swap by device id. */
interface Uses {
  readonly mounts: ReadonlyMap<string, string>;
  readonly swaps: ReadonlySet<string>;
}

function usesOf(host: HostRoots): Uses {
  const where = new Map<string, string>();
  for (const m of mounts(host)) {
    if (!where.has(m.device)) where.set(m.device, m.where);
    // btrfs and others mount under an anonymous number: the source's own number counts then.
    const id = deviceIdOf(m.source);
    if (id !== null && !where.has(id)) where.set(id, m.where);
  }
  const swapped = swaps(host).map(deviceIdOf);
  return { mounts: where, swaps: new Set(swapped.filter((id) => id !== null)) };
}

function deviceIdOf(path: string): string | null {
  if (!path.startsWith("/")) return null;
  const st = statOf(path);
  return st?.isBlockDevice() ? deviceId(st.rdev) : null;
}

/** Refuses a device that is in use, on its own or through its disk, its partitions or what is built on them. */
function refuseUsedDevice(path: string, id: string, host: HostRoots): void {
  const disk = diskOf(id, host);
  const near = disk === null ? [id, ...partitionsOf(id, host)] : [id, disk];
  const above = builtOn(near, host);
  const uses = usesOf(host);
  for (const at of [...near, ...above]) {
    const what = at === id ? "" : `${deviceName(at, host)}, which shares its bytes, `;
    const where = uses.mounts.get(at);
    if (where !== undefined) throw new RefusedError("EMOUNTED", `${path}: ${what}is mounted on ${where}`);
    if (uses.swaps.has(at)) throw new RefusedError("EMOUNTED", `${path}: ${what}is in use as swap`);
  }
  if (above.length > 0)
    throw new RefusedError(
      "EBUSY_TARGET",
      `${path}: ${above.map((a) => deviceName(a, host)).join(", ")} is built on it`,
    );
}

/** Devices whose bytes live on these: mappings, arrays, loop devices, their partitions, and so on up. */
function builtOn(ids: readonly string[], host: HostRoots): string[] {
  const loops = loopDevices(host);
  const found = new Set<string>();
  const queue = [...ids];
  while (queue.length > 0) {
    const at = queue.pop()!;
    const up = holdersOf(at, host);
    for (const l of loops) if (l.rdev !== null && deviceId(l.rdev) === at) up.push(l.id);
    if (found.has(at)) up.push(...partitionsOf(at, host));
    for (const id of up) {
      if (found.has(id) || ids.includes(id)) continue;
      found.add(id);
      queue.push(id);
    }
  }
  return [...found];
}

/** Refuses a regular file that is attached to a loop device or swapped to. */
function refuseUsedFile(path: string, st: fs.BigIntStats, host: HostRoots): void {
  for (const swap of swaps(host)) {
    const s = statOf(swap);
    if (s !== undefined && sameFile(s, st)) throw new RefusedError("EMOUNTED", `${path}: is in use as swap`);
  }
  const attached = loopDevices(host).filter((l) => l.dev === st.dev && l.ino === st.ino);
  if (attached.length === 0) return;
  const uses = usesOf(host);
  for (const loop of attached)
    for (const id of [loop.id, ...partitionsOf(loop.id, host), ...builtOn([loop.id], host)]) {
      const where = uses.mounts.get(id);
      if (where !== undefined)
        throw new RefusedError("EMOUNTED", `${path}: is mounted on ${where} through /dev/${loop.name}`);
      if (uses.swaps.has(id))
        throw new RefusedError("EMOUNTED", `${path}: is in use as swap through /dev/${loop.name}`);
    }
  throw new RefusedError("EBUSY_TARGET", `${path}: is attached to /dev/${attached[0].name}`);
}

/** Refuses where the filesystem of the target has less free space than is needed. */
function refuseFull(path: string, needed: number): void {
  let free: number;
  try {
    const s = fs.statfsSync(dirname(finalPath(path)));
    // Filesystems without blocks of their own (some FUSE ones) say 0 of 0.
    if (s.blocks === 0) return;
    // Part of an ext filesystem is kept for root.
    free = (process.getuid?.() === 0 ? s.bfree : s.bavail) * s.bsize;
  } catch (error) {
    if (codeOf(error) === "ENOSYS") return;
    throw hostError(error, path, "cannot create");
  }
  if (free < needed)
    throw new RefusedError(
      "ENOSPC",
      `${path}: no space left on device: ${needed} bytes are needed, ${free} are free`,
    );
}

/** One thing that a path's bytes live on: a device, or a file. */
type Base = string;

function keyOf(st: fs.BigIntStats): Base {
  return st.isBlockDevice() ? `device ${deviceId(st.rdev)}` : `file ${st.dev}:${st.ino}`;
}

/** Whether source and target share bytes: the same, or one among what the other is built on. */
function overlaps(source: string, path: string, st: fs.BigIntStats, host: HostRoots): boolean {
  const other = statOf(source);
  if (other === undefined) return false;
  if (!other.isFile() && !other.isBlockDevice()) return false;
  if (source === path || sameFile(other, st)) return true;
  return basesOf(other, host).has(keyOf(st)) || basesOf(st, host).has(keyOf(other));
}

/** Everything below a file or device: its disk, what a mapping or a loop device is made of, and so on down. */
function basesOf(st: fs.BigIntStats, host: HostRoots): Set<Base> {
  const out = new Set<Base>();
  if (!st.isBlockDevice()) return out;
  const loops = loopDevices(host);
  const queue = [deviceId(st.rdev)];
  while (queue.length > 0) {
    const id = queue.pop()!;
    const below = slavesOf(id, host);
    const disk = diskOf(id, host);
    if (disk !== null) below.push(disk);
    const loop = loops.find((l) => l.id === id);
    if (loop?.rdev != null) below.push(deviceId(loop.rdev));
    else if (loop?.dev != null) out.add(`file ${loop.dev}:${loop.ino}`);
    for (const b of below) {
      if (out.has(`device ${b}`)) continue;
      out.add(`device ${b}`);
      queue.push(b);
    }
  }
  return out;
}
