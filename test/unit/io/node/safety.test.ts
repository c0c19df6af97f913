import * as fs from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { deviceId } from "../../../../src/io/node/block-device.ts";
import { mountState, mounts, swaps } from "../../../../src/io/node/mounts.ts";
import { openTarget } from "../../../../src/io/node/open-target.ts";
import { checkTarget, writableMount } from "../../../../src/io/node/safety.ts";
import { attach, mount, scratch, sh, sparse } from "../../../support/host.ts";

const MIB = 1 << 20;

/** An ext2 volume in a file. */
function volume(path: string, size = 4 * MIB): string {
  sparse(path, size);
  sh("mke2fs", "-q", "-F", path);
  return path;
}

/** A disk in a file, attached, with partitions of 2 and 4 MiB that the kernel is told of one by one. */
function disk(t: ExecutionContext, file: string): [device: string, one: string, two: string] {
  const device = attach(t, sparse(file, 8 * MIB));
  [
    [2048, 4096],
    [6144, 8192],
  ].forEach(([start, sectors], i) => {
    sh("addpart", device, `${i + 1}`, `${start}`, `${sectors}`);
    t.teardown(() => {
      sh("delpart", device, `${i + 1}`);
    });
  });
  return [device, `${device}p1`, `${device}p2`];
}

/** Folders in the shape of /sys and /proc. */
function fakeHost(t: ExecutionContext, files: Readonly<Record<string, string>>) {
  const dir = scratch(t);
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(join(dir, name, ".."), { recursive: true });
    fs.writeFileSync(join(dir, name), text);
  }
  return { sys: join(dir, "sys"), proc: join(dir, "proc") };
}

const idOf = (device: string) => deviceId(fs.statSync(device, { bigint: true }).rdev);

test("device numbers are unpacked as Linux packs them", (t) => {
  t.is(deviceId(0x801n), "8:1");
  t.is(deviceId((0xabcn << 8n) | 0x12n | (0x34567n << 20n)), "2748:" + (0x12 | (0x34567 << 8)));
});

test("mount tables are read with their escapes and read-only flags", (t) => {
  const host = fakeHost(t, {
    "proc/self/mountinfo":
      "36 35 8:1 / /mnt/a\\040b rw,noatime shared:1 - ext4 /dev/sda1 rw\n" +
      "37 35 8:2 / /ro ro - ext4 /dev/disk/x\\134y rw\n" +
      "38 35 0:9 / /caf\u00e9 rw master:1 propagate_from:2 - btrfs /dev/sdb ro,space_cache\n" +
      "broken line\n",
    "proc/swaps":
      "Filename\tType\tSize\tUsed\tPriority\n/dev/sdc1 partition 1 0 -2\n/a\\040swap file 1 0 -2\n",
  });
  t.deepEqual(mounts(host), [
    { source: "/dev/sda1", where: "/mnt/a b", device: "8:1", readOnly: false },
    { source: "/dev/disk/x\\y", where: "/ro", device: "8:2", readOnly: true },
    { source: "/dev/sdb", where: "/caf\u00e9", device: "0:9", readOnly: true },
  ]);
  t.deepEqual(swaps(host), ["/dev/sdc1", "/a swap"]);
  t.deepEqual(mounts({ sys: "/none", proc: "/none" }), []);
});

test.serial("a loop-mounted file and its device are seen as mounted, with the flag", (t) => {
  const dir = scratch(t);
  const image = volume(join(dir, "v"));
  t.deepEqual(mountState(image), { mounted: false, readOnly: false, where: "" });
  const device = attach(t, image);
  t.false(mountState(image).mounted);
  t.false(mountState(device).mounted);
  const at = mount(t, join(dir, "m p"), device);
  for (const path of [image, device])
    t.deepEqual(mountState(path), { mounted: true, readOnly: false, where: at });
  fs.linkSync(image, join(dir, "other"));
  t.true(mountState(join(dir, "other")).mounted);
  sh("mount", "-o", "remount,ro", at);
  for (const path of [image, device]) t.true(mountState(path).readOnly);
  t.false(mountState(join(dir, "none")).mounted);
});

test.serial("the environment can pretend a mount, as for e2fsprogs", (t) => {
  const file = sparse(join(scratch(t), "f"), 10);
  for (const [name, readOnly] of [
    ["EXT2FS_PRETEND_RO_MOUNT", true],
    ["EXT2FS_PRETEND_RW_MOUNT", false],
  ] as const) {
    process.env[name] = "1";
    t.deepEqual(mountState(file), { mounted: true, readOnly, where: "" });
    delete process.env[name];
  }
});

