// Pipes: every byte arrives whatever way it goes, and a process at the other end that does nothing makes nobody deaf.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import test from "ava";
import { scratch, sh } from "../support/host.ts";
import { cli, run } from "../support/native.ts";

const MIB = 1 << 20;
const io = (name: string) => JSON.stringify(new URL(`../../src/io/node/${name}`, import.meta.url).href);
const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** Bytes that repeat nowhere. */
function noise(length: number): Buffer {
  const b = Buffer.alloc(length);
  for (let i = 0, x = 1; i + 4 <= length; i += 4) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    b.writeUInt32LE(x, i);
  }
  return b;
}

/** Pieces of an output: [kind, bytes, offset in the file where it is pulled]. */
const PIECES: readonly (readonly ["write" | "gap" | "pull", number, number?])[] = [
  ["write", 10],
  ["pull", 70_000, 3],
  ["gap", 5],
  ["pull", 3 * MIB, 4096],
  ["gap", 3 * MIB + 1],
  ["write", 700_000],
  ["gap", 64 * 1024],
  ["pull", 100, 4 * MIB - 100],
  ["write", 1],
  ["pull", 2 * MIB, 1],
  ["gap", 9],
];

test.serial("bytes, zeros and pieces of files arrive in order, with and without koffi", async (t) => {
  const dir = scratch(t, "pipes");
  const file = noise(4 * MIB);
  fs.writeFileSync(join(dir, "f"), file);
  const written = noise(MIB).reverse();
  const want: Buffer[] = [];
  for (const [kind, length, from = 0] of PIECES) {
    if (kind === "gap") want.push(Buffer.alloc(length));
    else want.push((kind === "pull" ? file : written).subarray(from, from + length));
  }
  // A pull past the file's end stops there.
  want.push(file.subarray(4 * MIB - 10_000));
  const program = `
    import * as fs from "node:fs";
    import { openStdoutTarget } from ${io("stdout-target.js")};
    const target = openStdoutTarget();
    const fd = fs.openSync("f", "r");
    const written = fs.readFileSync("w");
    let at = 0;
    let pulled = 0;
    const pull = async (from, length) => {
      const n = (await target.pull?.(fd, from, length, at)) ?? 0;
      pulled += n;
      const rest = Buffer.alloc(length - n);
      await target.write(rest.subarray(0, fs.readSync(fd, rest, 0, rest.length, from + n)), at + n);
    };
    for (const [kind, length, from = 0] of ${JSON.stringify(PIECES)}) {
      if (kind === "write") await target.write(written.subarray(0, length), at);
      if (kind === "pull") await pull(from, length);
      at += length;
    }
    await pull(${4 * MIB - 10_000}, 50_000);
    await target.commit(at + 10_000);
    fs.writeSync(2, String(pulled));`;
  fs.writeFileSync(join(dir, "w"), written);
  for (const [off, reader] of [
    ["0", "cat"],
    ["1", "cat"],
    ["0", "dd bs=777 status=none"],
    // A reader that leaves the writer waiting.
    ["0", "(sleep 0.3; head -c 1000000; sleep 0.2; cat)"],
  ]) {
    const script = `set -o pipefail; "$0" --input-type=module -e "$1" | ${reader} > out`;
    const env = { IMPRINT_NO_KOFFI: off };
    const r = await run("bash", ["-c", script, process.execPath, program], { cwd: dir, env });
    t.is(r.code, 0, r.stderr);
    const native = off === "0" && process.platform === "linux";
    t.is(Number(r.stderr) > 5 * MIB, native, `${r.stderr} bytes pulled`);
    t.true(fs.readFileSync(join(dir, "out")).equals(Buffer.concat(want)), `${off} ${reader}`);
  }
});

/** Waits until a FIFO that nobody else reads holds something. */
async function filled(child: ChildProcess, fifo: number): Promise<void> {
  const byte = Buffer.alloc(1);
  for (let n = 0; n === 0 && child.exitCode === null; await wait(5)) {
    try {
      n = fs.readSync(fifo, byte);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
    }
  }
}

test.serial("a signal ends a job whose reader, or writer, does nothing", async (t) => {
  const dir = scratch(t, "pipes");
  fs.mkdirSync(join(dir, "files"));
  fs.writeFileSync(join(dir, "files/disk"), noise(8 * MIB));
  sh("mkfs.ext4", "-q", "-d", join(dir, "files"), join(dir, "ext"), "20M");
  sh("truncate", "-s", "40M", join(dir, "ntfs"));
  sh("mkntfs", "-F", "-Q", "-q", join(dir, "ntfs"));
  sh("ntfsclone", "-s", "-q", "-o", join(dir, "image"), join(dir, "ntfs"));
  const { O_RDWR, O_NONBLOCK } = fs.constants;
  for (const [i, [args, end]] of (
    [
      [["convert", "--format", "raw", "files/disk", "-"], 1],
      [["convert", "--format", "qcow2", "files/disk", "-"], 1],
      [["e2image", "-ra", "ext", "-"], 1],
      [["ntfsclone", "-r", "-o", "-", "image"], 1],
      [["ntfsclone", "-r", "-O", "out", "-"], 0],
    ] as const
  ).entries()) {
    // The other end is this process, which leaves it alone.
    sh("mkfifo", join(dir, `fifo${i}`));
    const held = fs.openSync(join(dir, `fifo${i}`), O_RDWR | O_NONBLOCK);
    const fd = fs.openSync(join(dir, `fifo${i}`), end === 0 ? "r" : "w");
    if (end === 0) fs.writeSync(held, fs.readFileSync(join(dir, "image")).subarray(0, 50_000));
    const child = spawn(process.execPath, [cli, ...args], {
      cwd: dir,
      stdio: [end === 0 ? fd : "ignore", end === 1 ? fd : "pipe", "pipe"],
    });
    fs.closeSync(fd);
    let said = "";
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (b: Buffer) => {
        said += b.toString();
      });
    const closed = once(child, "close");
    if (end === 1) await filled(child, held);
    else while (child.exitCode === null && !said.includes("Restoring")) await wait(5);
    await wait(200);
    const at = performance.now();
    child.kill("SIGINT");
    const [code] = (await closed) as [number | null];
    const label = `${args.join(" ")}: ${said}`;
    t.is(code, 130, label);
    t.regex(said, /interrupted/, label);
    t.true(performance.now() - at < 5000, label);
    t.deepEqual(
      fs.readdirSync(dir).filter((name) => /out/.test(name)),
      [],
      label,
    );
    fs.closeSync(held);
  }
});

test.serial("a reader that leaves in the middle of pulled bytes and of zeros is EPIPE", async (t) => {
  const dir = scratch(t, "pipes");
  fs.writeFileSync(join(dir, "full"), noise(8 * MIB));
  fs.writeFileSync(join(dir, "empty"), "");
  fs.truncateSync(join(dir, "empty"), 1 << 30);
  for (const name of ["full", "empty"]) {
    const script = 'set -o pipefail; "$0" "$1" convert --format raw $2 - | head -c 100000 >/dev/null';
    const r = await run("bash", ["-c", script, process.execPath, cli, name], { cwd: dir });
    t.is(r.code, 1);
    t.regex(r.stderr, /^imprint convert: standard output: write error at byte \d+: broken pipe\n$/);
  }
});
