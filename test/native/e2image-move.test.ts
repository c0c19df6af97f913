// A filesystem moved within one file: e2image -ra -o FROM -O TO FILE against the native tool.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { shapeImage, shapeNamed } from "../support/ext-shapes.ts";
import { noise } from "../support/ext-tree.ts";
import { attach, mount, scratch, sh } from "../support/host.ts";
import { killedAt } from "../support/kill-point.ts";
import {
  bytesDifference,
  cli,
  imprint,
  inScratch,
  limiter,
  must,
  type Outcome,
  run,
} from "../support/native.ts";

const turn = limiter(2);
const MIB = 1 << 20;
const JOURNAL = ".ours.imprint-move";

/** What a run said, without the banner, names, and timings. */
function said(r: Outcome): { code: number | null; stdout: string; stderr: string } {
  const stderr = r.stderr
    .replace(/^e2image [^\n]*\n/, "")
    .replaceAll("imprint e2image", "e2image")
    .replaceAll("native", "FILE")
    .replaceAll("ours", "FILE")
    .replace(/\(0%\)[^\n\r]*\r/, "(0%)\r")
    .replace(/in \d\d:\d\d:\d\d (at [\d.]+ MB\/s)?/, "in TIME");
  return { code: r.code, stdout: r.stdout.toString("latin1"), stderr };
}

interface Place {
  readonly from: number;
  readonly to: number;
  /** Bytes behind the volume. */
  readonly behind?: number;
}

/** A disk with the volume at `from`, noise around it. */
async function disk(name: string, { from, behind = 0 }: Place): Promise<Buffer> {
  const volume = readFileSync(await shapeImage(shapeNamed(name)));
  return Buffer.concat([noise(from + 1, from), volume, noise(7, behind)]);
}

/** Blocks of a volume, and their size. */
function geometry(volume: Buffer): { blockSize: number; size: number } {
  const blockSize = 1024 << volume.readUInt32LE(1024 + 24);
  return { blockSize, size: volume.readUInt32LE(1024 + 4) * blockSize };
}

/**
 * What native leaves, as long as the disk or the moved volume need: native cuts off what it did not write at the end.
 */
function completed(native: Buffer, before: Buffer, end: number): Buffer {
  const length = Math.max(before.length, end);
  const out = Buffer.alloc(length);
  before.copy(out);
  native.copy(out);
  return out;
}

async function bothMove(
  t: ExecutionContext,
  dir: string,
  name: string,
  place: Place,
  flags = "-ra",
  extra: readonly string[] = [],
): Promise<Buffer> {
  const before = await disk(name, place);
  for (const who of ["native", "ours"]) writeFileSync(join(dir, who), before);
  const offsets = ["-o", `${place.from}`, "-O", `${place.to}`];
  const n = await run("e2image", [flags, ...offsets, "native"], { cwd: dir });
  const o = await imprint(["e2image", ...extra, flags, ...offsets, "ours"], { cwd: dir });
  const what = `${name} ${flags} ${place.from} to ${place.to}`;
  t.deepEqual(said(o), said(n), what);
  const { size } = geometry(before.subarray(place.from));
  const wanted = completed(readFileSync(join(dir, "native")), before, place.to + size);
  t.is(bytesDifference(join(dir, "ours"), wanted), null, what);
  t.false(existsSync(join(dir, JOURNAL)), what);
  return wanted.subarray(place.to, place.to + size);
}

const PLACES: readonly Place[] = [
  { from: 0, to: MIB, behind: 3000 },
  { from: 0, to: 4096 },
  { from: MIB, to: 0, behind: 5 * MIB },
  { from: 70_000, to: 69_500 },
  { from: 65_536, to: 0 },
  { from: 1000, to: 6 * MIB + 333, behind: 100 },
  { from: 6 * MIB + 333, to: 5 },
  { from: 0, to: 70 * MIB },
  { from: 70 * MIB, to: 0 },
];

for (const [name, which] of [
  ["ext4-1k", [0, 1, 2, 3, 4, 5, 6, 7, 8]],
  ["ext4-4k", [0, 2, 5, 6]],
  ["ext2-1k", [1, 3, 5]],
  ["aged-ext4", [0, 4]],
  ["full-ext2", [0, 1, 2, 3, 5]],
  ["ext4-32k", [0, 2]],
  ["meta-bg", [5, 6]],
  ["trailing-junk", [0, 2]],
  ["inline-data", [5]],
] as const)
  test(`${name}: the native bytes, wherever it goes`, (t) =>
    turn(() =>
      inScratch("move", async (dir) => {
        for (const i of which) {
          const place = PLACES[i]!;
          const moved = await bothMove(t, dir, name, place);
          writeFileSync(join(dir, "moved"), moved);
          const before = await run("e2fsck", ["-fn", await shapeImage(shapeNamed(name))]);
          t.is(
            (await run("e2fsck", ["-fn", join(dir, "moved")])).code,
            before.code,
            `${name} ${i}: e2fsck -fn`,
          );
        }
      }),
    ));