test("swap counts as mounted", (t) => {
  const file = sparse(join(scratch(t), "f"), 10);
  const host = fakeHost(t, { "proc/swaps": `Filename Type\n${file} file 1 0 -2\n` });
  t.deepEqual(mountState(file, host), { mounted: true, readOnly: false, where: "swap" });
  t.throws(() => checkTarget(file, { host }), { code: "EMOUNTED", message: /in use as swap/ });
});

test.serial("mounted targets are refused: the file, its device, every name of them", (t) => {
  const dir = scratch(t);
  const image = volume(join(dir, "v"));
  const device = attach(t, image);
  t.throws(() => checkTarget(image), { code: "EBUSY_TARGET", message: /is attached to \/dev\/loop/ });
  t.deepEqual(checkTarget(device), { kind: "device", size: 4 * MIB });
  const at = mount(t, join(dir, "m"), device);
  fs.symlinkSync("v", join(dir, "link"));
  for (const path of [image, join(dir, "link"), device])
    t.throws(() => checkTarget(path), { code: "EMOUNTED", message: new RegExp(`mounted on ${at}`) }, path);
  t.deepEqual(checkTarget(image, { force: true }), { kind: "file", size: 4 * MIB });
  t.deepEqual(checkTarget(device, { force: true }), { kind: "device", size: 4 * MIB });
});

test.serial("a disk with a mounted partition is refused, its other partition is not", (t) => {
  const dir = scratch(t);
  const image = join(dir, "d");
  const [device, one, two] = disk(t, image);
  sh("mke2fs", "-q", "-F", one);
  sh("mke2fs", "-q", "-F", two);
  t.is(checkTarget(one).size, 2 * MIB);
  mount(t, join(dir, "m"), one);
  t.throws(() => checkTarget(one), { code: "EMOUNTED" });
  t.throws(() => checkTarget(device), {
    code: "EMOUNTED",
    message: /p1, which shares its bytes, is mounted/,
  });
  t.throws(() => checkTarget(image), { code: "EMOUNTED" });
  t.is(checkTarget(two).size, 4 * MIB);
});

test.serial("the source is never the target, nor above or below it", (t) => {
  const dir = scratch(t);
  const image = join(dir, "d");
  const same = { code: "ESAMEFILE", message: /is \(or holds, or lies on\) the source/ };
  sparse(image, 10);
  fs.linkSync(image, join(dir, "hard"));
  fs.symlinkSync("d", join(dir, "soft"));
  for (const name of ["d", "hard", "soft"]) {
    t.throws(() => checkTarget(image, { sources: [join(dir, name)] }), same);
    t.throws(() => checkTarget(join(dir, name), { sources: [image], force: true }), same);
  }
  const [device, one, two] = disk(t, image);
  sh("mknod", join(dir, "node"), "b", ...idOf(device).split(":"));
  for (const [target, source] of [
    [device, device],
    [device, join(dir, "node")],
    [device, image],
    [image, device],
    [device, one],
    [one, device],
    [one, image],
    [image, one],
  ])
    t.throws(() => checkTarget(target, { sources: [source], force: true }), same, `${source} to ${target}`);
  t.is(checkTarget(one, { sources: [two] }).kind, "device");
  t.is(checkTarget(join(dir, "new"), { sources: [image, device] }).kind, "new");
});

test.serial("a device that another holds is refused", (t) => {
  const dir = scratch(t);
  const device = attach(t, sparse(join(dir, "f"), MIB));
  const fd = fs.openSync(device, fs.constants.O_RDWR | fs.constants.O_EXCL);
  t.teardown(() => fs.closeSync(fd));
  t.throws(() => checkTarget(device), { code: "EBUSY_TARGET", message: /holds it exclusively/ });
  t.is(checkTarget(device, { force: true }).size, MIB);
});

test.serial("a device under a mapping is refused, with what is mounted on it", (t) => {
  const dir = scratch(t);
  const device = attach(t, sparse(join(dir, "f"), MIB));
  const id = idOf(device);
  const files = {
    [`sys/dev/block/${id}/size`]: "2048\n",
    [`sys/dev/block/${id}/holders/dm-0/dev`]: "252:0\n",
    "sys/dev/block/252:0/holders/dm-1/dev": "252:1\n",
    "sys/dev/block/252:1/size": "2048\n",
  };
  t.throws(() => checkTarget(device, { host: fakeHost(t, files) }), {
    code: "EBUSY_TARGET",
    message: /252:0, 252:1 is built on it/,
  });
  const mounted = { ...files, "proc/self/mountinfo": "1 0 252:1 / /home rw - ext4 /dev/mapper/home rw\n" };
  t.throws(() => checkTarget(device, { host: fakeHost(t, mounted) }), {
    code: "EMOUNTED",
    message: /mounted on \/home/,
  });
  const below = { [`sys/dev/block/${id}/slaves/sda/dev`]: "8:0\n", [`sys/dev/block/${id}/size`]: "2048\n" };
  t.is(checkTarget(device, { host: fakeHost(t, below) }).size, MIB);
});

