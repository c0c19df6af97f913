import * as fs from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import {
  allocate,
  blockDeviceSize,
  cloneRange,
  copyRange,
  nativeAvailable,
  punchHole,
  resetNative,
  seekData,
  seekHole,
  UNAVAILABLE,
} from "../../../../src/io/node/native.ts";
import { attach, mount, scratch, sh, sparse } from "../../../support/host.ts";

const MIB = 1 << 20;

test.serial("without koffi every call says so", (t) => {
  const path = sparse(join(scratch(t), "f"), MIB);
  const fd = fs.openSync(path, "r+");
  process.env["IMPRINT_NO_KOFFI"] = "1";
  resetNative();
  t.teardown(() => {
    delete process.env["IMPRINT_NO_KOFFI"];
    resetNative();
    fs.closeSync(fd);
  });
  t.false(nativeAvailable());
  t.is(seekData(fd, 0), UNAVAILABLE);
  t.is(seekHole(fd, 0), UNAVAILABLE);
  t.false(punchHole(fd, 0, 4096));
  t.false(allocate(fd, 0, 4096));
  t.false(cloneRange(fd, 0, 4096, fd, 8192));
  t.is(copyRange(fd, 0, fd, 8192, 4096), UNAVAILABLE);
  t.is(blockDeviceSize(fd), UNAVAILABLE);
});

test.serial("an installation without koffi works the same as one that may not use it", (t) => {
  const dir = scratch(t);
  const here = (name: string) => new URL(`../../../../src/${name}`, import.meta.url);
  fs.mkdirSync(join(dir, "src", "io", "node"), { recursive: true });
  for (const name of ["errors.js", "io/node/koffi.js", "io/node/native.js", "io/node/native-layout.js"])
    fs.copyFileSync(here(name), join(dir, "src", name));
  fs.writeFileSync(join(dir, "package.json"), '{"type":"module"}');
  fs.writeFileSync(
    join(dir, "main.js"),
    `import { nativeAvailable, punchHole, seekData } from "./src/io/node/native.js";
     console.log(nativeAvailable(), seekData(0, 0), punchHole(0, 0, 1));`,
  );
  t.is(sh(process.execPath, join(dir, "main.js")), "false -1 false");
});

test.serial("koffi loads from its prebuilt package", (t) => {
  t.true(nativeAvailable());
});

test.serial("data and holes are found, also past 4 GiB", (t) => {
  const path = sparse(join(scratch(t), "f"), 6 * 2 ** 30);
  const fd = fs.openSync(path, "r+");
  t.teardown(() => fs.closeSync(fd));
  fs.writeSync(fd, Buffer.alloc(4096, 1), 0, 4096, 5 * 2 ** 30);
  t.is(seekData(fd, 0), 5 * 2 ** 30);
  t.is(seekHole(fd, 5 * 2 ** 30), 5 * 2 ** 30 + 4096);
  t.is(seekData(fd, 5 * 2 ** 30 + 4096), Number.POSITIVE_INFINITY);
  t.is(seekHole(fd, 0), 0);
  t.is(seekData(fd, 6 * 2 ** 30), Number.POSITIVE_INFINITY);
  const pipe = fs.openSync("/dev/null", "r");
  t.is(blockDeviceSize(pipe), UNAVAILABLE);
  fs.closeSync(pipe);
});

test.serial("a punched range reads as zeros and gives its blocks back", (t) => {
  const path = join(scratch(t), "f");
  fs.writeFileSync(path, Buffer.alloc(MIB, 1));
  const fd = fs.openSync(path, "r+");
  t.teardown(() => fs.closeSync(fd));
  fs.fsyncSync(fd);
  const before = fs.fstatSync(fd).blocks;
  t.true(punchHole(fd, 100, MIB - 200));
  t.true(fs.fstatSync(fd).blocks < before);
  t.is(fs.fstatSync(fd).size, MIB);
  const want = Buffer.alloc(MIB);
  want.fill(1, 0, 100).fill(1, MIB - 100);
  t.true(fs.readFileSync(path).equals(want));
  t.false(punchHole(fd, 0, 0));
});