for (const name of ["bigalloc-4k", "bad-blocks-many"])
  test(`${name}: the native bytes with --native-selection`, (t) =>
    turn(() =>
      inScratch("move", async (dir) => {
        for (const i of [0, 2, 6]) await bothMove(t, dir, name, PLACES[i]!, "-ra", ["--native-selection"]);
      }),
    ));

for (const name of ["ext4-1k", "ext2-64k", "htree-2-levels", "indirect-directory"])
  test(`${name}: scrambled on the way, names in native's order`, (t) =>
    turn(() =>
      inScratch("move", async (dir) => {
        const places = name === "ext4-1k" ? PLACES : PLACES.filter((_, i) => [0, 4, 5, 6].includes(i));
        // Less than a block to the right native does nothing.
        for (const place of places)
          if (name !== "ext2-64k" || Math.abs(place.to - place.from) >= 65_536)
            await bothMove(t, dir, name, place, "-ras");
      }),
    ));

test("directories that are corrupt are named in native's order, with a list too", (t) =>
  turn(() =>
    inScratch("move", async (dir) => {
      const image = join(dir, "volume");
      copyFileSync(await shapeImage(shapeNamed("indirect-directory")), image);
      const list = (await must("debugfs", ["-R", "blocks /wide", image])).stdout
        .toString()
        .trim()
        .split(/\s+/);
      const volume = readFileSync(image);
      for (const [i, block] of list.entries())
        if (i % 7 === 0) volume.writeUInt16LE(i % 2 ? 6 : 1020, Number(block) * 1024 + 4);
      for (const [from, to] of [
        [0, 100_000],
        [50_000, 0],
        [0, 5 * MIB],
      ] as const)
        for (const flags of ["-ras", "-rasn", "-rasp", "-rasc"]) {
          for (const who of ["native", "ours"])
            writeFileSync(join(dir, who), Buffer.concat([noise(1, from), volume]));
          const args = [flags, "-o", `${from}`, "-O", `${to}`];
          const n = said(await run("e2image", [...args, "native"], { cwd: dir }));
          const o = said(await imprint(["e2image", ...args, "ours"], { cwd: dir }));
          t.deepEqual(o, n, args.join(" "));
          t.true(n.stdout.includes("Corrupt directory block"));
        }
    }),
  ));

for (const flags of ["-ran", "-rap", "-ranp", "-rac", "-ranc"])
  test(`${flags}: what native says`, (t) =>
    turn(() =>
      inScratch("move", async (dir) => {
        for (const [i, place] of PLACES.slice(0, 7).entries()) {
          // Native never ends where -c meets the end of the file.
          if (flags.includes("c") && i === 5) continue;
          const before = await disk("ext4-1k", place);
          for (const who of ["native", "ours"]) writeFileSync(join(dir, who), before);
          const args = [flags, "-o", `${place.from}`, "-O", `${place.to}`];
          const n = await run("e2image", [...args, "native"], { cwd: dir });
          const o = await imprint(["e2image", ...args, "ours"], { cwd: dir });
          t.deepEqual(said(o), said(n), args.join(" "));
          if (!flags.includes("n")) continue;
          t.is(bytesDifference(join(dir, "ours"), before), null, "a list changes nothing");
          t.deepEqual(readdirSync(dir).sort(), ["native", "ours"]);
        }
      }),
    ));

