// The command line when things go wrong: signals in every phase, full disks, readers that leave, targets that must not
// be written. Nothing half-made may stay under any name.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { attach, mount, scratch, sh, sparse } from "../support/host.ts";
import { cli, imprint, run } from "../support/native.ts";

const MIB = 1 << 20;

/** An ext4 volume whose files take `used` MiB, all of them zeros. */
function volume(t: ExecutionContext, path: string, size: number, used: number): string {
  sparse(path, size * MIB);
  sh("mkfs.ext4", "-q", "-F", path);
  const at = mount(t, `${path}.mnt`, "-o", "loop", path);
  sh("fallocate", "-l", `${used}M`, join(at, "file"));
  fs.writeFileSync(join(at, "noise"), Buffer.alloc(8 * MIB, "noise"));
  sh("umount", at);
  // What the teardown undoes.
  sh("mount", "-t", "tmpfs", "none", at);
  return path;
}

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

function start(args: readonly string[], cwd: string, stdin: "ignore" | "pipe" = "ignore"): ChildProcess {
  return spawn(process.execPath, [cli, ...args], { cwd, stdio: [stdin, "pipe", "pipe"] });
}

async function ended(child: ChildProcess): Promise<Ended> {
  let stderr = "";
  child.stderr!.on("data", (b: Buffer) => {
    stderr += b.toString();
  });
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return { code, signal, stderr };
}

const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** Sends a signal `ms` after a file appeared in `dir`. */
async function interrupt(
  child: ChildProcess,
  dir: string,
  signal: NodeJS.Signals,
  ms: number,
): Promise<void> {
  const before = fs.readdirSync(dir).length;
  while (child.exitCode === null && fs.readdirSync(dir).length === before) await wait(2);
  if (ms > 0) await wait(ms);
  child.kill(signal);
}

test.serial("signals in the middle of a job leave nothing, or all of it", async (t) => {
  const dir = scratch(t, "cli");
  const image = volume(t, join(dir, "big.img"), 3072, 2048);
  const out = join(dir, "out");
  fs.mkdirSync(out);
  const jobs = [
    ["e2image", "-ra"],
    ["e2image", "-Qa"],
    ["capture", "--used", "--format", "qcow2"],
    ["capture", "--used", "--format", "raw", "--verify"],
    ["convert", "--format", "qcow2"],
  ];
  for (const [i, job] of jobs.entries())
    for (const ms of [0, 120]) {
      const signal = (i + ms) % 2 === 0 ? "SIGINT" : "SIGTERM";
      fs.writeFileSync(join(out, "o"), "old");
      const force = job[0] === "e2image" ? [] : ["--force"];
      const child = start([...job, ...force, image, join(out, "o")], dir);
      child.stdout!.resume();
      const end = ended(child);
      await interrupt(child, out, signal, ms);
      const r = await end;
      const label = `${job.join(" ")}, ${signal} after ${ms} ms: ${r.code ?? r.signal} ${r.stderr}`;
      t.deepEqual(fs.readdirSync(out), ["o"], label);
      // A conversion skips the holes and may be too quick: then all is there, also where the signal met the exit.
      if (r.code === 0 || (r.code === null && job[0] === "convert"))
        t.true((ms > 0 || job[0] === "convert") && fs.statSync(join(out, "o")).size > 8 * MIB, label);
      else {
        t.is(r.code, signal === "SIGINT" ? 130 : 143, label);
        t.regex(r.stderr, /: interrupted, nothing was written\n$/, label);
        t.is(fs.readFileSync(join(out, "o"), "utf8"), "old", label);
      }
    }
});

for (const format of ["raw", "qcow2"])
  test.serial(`a stream ends at a signal, also within one long gap: ${format}`, async (t) => {
    const dir = scratch(t, "cli");
    const path = sparse(join(dir, "in"), 2 ** 42);
    const fd = fs.openSync(path, "r+");
    // QCOW2 leaves holes out, so it gets something to write.
    for (let i = 0; i < (format === "raw" ? 1 : 200); i++)
      fs.writeSync(fd, Buffer.alloc(MIB, 1), 0, MIB, format === "raw" ? 2 ** 42 - MIB : i * MIB);
    fs.closeSync(fd);
    const child = start(["convert", "--format", format, path, "-"], dir);
    const end = ended(child);
    let got = 0;
    const slow = setInterval(() => {
      got += (child.stdout!.read() as Buffer | null)?.length ?? 0;
    }, 2);
    while (got === 0) await wait(5);
    child.kill("SIGINT");
    const r = await end;
    clearInterval(slow);
    t.is(r.code, 130, r.stderr);
    t.regex(r.stderr, /interrupted, standard output is incomplete/);
  });

