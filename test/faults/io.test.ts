import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import test from "ava";
import { openFileSource } from "../../src/io/node/file-source.ts";
import { createFileTarget } from "../../src/io/node/file-target.ts";
import { openInPlaceTarget } from "../../src/io/node/in-place-target.ts";
import { resetNative } from "../../src/io/node/native.ts";
import { attach, mount, scratch, sh, sparse } from "../support/host.ts";

const MIB = 1 << 20;
const io = (name: string) => JSON.stringify(new URL(`../../src/io/${name}`, import.meta.url).href);

/** A Node child that runs `program`, an ES module. */
function child(program: string, stdio: ("ignore" | "pipe" | number)[]): ChildProcess {
  return spawn(process.execPath, ["--input-type=module", "-e", program], { stdio });
}

async function textOf(stream: NodeJS.ReadableStream | null): Promise<string> {
  let text = "";
  if (stream !== null) for await (const piece of stream) text += piece;
  return text;
}

test.serial("a disk that fills up is an error with the offset, and nothing is left", (t) => {
  const dir = scratch(t, "faults");
  const at = mount(t, join(dir, "m"), "-t", "tmpfs", "-o", "size=1m", "none");
  const target = createFileTarget(join(at, "f"));
  const piece = new Uint8Array(256 * 1024).fill(1);
  let wrote = 0;
  const e = t.throws(
    () => {
      for (;;) {
        target.write(piece, wrote);
        wrote += piece.length;
      }
    },
    { code: "ENOSPC", message: /\/f: write error at byte \d+: no space left on device/ },
  ) as Error & { offset: number };
  t.is(e.offset, MIB);
  t.is(wrote, MIB);
  target.abort();
  t.deepEqual(fs.readdirSync(at), []);
});

test.serial("a write that is cut short by a full disk names the byte where it stopped", (t) => {
  const dir = scratch(t, "faults");
  const at = mount(t, join(dir, "m"), "-t", "tmpfs", "-o", "size=1m", "none");
  const target = createFileTarget(join(at, "f"));
  const e = t.throws(() => target.write(new Uint8Array(3 * MIB), 4096), { code: "ENOSPC" }) as Error & {
    offset: number;
  };
  t.is(e.offset, MIB + 4096);
  target.abort();
});

test.serial("a bad sector is an error with its offset, with and without koffi", (t) => {
  const file = sparse(join(scratch(t, "faults"), "f"), 4 * MIB);
  const device = attach(t, file);
  fs.truncateSync(file, MIB);
  for (const off of [undefined, "1"]) {
    if (off !== undefined) process.env["IMPRINT_NO_KOFFI"] = off;
    resetNative();
    const s = openFileSource(device);
    t.is(s.size, 4 * MIB);
    t.is(s.read(new Uint8Array(4096), 0), 4096);
    const e = t.throws(() => s.read(new Uint8Array(2 * MIB), 0), {
      code: "EIO",
      message: /loop\d+: read error at byte \d+: input\/output error/,
    }) as Error & { offset: number };
    t.is(e.offset, MIB);
    s.close();
    delete process.env["IMPRINT_NO_KOFFI"];
    resetNative();
  }
});

test.serial("a file size limit is an error", async (t) => {
  const dir = scratch(t, "faults");
  const program = `
    import { createFileTarget } from ${io("node/file-target.js")};
    const target = createFileTarget(${JSON.stringify(join(dir, "f"))});
    try {
      target.write(new Uint8Array(100), 10 * 1024 * 1024);
    } catch (e) {
      console.log(e.name, e.code, e.offset);
    }`;
  const c = spawn(
    "bash",
    ["-c", 'ulimit -f 1024; exec "$0" --input-type=module -e "$1"', process.execPath, program],
    {
      stdio: ["ignore", "pipe", "ignore"],
    },
  );
  t.is(await textOf(c.stdout), `IoError EFBIG ${10 * MIB}\n`);
  t.deepEqual(fs.readdirSync(dir), [], "leaving without commit or abort cleans up too");
});

test.serial("a reader that goes away is EPIPE", async (t) => {
  const out = join(scratch(t, "faults"), "said");
  const program = `
    import { writeFileSync } from "node:fs";
    import { openStdoutTarget } from ${io("node/stdout-target.js")};
    const target = openStdoutTarget();
    try {
      for (let at = 0; ; at += 1 << 20) await target.write(new Uint8Array(1 << 20), at);
    } catch (e) {
      writeFileSync(${JSON.stringify(out)}, e.name + " " + e.code + " " + e.message);
      target.abort();
    }`;
  sh("bash", "-c", '"$0" --input-type=module -e "$1" | head -c1 >/dev/null', process.execPath, program);
  t.regex(
    fs.readFileSync(out, "utf8"),
    /^IoError EPIPE standard output: write error at byte \d+: broken pipe$/,
  );
});