for (const [name, to] of [
  ["ext4-1k", 512],
  ["ext4-1k", 1],
  ["ext4-4k", 4095],
  ["ext4-64k", 4096],
] as const)
  test(`${name}: to the right by ${to} bytes, where native copies nothing and says nothing`, (t) =>
    turn(() =>
      inScratch("move", async (dir) => {
        const image = await shapeImage(shapeNamed(name));
        const before = readFileSync(image);
        const { blockSize, size } = geometry(before);
        writeFileSync(join(dir, "native"), before);
        t.is((await run("e2image", ["-ra", "-O", `${to}`, join(dir, "native")])).code, 0);
        t.true(readFileSync(join(dir, "native")).subarray(0, size).equals(before.subarray(0, size)));

        // Zeros are listed where the output exists, as they are moved.
        const list = await must("e2image", ["-ran", image, join(dir, "native")]);
        const wanted = completed(Buffer.alloc(0), before, to + size);
        for (const line of list.stdout.toString().trim().split("\n")) {
          const at = Number(line.split(" ")[2]) * blockSize;
          before.copy(wanted, to + at, at, at + blockSize);
        }
        for (const [i, extra] of [[], ["-c"], ["-p"]].entries()) {
          writeFileSync(join(dir, "ours"), before);
          const r = await imprint(["e2image", "-ra", ...extra, "-O", `${to}`, join(dir, "ours")]);
          t.is(r.code, 0, r.stderr);
          t.is(bytesDifference(join(dir, "ours"), wanted), null, `${i}`);
        }
        writeFileSync(join(dir, "moved"), wanted.subarray(to));
        t.is((await run("e2fsck", ["-fn", join(dir, "moved")])).code, 0);
      }),
    ));

test("to where it is: nothing changes, or only names", (t) =>
  turn(() =>
    inScratch("move", async (dir) => {
      await bothMove(t, dir, "ext4-1k", { from: 4096, to: 4096, behind: 10 });
      await bothMove(t, dir, "ext4-1k", { from: 4096, to: 4096, behind: 10 }, "-ras");
    }),
  ));

test("files that were deleted while open and lists of bad blocks come along", (t) =>
  turn(() =>
    inScratch("move", async (dir) => {
      for (const name of ["bad-blocks-many", "orphan-list-offline"]) {
        const image = await shapeImage(shapeNamed(name));
        copyFileSync(image, join(dir, "ours"));
        const r = await imprint(["e2image", "-ra", "-O", "1000000", "ours"], { cwd: dir });
        t.is(r.code, 0, r.stderr);
        writeFileSync(join(dir, "moved"), readFileSync(join(dir, "ours")).subarray(1_000_000));
        const check = async (file: string) => (await run("e2fsck", ["-fn", file])).code;
        t.is(await check(join(dir, "moved")), await check(image), name);
      }
    }),
  ));

for (const [from, to] of [
  [0, 2 * MIB],
  [2 * MIB, 512],
  [0, 300],
] as const)
  test(`within a block device, from ${from} to ${to}`, async (t) => {
    const dir = scratch(t, "move");
    const state = join(dir, "state");
    mkdirSync(state);
    const volume = readFileSync(await shapeImage(shapeNamed("ext4-1k")));
    const before = Buffer.concat([noise(1, from), volume, noise(2, 3 * MIB)]);
    const files = new Map<string, Buffer>();
    for (const who of ["native", "ours"]) {
      writeFileSync(join(dir, who), before);
      const device = attach(t, join(dir, who));
      const args = ["-ra", "-o", `${from}`, "-O", `${to}`, device];
      const r =
        who === "native"
          ? await run("e2image", args)
          : await imprint(["e2image", ...args], { env: { XDG_STATE_HOME: state } });
      t.is(r.code, 0, r.stderr);
      sh("blockdev", "--flushbufs", device);
      files.set(who, readFileSync(device));
    }
    const [native, ours] = [files.get("native")!, files.get("ours")!];
    const end = to + volume.length;
    t.is(ours.length, before.length);
    if (to - from !== 300) {
      // Native clears the last byte of the volume where its last block is not selected.
      native[end - 1] = ours[end - 1]!;
      t.is(native.compare(ours), 0);
    }
    writeFileSync(join(dir, "moved"), ours.subarray(to, end));
    t.is((await run("e2fsck", ["-fn", join(dir, "moved")])).code, 0);
    t.deepEqual(readdirSync(join(state, "imprint")), [], "the journal is gone");
  });

