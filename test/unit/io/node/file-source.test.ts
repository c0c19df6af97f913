import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import test from "ava";
import { DATA, HOLE, type MapRuns } from "../../../../src/bytes/runs.ts";
import { probeSize } from "../../../../src/io/node/block-device.ts";
import { openFileSource } from "../../../../src/io/node/file-source.ts";
import { resetNative } from "../../../../src/io/node/native.ts";
import { attach, scratch, sh, sparse } from "../../../support/host.ts";

const MIB = 1 << 20;
const runsOf = (m: MapRuns) =>
  Array.from({ length: m.count }, (_, i) => [m.at[i], m.length[i], m.state[i], m.host[i]]);

/** Runs `job` with koffi and then without. */
function bothWays(job: (native: boolean) => void): void {
  for (const off of [undefined, "1"]) {
    if (off === undefined) delete process.env["IMPRINT_NO_KOFFI"];
    else process.env["IMPRINT_NO_KOFFI"] = off;
    resetNative();
    try {
      job(off === undefined);
    } finally {
      delete process.env["IMPRINT_NO_KOFFI"];
      resetNative();
    }
  }
}

test("a file is read synchronously at any offset, into any view", (t) => {
  const path = join(scratch(t), "f");
  const bytes = Buffer.from(Uint8Array.from({ length: 10_000 }, (_, i) => (i * 13) & 255));
  fs.writeFileSync(path, bytes);
  const s = openFileSource(path);
  t.is(s.size, 10_000);
  t.is(s.label, path);
  t.false(s.blockDevice);
  t.deepEqual(s.plain, { file: { path, fd: s.fd }, base: 0 });
  const memory = new WebAssembly.Memory({ initial: 1 });
  const view = new Uint8Array(memory.buffer, 64, 1000);
  t.is(s.read(view, 5_000), 1000);
  t.true(Buffer.from(view).equals(bytes.subarray(5_000, 6_000)));
  t.is(s.read(view, 9_900), 100);
  t.is(s.read(view, 10_000), 0);
  t.is(s.read(view, 2 ** 50), 0);
  s.close();
  s.close();
  t.throws(() => s.read(view, 0), { code: "EBADF", message: /read error at byte 0/ });
});

test("an empty file is an empty source", (t) => {
  const path = join(scratch(t), "f");
  fs.writeFileSync(path, "");
  const s = openFileSource(path);
  t.is(s.size, 0);
  t.is(s.read(new Uint8Array(1), 0), 0);
  t.is(s.map(0, 0).count, 0);
  s.close();
});

test("a file that shrinks under the reader is an error, not zeros", (t) => {
  const path = join(scratch(t), "f");
  fs.writeFileSync(path, Buffer.alloc(1000));
  const s = openFileSource(path);
  fs.truncateSync(path, 600);
  t.throws(() => s.read(new Uint8Array(500), 500), {
    code: "ESHORT",
    message: /ends at byte 600, but was 1000 bytes long/,
  });
  s.close();
});

test.serial("the map of a sparse file shows its holes; without koffi everything is data", (t) => {
  const path = sparse(join(scratch(t), "f"), 40 * MIB);
  const fd = fs.openSync(path, "r+");
  for (const at of [MIB, 8 * MIB, 39 * MIB]) fs.writeSync(fd, Buffer.alloc(MIB, 1), 0, MIB, at);
  fs.closeSync(fd);
  bothWays((native) => {
    const s = openFileSource(path);
    const map = s.map(0, s.size);
    if (native)
      t.deepEqual(runsOf(map), [
        [0, MIB, HOLE, 0],
        [MIB, MIB, DATA, MIB],
        [2 * MIB, 6 * MIB, HOLE, 2 * MIB],
        [8 * MIB, MIB, DATA, 8 * MIB],
        [9 * MIB, 30 * MIB, HOLE, 9 * MIB],
        [39 * MIB, MIB, DATA, 39 * MIB],
      ]);
    else t.deepEqual(runsOf(map), [[0, 40 * MIB, DATA, 0]]);
    t.is(map.end, s.size);
    const part = s.map(MIB + 5, 2 * MIB + 5);
    t.is(part.at[0], MIB + 5);
    t.is(part.end, 2 * MIB + 5);
    s.close();
  });
});