test.serial("the kernel copies between files, at any offset", (t) => {
  const dir = scratch(t);
  fs.writeFileSync(join(dir, "a"), Buffer.from(Uint8Array.from({ length: 100_000 }, (_, i) => i & 255)));
  fs.writeFileSync(join(dir, "b"), "");
  const a = fs.openSync(join(dir, "a"), "r");
  const b = fs.openSync(join(dir, "b"), "r+");
  t.is(copyRange(a, 777, b, 3, 50_000), 50_000);
  t.is(copyRange(a, 100_000, b, 3, 10), 0);
  t.true(
    fs
      .readFileSync(join(dir, "b"))
      .subarray(3)
      .equals(fs.readFileSync(join(dir, "a")).subarray(777, 50_777)),
  );
  fs.closeSync(a);
  fs.closeSync(b);
});

test.serial("a block device's size comes from the ioctl", (t) => {
  const device = attach(t, sparse(join(scratch(t), "f"), 7 * MIB + 512));
  const fd = fs.openSync(device, "r");
  t.is(blockDeviceSize(fd), 7 * MIB + 512);
  fs.closeSync(fd);
});

function sharing(t: ExecutionContext, size: number, mkfs: readonly string[]): void {
  const dir = scratch(t);
  const image = sparse(join(dir, "fs.img"), size);
  sh(mkfs[0], ...mkfs.slice(1), image);
  const at = mount(t, join(dir, "m"), "-o", "loop", image);
  const from = join(at, "from");
  const to = join(at, "to");
  const bytes = Buffer.from(Uint8Array.from({ length: 8 * MIB }, (_, i) => (i * 31 + (i >> 12)) & 255));
  fs.writeFileSync(from, bytes);
  const a = fs.openSync(from, "r+");
  const b = fs.openSync(to, "w+");
  fs.fsyncSync(a);
  const free = () => fs.statfsSync(at).bfree * fs.statfsSync(at).bsize;
  const before = free();
  t.true(cloneRange(a, MIB, 4 * MIB, b, 2 * MIB));
  t.false(cloneRange(a, 100, 4096, b, 0), "an unaligned range is not shared");
  t.false(cloneRange(a, 0, 0, b, 0), "a length of 0 is not taken for the whole file");
  fs.fsyncSync(b);
  t.true(before - free() < MIB, "nothing was copied");
  const got = fs.readFileSync(to);
  t.is(got.length, 6 * MIB);
  t.true(got.subarray(2 * MIB).equals(bytes.subarray(MIB, 5 * MIB)));
  t.true(got.subarray(0, 2 * MIB).equals(Buffer.alloc(2 * MIB)));
  const outside = fs.openSync(join(dir, "outside"), "w+");
  t.false(cloneRange(a, 0, MIB, outside, 0), "another filesystem");
  for (const fd of [a, b, outside]) fs.closeSync(fd);
}

test.serial("extents are shared on btrfs", (t) => sharing(t, 128 * MIB, ["mkfs.btrfs", "-q"]));
test.serial("extents are shared on XFS", (t) => sharing(t, 320 * MIB, ["mkfs.xfs", "-q", "-m", "reflink=1"]));

test("blocks are allocated without a change of size or bytes", (t) => {
  const path = sparse(join(scratch(t), "f"), MIB);
  const fd = fs.openSync(path, "r+");
  t.teardown(() => fs.closeSync(fd));
  t.true(allocate(fd, MIB / 2, MIB));
  const st = fs.fstatSync(fd);
  t.is(st.size, MIB);
  t.true(st.blocks * 512 >= MIB);
  t.true(fs.readFileSync(path).every((b) => b === 0));
  t.false(allocate(fd, 0, 0));
  t.false(allocate(fd, 0, 2 ** 60));
  fs.ftruncateSync(fd, MIB);
  t.true(fs.fstatSync(fd).blocks * 512 < MIB);
});