test("a device whose move was interrupted is finished by the same command", async (t) => {
  const dir = scratch(t, "move");
  const volume = await shapeImage(shapeNamed("ext4-1k"));
  const disk = Buffer.concat([readFileSync(volume), noise(2, MIB)]);
  writeFileSync(join(dir, "disk"), disk);
  const env = { XDG_STATE_HOME: join(dir, "state"), IMPRINT_MOVE_STEP: "16384" };
  const device = attach(t, join(dir, "disk"));
  const args = ["-ra", "-O", "50000", device];
  const child = spawn(process.execPath, [cli, "e2image", ...args], {
    stdio: "ignore",
    env: { ...process.env, ...env, ...(await killedAt(100)) },
  });
  const name = `.${device.slice(5)}.imprint-move`;
  const [, signal] = await once(child, "close");
  t.is(signal, "SIGKILL");
  t.true(existsSync(join(dir, "state/imprint", name)));
  const r = await imprint(["e2image", ...args], { env });
  t.is(r.code, 0, r.stderr);
  t.regex(r.stderr, /going on with the move/);
  sh("blockdev", "--flushbufs", device);
  writeFileSync(
    join(dir, "moved"),
    readFileSync(device).subarray(50_000, 50_000 + readFileSync(volume).length),
  );
  t.is((await run("e2fsck", ["-fn", join(dir, "moved")])).code, 0);
  t.deepEqual(readdirSync(join(dir, "state/imprint")), []);
});

test("refused before anything is touched", async (t) => {
  const dir = scratch(t, "move");
  const image = await shapeImage(shapeNamed("ext4-1k"));
  copyFileSync(image, join(dir, "ours"));
  const refused = async (args: string[], message: RegExp, file = join(dir, "ours"), original = image) => {
    const r = await imprint(["e2image", ...args], { cwd: dir });
    t.is(r.code, 1, args.join(" "));
    t.regex(r.stderr, message, args.join(" "));
    t.is(bytesDifference(original, readFileSync(file)), null);
    t.false(
      readdirSync(dir).some((f) => f.includes("imprint-move")),
      "no journal is left",
    );
  };
  await refused(["-ra", "--verify", "-O", "4096", "ours"], /--verify is not for a move/);
  await refused(["-ra", "--ignore-read-errors", "-O", "4096", "ours"], /not for a move/);
  await refused(["-ra", "--journal", "no/such", "-O", "4096", "ours"], /no\/such\.lock: cannot create/);
  await refused(["-ra", "--journal", "j", "ours", "out"], /--journal is for a move/);
  await refused(["-ra", "-o", "4096", "ours"], /Bad magic number in super-block while trying to open ours/);
  await refused(["-ra", "-O", "4096", "missing"], /No such file or directory while trying to open missing/);

  const device = attach(t, join(dir, "ours"));
  await refused(["-ra", "-O", "4096", "ours"], /ours: is attached to \/dev\/loop/);
  await refused(["-ra", "-O", "4096", device], /has 8388608 bytes, 8392704 are needed/);
  const at = mount(t, join(dir, "mnt"), "-o", "ro", device);
  await refused(["-ra", "-O", "512", device], new RegExp(`is mounted on ${at}`));
  await refused(["-raf", "-O", "512", "ours"], /is mounted on/);
  await must("mount", ["-o", "remount,rw", at]).catch(() => {});

  const listed = (await must("e2image", ["-ran", image, join(dir, "list")])).stdout.toString().trim();
  const end = Number(/\d+$/.exec(listed)![0]) * 1024 + 100;
  rmSync(join(dir, "list"));
  const short = readFileSync(image).subarray(0, end);
  writeFileSync(join(dir, "short"), short);
  writeFileSync(join(dir, "short.copy"), short);
  const cut = new RegExp(`short: ends at byte ${end}, before \\d+ blocks of the filesystem; it stays where`);
  await refused(["-ra", "-O", "4096", "short"], cut, join(dir, "short"), join(dir, "short.copy"));

  await must("e2image", ["-Q", image, join(dir, "q")]);
  copyFileSync(join(dir, "q"), join(dir, "q.copy"));
  await refused(["-ra", "-O", "4096", "q"], /is a QCOW2 image/, join(dir, "q"), join(dir, "q.copy"));
});

test("a mounted filesystem is not moved, in native's words", async (t) => {
  const dir = scratch(t, "move");
  copyFileSync(await shapeImage(shapeNamed("ext4-1k")), join(dir, "ours"));
  mount(t, join(dir, "mnt"), "-o", "loop", join(dir, "ours"));
  const args = ["-ra", "-O", "4096", "ours"];
  const n = said(await run("e2image", args, { cwd: dir }));
  t.deepEqual(said(await imprint(["e2image", ...args], { cwd: dir })), n);
  t.regex(n.stderr, /R\/W mounted/);
});