test.serial("a slow reader of a non-blocking pipe gets every byte", async (t) => {
  const program = `
    import { openStdoutTarget } from ${io("node/stdout-target.js")};
    process.stdout._handle?.setBlocking?.(false);
    const target = openStdoutTarget();
    const piece = new Uint8Array(300000);
    for (let i = 0; i < 20; i++) {
      piece.fill(i);
      await target.write(piece, i * 400000);
    }
    await target.commit(8000001);`;
  const c = child(program, ["ignore", "pipe", "pipe"]);
  const pieces: Buffer[] = [];
  let n = 0;
  for await (const piece of c.stdout!) {
    pieces.push(piece as Buffer);
    if (n++ % 20 === 0) await new Promise((done) => setTimeout(done, 5));
  }
  const got = Buffer.concat(pieces);
  const want = Buffer.alloc(8_000_001);
  for (let i = 0; i < 20; i++) want.fill(i, i * 400_000, i * 400_000 + 300_000);
  t.is(await textOf(c.stderr), "");
  t.is(got.length, want.length);
  t.true(got.equals(want));
});

test.serial("standard input that is non-blocking is read to its end", async (t) => {
  const program = `
    import { openStdinSource } from ${io("node/stdin-source.js")};
    process.stdin._handle?.setBlocking?.(false);
    const s = openStdinSource();
    const into = new Uint8Array(100000);
    let total = 0, sum = 0;
    for (let n; (n = await s.next(into)) > 0; total += n) for (let i = 0; i < n; i++) sum = (sum + into[i]) % 65521;
    s.close();
    console.log(total, sum);`;
  const c = child(program, ["pipe", "pipe", "ignore"]);
  let sum = 0;
  for (let i = 0; i < 10; i++) {
    const piece = Buffer.alloc(50_000, i + 1);
    sum = (sum + 50_000 * (i + 1)) % 65521;
    c.stdin!.write(piece);
    await new Promise((done) => setTimeout(done, 10));
  }
  c.stdin!.end();
  t.is(await textOf(c.stdout), `500000 ${sum}\n`);
});

test.serial("output redirected to a file is whole", async (t) => {
  const path = join(scratch(t, "faults"), "f");
  const fd = fs.openSync(path, "w");
  const c = child(
    `import { openStdoutTarget } from ${io("node/stdout-target.js")};
     const target = openStdoutTarget();
     target.write(Buffer.from("tail"), 1000000);
     target.commit(1000010);`,
    ["ignore", fd, "ignore"],
  );
  await once(c, "exit");
  fs.closeSync(fd);
  const want = Buffer.alloc(1_000_010);
  want.write("tail", 1_000_000);
  t.true(fs.readFileSync(path).equals(want));
});

/** A child that has begun a file and then waits. */
const waiting = (path: string, more: string) => `
  import { createFileTarget } from ${io("node/file-target.js")};
  import { onSignals } from ${io("node/live-files.js")};
  const target = createFileTarget(${JSON.stringify(path)});
  target.write(new Uint8Array(100000).fill(1), 0);
  ${more}
  console.log("ready");`;

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  test.serial(`${signal} leaves nothing half-made and ends the process`, async (t) => {
    const dir = scratch(t, "faults");
    fs.writeFileSync(join(dir, "f"), "old");
    const c = child(waiting(join(dir, "f"), "setInterval(() => {}, 1000);"), ["ignore", "pipe", "ignore"]);
    await once(c.stdout!, "data");
    t.is(fs.readdirSync(dir).length, 2);
    c.kill(signal);
    const [code, by] = await once(c, "exit");
    t.deepEqual([code, by], [null, signal]);
    t.deepEqual(fs.readdirSync(dir), ["f"]);
    t.is(fs.readFileSync(join(dir, "f"), "utf8"), "old");
  });

test.serial("a program's own ending runs after the cleaning", async (t) => {
  const dir = scratch(t, "faults");
  const more = `
    import { readdirSync } from "node:fs";
    onSignals((signal) => {
      console.log(signal, readdirSync(${JSON.stringify(dir)}).length);
      process.exit(130);
    });
    setInterval(() => {}, 1000);`;
  const c = child(waiting(join(dir, "f"), more), ["ignore", "pipe", "ignore"]);
  await once(c.stdout!, "data");
  c.kill("SIGINT");
  const exit = once(c, "exit");
  t.regex(await textOf(c.stdout), /SIGINT 0\n/);
  t.deepEqual(await exit, [130, null]);
});

for (const [name, end] of [
  ["an uncaught error", 'setTimeout(() => { throw new Error("bug"); }, 10);'],
  ["process.exit", "setTimeout(() => process.exit(3), 10);"],
  ["coming to the end", ""],
])
  test.serial(`${name} leaves nothing half-made`, async (t) => {
    const dir = scratch(t, "faults");
    const c = child(waiting(join(dir, "f"), end), ["ignore", "pipe", "ignore"]);
    await once(c, "exit");
    t.deepEqual(fs.readdirSync(dir), []);
  });

test.serial("a device that fails while it is written is an error with the offset", (t) => {
  const dir = scratch(t, "faults");
  const at = mount(t, join(dir, "m"), "-t", "tmpfs", "-o", "size=1m", "none");
  const device = attach(t, sparse(join(at, "f"), 8 * MIB));
  const target = openInPlaceTarget(device);
  target.write(new Uint8Array(4 * MIB).fill(1), 0);
  t.throws(() => target.commit(4 * MIB), { message: /loop\d+: cannot finish at byte 4194304/ });
});
