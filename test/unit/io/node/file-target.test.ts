import * as fs from "node:fs";
import { join } from "node:path";
import test from "ava";
import { createFileTarget } from "../../../../src/io/node/file-target.ts";
import { cleanupLive, liveFiles } from "../../../../src/io/node/live-files.ts";
import { resetNative } from "../../../../src/io/node/native.ts";
import { scratch, sh } from "../../../support/host.ts";

const MIB = 1 << 20;

test("the file appears under its name at commit, with exactly the size asked for", (t) => {
  const dir = scratch(t);
  const path = join(dir, "out.img");
  const target = createFileTarget(path);
  target.write(Buffer.from("tail"), 5 * MIB);
  target.write(Buffer.from("head"), 0);
  t.false(fs.existsSync(path));
  t.regex(fs.readdirSync(dir)[0], /^\.out\.img\.[0-9a-z]{6}\.imprint$/);
  t.is(liveFiles().includes(target.temporary), true);
  const into = Buffer.alloc(4);
  t.is(target.read(into, 5 * MIB), 4);
  t.is(into.toString(), "tail");
  target.commit(8 * MIB);
  t.deepEqual(fs.readdirSync(dir), ["out.img"]);
  t.is(fs.statSync(path).size, 8 * MIB);
  t.true(fs.statSync(path).blocks * 512 < MIB, "sparse");
  t.is(fs.statSync(path).mode & 0o777, 0o666 & ~process.umask());
  target.abort();
  t.true(fs.existsSync(path));
  t.throws(() => target.write(new Uint8Array(1), 0), { code: "ECLOSED" });
  t.deepEqual(liveFiles(), []);
});

test("commit can also cut", (t) => {
  const path = join(scratch(t), "f");
  const target = createFileTarget(path, { mode: 0o600, sync: true });
  target.write(Buffer.from("0123456789"), 0);
  target.commit(4);
  t.is(fs.readFileSync(path, "utf8"), "0123");
  t.is(fs.statSync(path).mode & 0o777, 0o600);
});

test("abort leaves nothing, and an existing file as it was", (t) => {
  const dir = scratch(t);
  fs.writeFileSync(join(dir, "f"), "old");
  const target = createFileTarget(join(dir, "f"));
  target.write(Buffer.from("new"), 0);
  target.abort();
  target.abort();
  t.deepEqual(fs.readdirSync(dir), ["f"]);
  t.is(fs.readFileSync(join(dir, "f"), "utf8"), "old");
  t.throws(() => target.commit(3), { code: "ECLOSED" });
});

test("a replaced file keeps its mode and owner", (t) => {
  const path = join(scratch(t), "f");
  fs.writeFileSync(path, "old");
  fs.chmodSync(path, 0o640);
  fs.chownSync(path, 12, 34);
  const target = createFileTarget(path, { mode: 0o600 });
  target.write(Buffer.from("new"), 0);
  target.commit(3);
  const st = fs.statSync(path);
  t.deepEqual([st.mode & 0o777, st.uid, st.gid], [0o640, 12, 34]);
});

test("a symbolic link stays one, and its destination is replaced", (t) => {
  const dir = scratch(t);
  fs.mkdirSync(join(dir, "real"));
  fs.writeFileSync(join(dir, "real", "f"), "old");
  fs.symlinkSync("real/f", join(dir, "link"));
  fs.symlinkSync("link", join(dir, "second"));
  const target = createFileTarget(join(dir, "second"));
  t.is(target.path, join(fs.realpathSync(dir), "real", "f"));
  target.write(Buffer.from("new"), 0);
  t.is(fs.readdirSync(join(dir, "real")).length, 2);
  target.commit(3);
  t.true(fs.lstatSync(join(dir, "link")).isSymbolicLink());
  t.is(fs.readFileSync(join(dir, "real", "f"), "utf8"), "new");
  t.deepEqual(fs.readdirSync(join(dir, "real")), ["f"]);
});

test("a link that points nowhere yet is followed; a loop of links is an error", (t) => {
  const dir = scratch(t);
  fs.symlinkSync("later", join(dir, "link"));
  const target = createFileTarget(join(dir, "link"));
  target.commit(10);
  t.is(fs.statSync(join(dir, "later")).size, 10);
  t.true(fs.lstatSync(join(dir, "link")).isSymbolicLink());
  fs.symlinkSync("a", join(dir, "b"));
  fs.symlinkSync("b", join(dir, "a"));
  t.throws(() => createFileTarget(join(dir, "a")), { code: "ELOOP" });
});

test("other names of a replaced file keep the old bytes", (t) => {
  const dir = scratch(t);
  fs.writeFileSync(join(dir, "f"), "old");
  fs.linkSync(join(dir, "f"), join(dir, "hard"));
  const target = createFileTarget(join(dir, "f"));
  target.write(Buffer.from("new"), 0);
  target.commit(3);
  t.is(fs.readFileSync(join(dir, "hard"), "utf8"), "old");
});

test("what is no place for a file is refused before anything is made", (t) => {
  const dir = scratch(t);
  sh("mkfifo", join(dir, "fifo"));
  fs.writeFileSync(join(dir, "f"), "old");
  t.throws(() => createFileTarget(dir), { code: "EISDIR" });
  t.throws(() => createFileTarget("/dev/null"), { code: "ENOTFILE" });
  t.throws(() => createFileTarget(join(dir, "fifo")), { code: "ENOTFILE" });
  t.throws(() => createFileTarget(join(dir, "none", "f")), { code: "ENOENT", message: /cannot create/ });
  t.throws(() => createFileTarget(join(dir, "f"), { replace: false }), { code: "EEXIST" });
  t.deepEqual(fs.readdirSync(dir).sort(), ["f", "fifo"]);
});

test("names of the longest length work", (t) => {
  const dir = scratch(t);
  for (const name of ["x".repeat(255), "\u00e9".repeat(127)]) {
    const target = createFileTarget(join(dir, name));
    target.commit(1);
    t.true(fs.existsSync(join(dir, name)));
  }
});

test("zeroing reaches what a copier wrote through the descriptor", (t) => {
  for (const off of [undefined, "1"]) {
    if (off !== undefined) process.env["IMPRINT_NO_KOFFI"] = off;
    resetNative();
    const path = join(scratch(t), "f");
    const target = createFileTarget(path);
    fs.writeSync(target.fd, Buffer.alloc(MIB, 1), 0, MIB, 0);
    target.zero(1000, 600_000);
    target.zero(MIB - 10, 5 * MIB);
    t.is(fs.fstatSync(target.fd).size, MIB, "what lies beyond is not written");
    target.commit(MIB);
    const want = Buffer.alloc(MIB, 1);
    want.fill(0, 1000, 601_000).fill(0, MIB - 10);
    t.true(fs.readFileSync(path).equals(want));
    delete process.env["IMPRINT_NO_KOFFI"];
    resetNative();
  }
});

test.serial("cleaning up removes what is unfinished, once", (t) => {
  const dir = scratch(t);
  const a = createFileTarget(join(dir, "a"));
  const b = createFileTarget(join(dir, "b"));
  t.is(cleanupLive(), 2);
  t.deepEqual(fs.readdirSync(dir), []);
  t.is(cleanupLive(), 0);
  a.abort();
  t.throws(() => b.commit(5), { code: "ENOENT" });
  t.deepEqual(fs.readdirSync(dir), []);
});