test.serial("a file that is all hole is seen as such with and without koffi", (t) => {
  const path = sparse(join(scratch(t), "f"), 3 * MIB + 77);
  bothWays(() => {
    const s = openFileSource(path);
    t.deepEqual(runsOf(s.map(0, s.size)), [[0, 3 * MIB + 77, HOLE, 0]]);
    t.deepEqual(runsOf(s.map(1000, 5000)), [[1000, 4000, HOLE, 1000]]);
    s.close();
  });
});

test.serial("a map of many runs comes in bounded batches that join up", (t) => {
  const path = sparse(join(scratch(t), "f"), 160 * MIB);
  const fd = fs.openSync(path, "r+");
  for (let at = 0; at < 160 * MIB; at += 32768) fs.writeSync(fd, Buffer.from([1]), 0, 1, at);
  fs.closeSync(fd);
  const s = openFileSource(path);
  let from = 0;
  let batches = 0;
  let data = 0;
  while (from < s.size) {
    const map = s.map(from, s.size);
    t.is(map.at[0], from);
    t.true(map.count <= 4096);
    for (let i = 0; i < map.count; i++) if (map.state[i] === DATA) data += map.length[i];
    from = map.end;
    batches++;
  }
  t.is(from, s.size);
  t.true(batches > 1);
  t.is(data, 5120 * 4096);
  s.close();
});

test("links are followed to the file", (t) => {
  const dir = scratch(t);
  fs.writeFileSync(join(dir, "f"), "hello");
  fs.symlinkSync("f", join(dir, "soft"));
  fs.linkSync(join(dir, "f"), join(dir, "hard"));
  const [a, b, c] = ["f", "soft", "hard"].map((n) => openFileSource(join(dir, n)));
  t.deepEqual(a.stat, b.stat);
  t.deepEqual(a.stat, c.stat);
  for (const s of [a, b, c]) s.close();
});

test("what cannot be read at an offset is refused by kind", (t) => {
  const dir = scratch(t);
  sh("mkfifo", join(dir, "fifo"));
  t.throws(() => openFileSource(dir), { code: "EISDIR", message: /is a directory/ });
  t.throws(() => openFileSource("/dev/null"), { code: "ENOTSEEKABLE", message: /character device/ });
  t.throws(() => openFileSource(join(dir, "fifo")), { code: "ENOTSEEKABLE", message: /pipe or socket/ });
  t.throws(() => openFileSource(join(dir, "none")), { code: "ENOENT", message: /no such file/ });
  t.throws(() => openFileSource(join(dir, "none", "x")), { code: "ENOENT" });
});

test.serial("a block device has its size, its bytes and a map that is all data", (t) => {
  const path = sparse(join(scratch(t), "f"), 5 * MIB + 512);
  fs.writeFileSync(path, "start", { flag: "r+" });
  const device = attach(t, path);
  bothWays(() => {
    const s = openFileSource(device);
    t.is(s.size, 5 * MIB + 512);
    t.true(s.blockDevice);
    const into = Buffer.alloc(1000);
    t.is(s.read(into, 0), 1000);
    t.is(into.toString("latin1", 0, 5), "start");
    t.is(s.read(into, 5 * MIB), 512);
    t.deepEqual(runsOf(s.map(0, s.size)), [[0, s.size, DATA, 0]]);
    s.close();
  });
  t.throws(() => openFileSource(device, { devices: false }), { code: "EDEVICE" });
});

test("without sysfs and ioctl a device's size is found by reading", (t) => {
  const path = sparse(join(scratch(t), "f"), 3 * MIB + 1536);
  const device = attach(t, path);
  const fd = fs.openSync(device, "r");
  t.is(probeSize(fd), 3 * MIB + 1536);
  fs.closeSync(fd);
  for (const size of [0, 1, 2, 511, 4097]) {
    const file = sparse(join(scratch(t), "g"), size);
    const g = fs.openSync(file, "r");
    t.is(probeSize(g), size);
    fs.closeSync(g);
  }
});

test("koffi is not loaded by opening and reading", (t) => {
  const dir = scratch(t);
  fs.writeFileSync(join(dir, "f"), "hello");
  const module = new URL("../../../../src/io/node/file-source.js", import.meta.url).href;
  const program = `import { openFileSource } from ${JSON.stringify(module)};
    const s = openFileSource(${JSON.stringify(join(dir, "f"))});
    s.read(new Uint8Array(5), 0);
    const before = process.report.getReport().sharedObjects.some((o) => o.includes("koffi"));
    s.map(0, 5);
    const after = process.report.getReport().sharedObjects.some((o) => o.includes("koffi"));
    console.log(before, after);`;
  const out = execFileSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" });
  t.is(out.trim(), "false true");
});