test("the journal may be kept elsewhere, and the file may be named by a link", async (t) => {
  const dir = scratch(t, "move");
  mkdirSync(join(dir, "a"));
  copyFileSync(await shapeImage(shapeNamed("ext4-1k")), join(dir, "a/ours"));
  sh("ln", "-s", "a/ours", join(dir, "link"));
  const stat = readFileSync(`/proc/${process.pid}/stat`, "latin1");
  const start = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  for (const [journal, extra] of [
    [join(dir, "a/.ours.imprint-move"), []],
    [join(dir, "elsewhere"), ["--journal", join(dir, "elsewhere")]],
  ] as const) {
    // Who holds the lock shows where the journal would be.
    symlinkSync(`${process.pid}.${start}.${boot}`, `${journal}.lock`);
    const args = ["e2image", "-ra", ...extra, "-O", "777", "link"];
    const r = await imprint(args, { cwd: dir });
    t.is(r.code, 1);
    t.true(r.stderr.includes(`${journal}: process ${process.pid} is at work on it`), r.stderr);
    rmSync(`${journal}.lock`);
    copyFileSync(await shapeImage(shapeNamed("ext4-1k")), join(dir, "a/ours"));
    t.is((await imprint(args, { cwd: dir })).code, 0);
    t.deepEqual(readdirSync(dir), ["a", "link"]);
    t.deepEqual(readdirSync(join(dir, "a")), ["ours"]);
  }
});

/** A slow move: many small steps over a large part. */
function slowMove(dir: string, args: readonly string[]): { child: ChildProcess; stderr: () => string } {
  const child = spawn(process.execPath, [cli, "e2image", ...args], {
    cwd: dir,
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, IMPRINT_MOVE_STEP: "1024" },
  });
  let text = "";
  child.stderr!.on("data", (b: Buffer) => {
    text += b.toString();
  });
  return { child, stderr: () => text };
}

const until = async (what: () => boolean): Promise<void> => {
  for (let i = 0; i < 20_000 && !what(); i++) await new Promise((r) => setTimeout(r, 1));
};

test("Ctrl-C: a warning first, then an end from which the same command goes on", async (t) => {
  const dir = scratch(t, "move");
  const image = await shapeImage(shapeNamed("aged-ext4"));
  const args = ["-ra", "-O", "700", "ours"];
  for (let k = 0; ; k++) {
    copyFileSync(image, join(dir, "ours"));
    const { child, stderr } = slowMove(dir, args);
    const exit = once(child, "close");
    await until(() => existsSync(join(dir, JOURNAL)) || child.exitCode !== null);
    await new Promise((r) => setTimeout(r, 50));
    child.kill("SIGINT");
    await until(() => stderr().includes("interrupt again") || child.exitCode !== null);
    child.kill("SIGINT");
    const [code] = await exit;
    // It may have come to its end meanwhile.
    if (code !== 130 && k < 20) continue;
    t.is(code, 130, stderr());
    t.regex(stderr(), /Stopping now will destroy the filesystem, interrupt again if you are sure\n/);
    t.regex(
      stderr(),
      /interrupted: the same command goes on with the move \(.*\.ours\.imprint-move is needed/,
    );
    break;
  }
  t.true(existsSync(join(dir, JOURNAL)));
  t.false(existsSync(join(dir, `${JOURNAL}.lock`)));
  const r = await imprint(["e2image", ...args], { cwd: dir });
  t.is(r.code, 0, r.stderr);
  writeFileSync(join(dir, "moved"), readFileSync(join(dir, "ours")).subarray(700));
  t.is((await run("e2fsck", ["-fn", join(dir, "moved")])).code, 0);
  t.deepEqual(readdirSync(dir).sort(), ["moved", "ours"]);
});

test("Ctrl-C and SIGTERM where nothing is destroyed yet stop at once and leave no journal", async (t) => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    const dir = scratch(t, "move");
    const image = await shapeImage(shapeNamed("aged-ext4"));
    copyFileSync(image, join(dir, "ours"));
    const size = readFileSync(image).length;
    for (let k = 0; ; k++) {
      t.true(k < 40, "the move could not be stopped under way");
      if (k === 40) break;
      truncateSync(join(dir, "ours"), size);
      const { child, stderr } = slowMove(dir, ["-ra", "-O", `${size + 512}`, "ours"]);
      const exit = once(child, "close");
      await until(() => existsSync(join(dir, JOURNAL)) || child.exitCode !== null);
      child.kill(signal);
      const [code] = await exit;
      if (code === 0) continue;
      t.is(code, 130, stderr());
      t.regex(stderr(), /interrupted: the filesystem of ours is whole where it was/);
      break;
    }
    t.is(bytesDifference(image, readFileSync(join(dir, "ours")).subarray(0, size)), null);
    t.deepEqual(readdirSync(dir), ["ours"]);
  }
});