test.serial("a signal while standard input is awaited, and while a FIFO has no reader", async (t) => {
  const dir = scratch(t, "cli");
  const temporary = { TMPDIR: dir };
  const idle = spawn(process.execPath, [cli, "convert", "-", "out"], {
    cwd: dir,
    env: { ...process.env, ...temporary },
    stdio: ["pipe", "ignore", "pipe"],
  });
  const first = ended(idle);
  idle.stdin!.write(Buffer.alloc(100_000, 1));
  await interrupt(idle, dir, "SIGINT", 100);
  t.is((await first).signal, "SIGINT");
  t.deepEqual(fs.readdirSync(dir), []);

  sparse(join(dir, "in"), MIB);
  sh("mkfifo", join(dir, "fifo"));
  const blocked = start(["convert", "in", "fifo"], dir);
  const second = ended(blocked);
  await wait(700);
  t.is(blocked.exitCode, null);
  blocked.kill("SIGINT");
  t.is((await second).signal, "SIGINT");
});

test.serial("Ctrl-C that ends the writer of a pipe too is not taken for the end of the image", async (t) => {
  const dir = scratch(t, "cli");
  const child = spawn(process.execPath, [cli, "convert", "-", "out"], {
    cwd: dir,
    env: { ...process.env, TMPDIR: dir },
    stdio: ["pipe", "ignore", "pipe"],
  });
  const end = ended(child);
  child.stdin!.write(Buffer.alloc(100_000, 1));
  while (fs.readdirSync(dir).length === 0) await wait(2);
  await wait(50);
  child.kill("SIGSTOP");
  child.kill("SIGINT");
  child.stdin!.end();
  await wait(50);
  child.kill("SIGCONT");
  const r = await end;
  t.true(r.signal === "SIGINT" || r.code === 130, `${r.code} ${r.stderr}`);
  t.deepEqual(fs.readdirSync(dir), []);
});

test.serial("text that standard output does not take: one line, exit 1", async (t) => {
  const full = fs.openSync("/dev/full", "w");
  t.teardown(() => fs.closeSync(full));
  for (const args of [["--help"], ["info", "--help"], ["e2image", "--version"], ["qemu-img", "--help"]]) {
    const child = spawn(process.execPath, [cli, ...args], { stdio: ["ignore", full, "pipe"] });
    const { code, stderr } = await ended(child);
    t.is(code, 1, args.join(" "));
    t.regex(stderr, /^imprint[ a-z0-9-]*: standard output: no space left on device\n$/, args.join(" "));
  }
});

test.serial("a full disk: a message, exit 1, nothing left", async (t) => {
  const dir = scratch(t, "cli");
  const image = volume(t, join(dir, "v.img"), 64, 1);
  const noise = join(dir, "noise");
  fs.writeFileSync(noise, Buffer.alloc(200 * MIB, 0x5a));
  const small = mount(t, join(dir, "small"), "-t", "tmpfs", "-o", "size=4m", "none");
  for (const job of [
    ["e2image", "-ra", image],
    ["e2image", "-Qa", image],
    ["capture", image],
    ["capture", "--all", "--format", "qcow2", image],
    // Large enough for the helper thread.
    ["convert", noise],
    ["convert", "--format", "qcow2", noise],
  ]) {
    const r = await imprint([...job, join(small, "out")], { cwd: dir });
    const label = `${job.join(" ")}: ${r.stderr}`;
    t.is(r.code, 1, label);
    t.regex(r.stderr, /out: .*no space left on device\n$/i, label);
    t.deepEqual(fs.readdirSync(small), [], label);
  }
});