test.serial("a device on a loop over a device is refused", (t) => {
  const dir = scratch(t);
  const lower = attach(t, volume(join(dir, "f")));
  const upper = attach(t, lower);
  t.throws(() => checkTarget(lower), { code: "EBUSY_TARGET", message: /loop\d+ is built on it/ });
  t.throws(() => checkTarget(upper, { sources: [join(dir, "f")] }), { code: "ESAMEFILE" });
});

test.serial("small and read-only devices are refused", (t) => {
  const dir = scratch(t);
  const device = attach(t, sparse(join(dir, "f"), MIB));
  t.is(checkTarget(device, { needed: MIB }).size, MIB);
  t.throws(() => checkTarget(device, { needed: MIB + 1, force: true }), {
    code: "ETOOSMALL",
    message: /has 1048576 bytes, 1048577 are needed/,
  });
  const fixed = attach(t, sparse(join(dir, "g"), MIB), "--read-only");
  t.throws(() => checkTarget(fixed), { code: "EROFS" });
});

test.serial("a full filesystem is refused before anything is written", (t) => {
  const dir = scratch(t);
  const at = mount(t, join(dir, "m"), "-t", "tmpfs", "-o", "size=1m", "none");
  t.is(checkTarget(join(at, "new"), { needed: 1000 }).kind, "new");
  const full = {
    code: "ENOSPC",
    message: /no space left on device: 2097152 bytes are needed, 1048576 are free/,
  };
  t.throws(() => checkTarget(join(at, "new"), { needed: 2 * MIB }), full);
  fs.symlinkSync(join(at, "new"), join(dir, "link"));
  t.throws(() => checkTarget(join(dir, "link"), { needed: 2 * MIB }), full);
  t.is(checkTarget(join(at, "new"), { needed: 2 * MIB, force: true }).kind, "new");
  fs.writeFileSync(join(at, "old"), "");
  fs.symlinkSync(join(at, "old"), join(dir, "link2"));
  t.throws(() => checkTarget(join(dir, "link2"), { needed: 2 * MIB }), full);
});

test("other kinds of target are told apart", (t) => {
  const dir = scratch(t);
  sh("mkfifo", join(dir, "fifo"));
  t.throws(() => checkTarget(dir), { code: "EISDIR" });
  t.is(checkTarget(join(dir, "fifo")).kind, "stream");
  t.is(checkTarget("/dev/null").kind, "stream");
  t.throws(() => checkTarget(join(dir, "none", "f")), { code: "ENOENT" });
});

test.serial("a target is opened by what its path is", async (t) => {
  const dir = scratch(t);
  t.true(openTarget("-").seekable === false);
  const nul = openTarget("/dev/null");
  t.false(nul.seekable);
  await nul.write(new Uint8Array(300_000), 5);
  await nul.commit(1e6);
  const file = openTarget(join(dir, "f"));
  t.true(file.fresh && file.seekable);
  await file.abort();
  const device = attach(t, sparse(join(dir, "d"), MIB));
  const target = openTarget(device);
  t.is(target.capacity, MIB);
  await target.abort();
});

test("a source that is mounted read-write is known, also through its partitions and a loop device", (t) => {
  const dir = scratch(t);
  const file = join(dir, "disk");
  const [device, one, two] = disk(t, file);
  sh("mke2fs", "-q", "-F", two);
  t.is(writableMount(device), null);
  fs.mkdirSync(join(dir, "ro"));
  sh("mount", "-o", "ro", two, join(dir, "ro"));
  const whileReadOnly = writableMount(two);
  sh("umount", join(dir, "ro"));
  t.is(whileReadOnly, null);
  const at = mount(t, join(dir, "rw"), two);
  for (const path of [device, two, file]) t.is(writableMount(path), at, path);
  t.is(writableMount(one), null);
  for (const path of [device, file]) {
    t.is(writableMount(path, 1), null, `${path}, partition 1`);
    t.is(writableMount(path, 2), at, `${path}, partition 2`);
  }
  t.is(writableMount(join(dir, "none")), null);
});
