import * as fs from "node:fs";
import { blockDeviceSector, blockDeviceSize, UNAVAILABLE } from "./native.ts";

/**
 * What sysfs says of block devices. A device is named by "MAJOR:MINOR", the form that /sys/dev/block and
 * /proc/self/mountinfo share. Facts from the kernel's Documentation/ABI (sysfs-block) and admin-guide.
 */

/** Where the kernel's views are mounted; other places in tests. */
export interface HostRoots {
  readonly sys: string;
  readonly proc: string;
}
export const HOST: HostRoots = { sys: "/sys", proc: "/proc" };

/** "MAJOR:MINOR" of a st_dev or st_rdev as Linux packs them in 64 bits. */
export function deviceId(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn & 0xffffffffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn & 0xffffffffn);
  return `${major}:${minor}`;
}

/** One line of a sysfs file, or null where it does not exist. */
export function sysText(path: string): string | null {
  try {
    return fs.readFileSync(path, "utf8").replace(/\n$/, "");
  } catch {
    return null;
  }
}

function sysList(path: string): string[] {
  try {
    return fs.readdirSync(path);
  } catch {
    return [];
  }
}

const folder = (id: string, host: HostRoots): string => `${host.sys}/dev/block/${id}`;

/** Kernel name ("sda1"), or the id where sysfs does not know the device. */
export function deviceName(id: string, host: HostRoots = HOST): string {
  try {
    return fs.realpathSync(folder(id, host)).split("/").at(-1) ?? id;
  } catch {
    return id;
  }
}

/** Size in bytes of the device open as `fd`: sysfs, then an ioctl, then a search for the last readable byte. */
export function deviceSize(fd: number, id: string, host: HostRoots = HOST): number {
  const sectors = sysText(`${folder(id, host)}/size`);
  if (sectors !== null && /^\d+$/.test(sectors)) return Number(sectors) * 512;
  const size = blockDeviceSize(fd);
  return size === UNAVAILABLE ? probeSize(fd) : size;
}

/** Bytes of a logical sector of the device open as `fd`: sysfs (a partition's disk has it), then an ioctl; else 512. */
export function deviceSectorSize(fd: number, id: string, host: HostRoots = HOST): number {
  const text =
    sysText(`${folder(id, host)}/queue/logical_block_size`) ??
    sysText(`${folder(id, host)}/../queue/logical_block_size`);
  const size = text !== null && /^\d+$/.test(text) ? Number(text) : blockDeviceSector(fd);
  return size >= 512 ? size : 512;
}

/** End of what can be read from `fd`, in bytes, by doubling and halving one-byte reads. */
export function probeSize(fd: number): number {
  const byte = new Uint8Array(1);
  const there = (at: number): boolean => {
    try {
      return fs.readSync(fd, byte, 0, 1, at) === 1;
    } catch {
      return false;
    }
  };
  let low = 0;
  let high = 1;
  while (high <= 2 ** 52 && there(high - 1)) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const middle = low + Math.floor((high - low) / 2);
    if (there(middle - 1)) low = middle;
    else high = middle;
  }
  return low;
}

/** True where the kernel refuses writes to the device. */
export function deviceReadOnly(id: string, host: HostRoots = HOST): boolean {
  return sysText(`${folder(id, host)}/ro`) === "1";
}

/** Partitions of a whole disk. */
export function partitionsOf(id: string, host: HostRoots = HOST): string[] {
  const at = folder(id, host);
  const ids: string[] = [];
  for (const name of sysList(at)) {
    if (sysText(`${at}/${name}/partition`) === null) continue;
    const dev = sysText(`${at}/${name}/dev`);
    if (dev !== null) ids.push(dev);
  }
  return ids;
}

/** Number of a partition on its disk, or null for a device that is none. */
export function partitionNumber(id: string, host: HostRoots = HOST): number | null {
  const text = sysText(`${folder(id, host)}/partition`);
  return text === null ? null : Number(text);
}

/** The whole disk that a partition is on, or null for a device that is not a partition. */
export function diskOf(id: string, host: HostRoots = HOST): string | null {
  const at = folder(id, host);
  if (sysText(`${at}/partition`) === null) return null;
  try {
    return sysText(`${fs.realpathSync(at)}/../dev`);
  } catch {
    return null;
  }
}

/** Devices built on this one (device mapper, md, bcache). */
export function holdersOf(id: string, host: HostRoots = HOST): string[] {
  return linked(`${folder(id, host)}/holders`);
}

/** Devices this one is built on. */
export function slavesOf(id: string, host: HostRoots = HOST): string[] {
  return linked(`${folder(id, host)}/slaves`);
}

function linked(at: string): string[] {
  const ids: string[] = [];
  for (const name of sysList(at)) {
    const dev = sysText(`${at}/${name}/dev`);
    if (dev !== null) ids.push(dev);
  }
  return ids;
}

/** A loop device in use. */
export interface LoopDevice {
  readonly id: string;
  readonly name: string;
  /** The file or device behind it, as the kernel names it. */
  readonly backing: string;
  /** Identity of the backing file; null where it can no longer be reached by name. */
  readonly dev: bigint | null;
  readonly ino: bigint | null;
  readonly rdev: bigint | null;
}

/** Every loop device that has a backing file. */
export function loopDevices(host: HostRoots = HOST): LoopDevice[] {
  const out: LoopDevice[] = [];
  for (const name of sysList(`${host.sys}/block`)) {
    if (!name.startsWith("loop")) continue;
    const backing = sysText(`${host.sys}/block/${name}/loop/backing_file`);
    const id = sysText(`${host.sys}/block/${name}/dev`);
    if (backing === null || id === null) continue;
    let st: fs.BigIntStats | undefined;
    try {
      st = fs.statSync(backing, { bigint: true, throwIfNoEntry: false });
    } catch {
      // In a folder that may not be looked into.
    }
    out.push({
      id,
      name,
      backing,
      dev: st?.dev ?? null,
      ino: st?.ino ?? null,
      rdev: st?.isBlockDevice() ? st.rdev : null,
    });
  }
  return out;
}
