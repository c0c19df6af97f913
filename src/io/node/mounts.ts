import * as fs from "node:fs";
import { deviceId, HOST, type HostRoots, loopDevices, sysText } from "./block-device.ts";

/** One mounted filesystem. */
export interface Mount {
  /** What was mounted, as the kernel names it ("/dev/sda1"). */
  readonly source: string;
  /** Where. */
  readonly where: string;
  /** "MAJOR:MINOR" of its device number (an anonymous one for btrfs, overlay, tmpfs). */
  readonly device: string;
  readonly readOnly: boolean;
}

/** The kernel writes blanks, tabs, newlines and backslashes in names as three octal digits. */
function decodeField(field: string): string {
  if (!field.includes("\\")) return field;
  const bytes = Buffer.from(
    Buffer.from(field)
      .toString("latin1")
      .replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    "latin1",
  );
  return bytes.toString();
}

/** Every mount this process sees. */
export function mounts(host: HostRoots = HOST): Mount[] {
  const out: Mount[] = [];
  for (const line of (sysText(`${host.proc}/self/mountinfo`) ?? "").split("\n")) {
    const fields = line.split(" ");
    const dash = fields.indexOf("-", 6);
    if (dash < 0 || fields.length < dash + 4) continue;
    const readOnly = (options: string) => options.split(",").includes("ro");
    out.push({
      source: decodeField(fields[dash + 2]),
      where: decodeField(fields[4]),
      device: fields[2],
      readOnly: readOnly(fields[5]) || readOnly(fields[dash + 3]),
    });
  }
  return out;
}

/** Files and devices in use as swap. */
export function swaps(host: HostRoots = HOST): string[] {
  const lines = (sysText(`${host.proc}/swaps`) ?? "").split("\n").slice(1);
  return lines.map((line) => decodeField(line.split(/\s/)[0])).filter((name) => name !== "");
}

/** Whether a file or device holds a mounted filesystem. */
export interface MountState {
  readonly mounted: boolean;
  readonly readOnly: boolean;
  /** Mount point, "swap", or "" where that is not known. */
  readonly where: string;
}

const NOT_MOUNTED: MountState = { mounted: false, readOnly: false, where: "" };

/**
 * Whether `path` (a device, or a file that is loop-mounted) is mounted, decided as e2fsprogs does: the variables
 * EXT2FS_PRETEND_RO_MOUNT and EXT2FS_PRETEND_RW_MOUNT, an exclusive open of a block device, the swap list, then the
 * mount table by name, by device number and by the file behind a loop device.
 */
export function mountState(path: string, host: HostRoots = HOST): MountState {
  if (process.env["EXT2FS_PRETEND_RO_MOUNT"] !== undefined)
    return { mounted: true, readOnly: true, where: "" };
  if (process.env["EXT2FS_PRETEND_RW_MOUNT"] !== undefined)
    return { mounted: true, readOnly: false, where: "" };
  const st = statOf(path);
  if (st?.isBlockDevice() && opensExclusively(path)) return NOT_MOUNTED;
  const same = (other: string): boolean => {
    if (other === path) return true;
    const o = other.startsWith("/") ? statOf(other) : undefined;
    return o !== undefined && st !== undefined && sameFile(o, st);
  };
  if (swaps(host).some(same)) return { mounted: true, readOnly: false, where: "swap" };
  const loops = st?.isFile() ? loopDevices(host).filter((l) => l.dev === st.dev && l.ino === st.ino) : [];
  const id = st?.isBlockDevice() ? deviceId(st.rdev) : "";
  for (const m of mounts(host)) {
    const through = loops.some((l) => l.id === m.device || `/dev/${l.name}` === m.source);
    if (through || m.device === id || (m.source.startsWith("/") && same(m.source)))
      return { mounted: true, readOnly: m.readOnly, where: m.where };
  }
  return NOT_MOUNTED;
}

/** `stat`, or undefined where it fails for whatever reason. */
export function statOf(path: string): fs.BigIntStats | undefined {
  try {
    return fs.statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** The same file, or two names of one device. */
export function sameFile(a: fs.BigIntStats, b: fs.BigIntStats): boolean {
  if (a.isBlockDevice() && b.isBlockDevice()) return a.rdev === b.rdev;
  return a.dev === b.dev && a.ino === b.ino;
}

/** True where nothing else holds the block device: no mount, no swap, no volume built on it. */
function opensExclusively(path: string): boolean {
  try {
    fs.closeSync(fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_EXCL));
    return true;
  } catch {
    return false;
  }
}
