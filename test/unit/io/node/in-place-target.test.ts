import * as fs from "node:fs";
import { join } from "node:path";
import test from "ava";
import { openInPlaceTarget } from "../../../../src/io/node/in-place-target.ts";
import { resetNative } from "../../../../src/io/node/native.ts";
import { attach, mount, scratch, sh, sparse } from "../../../support/host.ts";

const MIB = 1 << 20;

test("a file is changed where it is and keeps the rest", (t) => {
  const path = join(scratch(t), "f");
  fs.writeFileSync(path, Buffer.alloc(1000, 7));
  const target = openInPlaceTarget(path);
  t.false(target.fresh);
  t.is(target.capacity, Number.POSITIVE_INFINITY);
  target.write(Buffer.from("abc"), 10);
  target.zero(20, 5);
  target.zero(990, 100);
  const into = Buffer.alloc(20);
  t.is(target.read(into, 1080), 10);
  target.commit(500);
  const want = Buffer.alloc(1090, 7);
  want.write("abc", 10);
  want.fill(0, 20, 25).fill(0, 990);
  t.true(fs.readFileSync(path).equals(want));
  target.abort();
});

test("commit grows a file, and shortens it only when asked", (t) => {
  const path = join(scratch(t), "f");
  fs.writeFileSync(path, Buffer.alloc(1000, 7));
  openInPlaceTarget(path).commit(5000);
  t.is(fs.statSync(path).size, 5000);
  openInPlaceTarget(path, { shrink: true, sync: true }).commit(100);
  t.is(fs.statSync(path).size, 100);
});

test("a missing file is an error unless it may be created", (t) => {
  const dir = scratch(t);
  t.throws(() => openInPlaceTarget(join(dir, "f")), { code: "ENOENT", message: /cannot open for writing/ });
  const target = openInPlaceTarget(join(dir, "f"), { create: 0o600 });
  target.write(Buffer.from("x"), 9);
  target.commit(10);
  t.is(fs.statSync(join(dir, "f")).size, 10);
  t.throws(() => openInPlaceTarget(dir), { code: "EISDIR" });
  t.throws(() => openInPlaceTarget("/dev/null"), { code: "ENOTSEEKABLE" });
});

test.serial("zeroing is the same with and without koffi", (t) => {
  for (const off of [undefined, "1"]) {
    if (off !== undefined) process.env["IMPRINT_NO_KOFFI"] = off;
    resetNative();
    const path = join(scratch(t), "f");
    fs.writeFileSync(path, Buffer.alloc(MIB, 9));
    const target = openInPlaceTarget(path);
    target.zero(5, 700_000);
    target.commit(MIB);
    const want = Buffer.alloc(MIB, 9).fill(0, 5, 700_005);
    t.true(fs.readFileSync(path).equals(want));
    delete process.env["IMPRINT_NO_KOFFI"];
    resetNative();
  }
});

test.serial("a device has its size as capacity and is written to the end, not beyond", (t) => {
  const path = sparse(join(scratch(t), "f"), 4 * MIB);
  const device = attach(t, path);
  const target = openInPlaceTarget(device);
  t.is(target.capacity, 4 * MIB);
  t.true(target.blockDevice);
  target.write(Buffer.alloc(MIB, 5), 3 * MIB);
  target.write(Buffer.from("odd"), 777);
  target.zero(3 * MIB + 100, 1000);
  target.zero(3 * MIB + 512 * 1024, 256 * 1024);
  t.throws(() => target.write(new Uint8Array(2), 4 * MIB - 1), {
    code: "ENOSPC",
    message: /the device ends at byte 4194304/,
  });
  t.throws(() => target.zero(4 * MIB, 1), { code: "ENOSPC" });
  target.commit(MIB);
  const want = Buffer.alloc(4 * MIB);
  want
    .fill(5, 3 * MIB)
    .fill(0, 3 * MIB + 100, 3 * MIB + 1100)
    .fill(0, 3 * MIB + 512 * 1024, 3 * MIB + 768 * 1024);
  want.write("odd", 777);
  t.true(fs.readFileSync(path).equals(want));
});

test.serial("a device in use is refused, and cannot be mounted while it is written", (t) => {
  const dir = scratch(t);
  const device = attach(t, sparse(join(dir, "f"), 4 * MIB));
  sh("mke2fs", "-q", "-F", device);
  const target = openInPlaceTarget(device);
  t.throws(() => sh("mount", device, dir));
  target.abort();
  mount(t, join(dir, "m"), device);
  t.throws(() => openInPlaceTarget(device), { code: "EBUSY_TARGET", message: /is in use/ });
});