test.serial("a reader that leaves: a message and exit 1", async (t) => {
  const dir = scratch(t, "cli");
  fs.writeFileSync(join(dir, "a.img"), Buffer.alloc(20 * MIB, 0x5a));
  for (const format of ["raw", "qcow2"]) {
    const script = 'set -o pipefail; "$0" "$1" convert --format $2 a.img - | head -c 1 >/dev/null';
    const r = await run("bash", ["-c", script, process.execPath, cli, format], { cwd: dir });
    t.is(r.code, 1);
    t.regex(r.stderr, /^imprint convert: standard output: write error at byte \d+: broken pipe\n$/);
  }
});

test.serial("what is read is never written to, by whatever name", async (t) => {
  const dir = scratch(t, "cli");
  const bytes = Buffer.alloc(4 * MIB, 0x5a);
  fs.writeFileSync(join(dir, "a.img"), bytes);
  fs.symlinkSync("a.img", join(dir, "link"));
  fs.linkSync(join(dir, "a.img"), join(dir, "hard"));
  const device = attach(t, join(dir, "a.img"));
  fs.writeFileSync(join(dir, "b.img"), bytes);
  fs.symlinkSync("b.img", join(dir, "link-b"));
  sh("qemu-img", "create", "-q", "-f", "qcow2", "-b", "b.img", "-F", "raw", join(dir, "over.qcow2"));
  for (const [source, target] of [
    ["a.img", "a.img"],
    ["a.img", "link"],
    ["hard", "a.img"],
    ["a.img", device],
    [device, "a.img"],
    ["over.qcow2", "b.img"],
    ["over.qcow2", "link-b"],
  ]) {
    const r = await imprint(["convert", "--force", source, target], { cwd: dir });
    t.is(r.code, 1, `${source} to ${target}`);
    t.regex(r.stderr, /: is \(or holds, or lies on\) the source /, `${source} to ${target}`);
  }
  const r = await run("bash", ["-c", '"$0" "$1" convert --force - a.img < a.img', process.execPath, cli], {
    cwd: dir,
  });
  t.is(r.code, 1);
  t.regex(r.stderr, /: is \(or holds, or lies on\) the source /);
  for (const name of ["a.img", "b.img"]) t.true(fs.readFileSync(join(dir, name)).equals(bytes));
});

test.serial("targets that are mounted, too small or not empty", async (t) => {
  const dir = scratch(t, "cli");
  fs.writeFileSync(join(dir, "in"), Buffer.alloc(4 * MIB, 0x5a));
  const small = attach(t, sparse(join(dir, "small"), MIB));
  const full = attach(t, sparse(join(dir, "full"), 16 * MIB));
  sh("mkfs.ext2", "-q", full);
  const used = attach(t, sparse(join(dir, "used"), 16 * MIB));
  sh("mkfs.ext2", "-q", used);
  mount(t, join(dir, "mnt"), used);
  fs.writeFileSync(join(dir, "file"), "old");
  for (const [target, force, message] of [
    [small, true, /holds 1048576 bytes, 4194304 are needed/],
    [full, false, /holds ext2; --force overwrites it/],
    ["file", false, /file: exists already; --force replaces it/],
    [used, true, /is mounted on/],
    ["used", true, /is mounted on/],
  ] as const) {
    const before = fs.readFileSync(target.startsWith("/") ? target : join(dir, target));
    const r = await imprint(["restore", ...(force ? ["--force"] : []), "in", target], { cwd: dir });
    t.is(r.code, 1, target);
    t.regex(r.stderr, message);
    // A mounted volume writes to itself.
    if (target === used || target === "used") continue;
    t.true(fs.readFileSync(target.startsWith("/") ? target : join(dir, target)).equals(before), target);
  }
  // 4 MiB of data, and four clusters in front of it.
  const r = await imprint(["convert", "--force", "--format", "qcow2", "in", small], { cwd: dir });
  t.is(r.code, 1);
  t.regex(r.stderr, /holds 1048576 bytes, 4521984 are needed/);
  t.true(fs.readFileSync(small).every((b) => b === 0));
  const room = attach(t, sparse(join(dir, "room"), 4521984));
  t.is((await imprint(["convert", "--force", "--format", "qcow2", "in", room], { cwd: dir })).code, 0);
  t.is(sh("qemu-img", "compare", join(dir, "in"), room), "Images are identical.");
});
