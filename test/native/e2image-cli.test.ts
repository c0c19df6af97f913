// The command line of our e2image against the native one: refusals, messages, exit codes, -n, -c, -p, devices.
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { shapeImage, shapeNamed } from "../support/ext-shapes.ts";
import { noise } from "../support/ext-tree.ts";
import { attach, mount, scratch } from "../support/host.ts";
import { bytesDifference, fileDifference, imprint, must, type Outcome, run } from "../support/native.ts";

const image = (): Promise<string> => shapeImage(shapeNamed("ext4-1k"));

interface Said {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a run said, without the banner, the name it was called by, timings, and the guess at what a source may hold. */
function said(r: Outcome): Said {
  const stderr = r.stderr
    .replace(/^e2image [^\n]*\n/, "")
    .replaceAll("imprint e2image", "e2image")
    .replace(/\(0%\)[^\n\r]*\r/, "(0%)\r")
    .replace(/in \d\d:\d\d:\d\d (at [\d.]+ MB\/s)?/, "in TIME");
  const stdout = r.stdout.toString("latin1").replace(/(superblock\.\n).* contains a [\s\S]*/, "$1");
  return { code: r.code, stdout, stderr };
}

/** A folder with the inputs the tables name, and nothing else. */
async function inputs(t: ExecutionContext): Promise<string> {
  const dir = scratch(t, "e2image-cli");
  copyFileSync(await image(), join(dir, "a.img"));
  writeFileSync(join(dir, "junk"), noise(1, 100_000));
  writeFileSync(join(dir, "zeros"), new Uint8Array(1 << 20));
  writeFileSync(join(dir, "empty"), "");
  return dir;
}

/** Native and ours with the same arguments, each in its own copy of the inputs. */
async function both(
  t: ExecutionContext,
  args: readonly string[],
  prepare: (dir: string) => void = () => {},
  env: Readonly<Record<string, string>> = {},
): Promise<{ native: Said; ours: Said; nativeDir: string; oursDir: string }> {
  const [nativeDir, oursDir] = [await inputs(t), await inputs(t)];
  prepare(nativeDir);
  prepare(oursDir);
  const native = said(await run("e2image", args, { cwd: nativeDir, env }));
  const ours = said(await imprint(["e2image", ...args], { cwd: oursDir, env }));
  return { native, ours, nativeDir, oursDir };
}

const REFUSALS: readonly string[] = [
  "",
  "-r",
  "-r -r a.img out",
  "-rQ a.img out",
  "-Qr a.img out",
  "-Q -r -z a.img out",
  "-z",
  "-rz a.img out",
  "-r -o",
  "-rb",
  "-r a.img",
  "-r a.img out extra",
  "-r -o 0 a.img",
  "-r -o 1024 a.img",
  "-ra -o xyz a.img",
  "-a a.img out",
  "-ca a.img out",
  "-b 8193 a.img out",
  "-b 8193 -B 1024 a.img out",
  "-Q -o 1024 a.img out",
  "-Q -O 1024 a.img out",
  "-o 1024 a.img",
  "-O 1024 a.img out",
  "-aO1024 a.img out",
  "-I -r a.img out",
  "-IQ a.img out",
  "-r nosuch out",
  "-Q nosuch out",
  "-r nosuch/x out",
  "-r a.img/x out",
  "-r junk out",
  "-Q junk out",
  "-r zeros out",
  "-r empty out",
  "-r /proc out",
  "-ra -o 1 a.img out",
  "-ra -o 99999999 a.img out",
  "-r -o 0x400 a.img out",
  "-r -o 02000 a.img out",
  "-r -B 2048 a.img out",
  "-Q -B 4096 a.img out",
  "-r -b 8193 a.img out",
  "-r -b 5 -B 1024 a.img out",
  "-r -b 99999999 -B 1024 a.img out",
  "-r a.img nosuch/out",
  "-Q a.img nosuch/out",
  "-r a.img junk/out",
  "-r a.img .",
  "-r a.img ''",
  "-Qf a.img ''",
  "-Q a.img /",
  "-Q -c a.img out",
  "-Qp a.img out",
  "-Qcp a.img out",
  "-r -c a.img -",
  "-rca a.img -",
];

for (const line of REFUSALS)
  test(`refused alike: e2image ${line}`, async (t) => {
    const args = line === "" ? [] : line.split(" ").map((word) => (word === "''" ? "" : word));
    const { native, ours, oursDir } = await both(t, args);
    t.is(ours.code, 1);
    t.deepEqual(ours, native);
    t.deepEqual(readdirSync(oursDir).sort(), ["a.img", "empty", "junk", "zeros"], "nothing is left behind");
  });

const SAME: readonly (readonly [string, string])[] = [
  ["-rn a.img out", "a list of blocks"],
  ["-ran a.img out", "with data"],
  ["-rn a.img -", "for a stream, zeros too"],
  ["-ranO 65536 a.img out", "at an offset"],
  ["-rp a.img out", "progress"],
  ["-rap a.img out", "progress with data"],
  ["-r -p -O 4096 a.img out", "progress at an offset"],
  ["-rpn a.img out", "progress of a list"],
  ["-r -B 1024 a.img out", "the right block size"],
  ["a.img -r out", "operands first"],
  ["-r -o xyz a.img out", "a number that is none"],
  ["-r -- a.img out", "the end of the options"],
  ["-raf a.img out", "force where nothing is mounted"],
];

for (const [line, what] of SAME)
  test(`${what}: e2image ${line}`, async (t) => {
    const { native, ours, nativeDir, oursDir } = await both(t, line.split(" "));
    t.is(ours.code, 0);
    t.deepEqual(ours, native);
    const written = existsSync(join(oursDir, "out"));
    t.is(written, !/^-\w*n/.test(line), "a list creates nothing");
    if (written) t.is(fileDifference(join(oursDir, "out"), join(nativeDir, "out")), null);
  });

test("an inode table outside the volume: the warnings come before the failure", async (t) => {
  const outside = (dir: string) => {
    const bytes = readFileSync(join(dir, "a.img"));
    bytes.writeUInt32LE(0x7fffffff, 2048 + 8);
    writeFileSync(join(dir, "a.img"), bytes);
  };
  const { native, ours } = await both(t, ["-rp", "a.img", "out"], outside);
  t.regex(native.stderr, /^Illegal block number .*\n[\s\S]*Scanning inodes/);
  t.deepEqual({ ...ours, stderr: ours.stderr.replace(/\n\(.*\)\n$/, "\n") }, native);
});

const WIDE: readonly (readonly [what: string, features: string, commands: string])[] = [
  ["an MMP block of 2^64 - 1", "mmp", "ssv mmp_block 18446744073709551615"],
  ["an MMP block of 2^53 + 1", "mmp", "ssv mmp_block 9007199254740993"],
  [
    "bitmaps at 2^60 + 1 and 2^64 - 1",
    "64bit",
    "set_bg 0 block_bitmap 1152921504606846977\nset_bg 0 inode_bitmap 18446744073709551615",
  ],
  [
    "bitmaps in clusters at 2^60 + 1 and 2^64 - 1",
    "64bit,bigalloc",
    "set_bg 0 block_bitmap 1152921504606846977\nset_bg 0 inode_bitmap 18446744073709551615",
  ],
];

for (const [what, features, commands] of WIDE)
  test(`${what}: the number is printed in full, the image is complete`, async (t) => {
    const dir = scratch(t, "e2image-cli");
    const at = (name: string) => join(dir, name);
    writeFileSync(at("a.img"), "");
    truncateSync(at("a.img"), 16 << 20);
    await must("mke2fs", ["-q", "-F", "-t", "ext4", "-O", features, at("a.img")]);
    await must("debugfs", ["-w", "-f", "-", at("a.img")], { input: `${commands}\n` });
    for (const mode of ["-r", "-Q"]) {
      const native = said(await run("e2image", [mode, at("a.img"), at("native")]));
      const ours = said(await imprint(["e2image", "--native-selection", mode, at("a.img"), at("ours")]));
      t.regex(native.stderr, /#\d{16,} for/);
      t.deepEqual(ours, native);
      t.is(fileDifference(at("ours"), at("native")), null);
      rmSync(at("ours"));
      rmSync(at("native"));
    }
  });

for (const log of [31, 32, 255])
  test(`flexible groups of 2^${log} groups are taken or refused as natively`, async (t) => {
    const change = (dir: string) => {
      const bytes = readFileSync(join(dir, "a.img"));
      bytes[1024 + 372] = log;
      writeFileSync(join(dir, "a.img"), bytes);
    };
    const { native, ours } = await both(t, ["-r", "a.img", "out"], change);
    t.is(native.code, log > 31 ? 1 : 0);
    t.deepEqual({ ...ours, stderr: ours.stderr.replace(/\ne2image: ext [^\n]*\n/, "\n") }, native);
  });

test("a list for QCOW2 names the blocks of data", async (t) => {
  const { native, ours, oursDir } = await both(t, ["-Qan", "a.img", "out"]);
  t.is(ours.code, 0);
  const data = native.stdout.split("\n").filter((l) => l !== "Writing block 18446744073709551615");
  t.deepEqual(ours.stdout.split("\n"), data);
  t.false(existsSync(join(oursDir, "out")));
});

test("POSIXLY_CORRECT ends the options at the first operand", async (t) => {
  const { native, ours } = await both(t, ["a.img", "-r", "out"], undefined, { POSIXLY_CORRECT: "1" });
  t.deepEqual(ours, native);
  t.is(ours.code, 1);
});

const COMPARED: readonly (readonly [string, readonly string[], (dir: string) => void])[] = [
  ["all the same", ["-rc"], (dir) => copyFileSync(join(dir, "a.img"), join(dir, "out"))],
  ["all the same with data", ["-rac"], (dir) => copyFileSync(join(dir, "a.img"), join(dir, "out"))],
  [
    "two blocks differ",
    ["-rac"],
    (dir) => {
      const bytes = readFileSync(join(dir, "a.img"));
      bytes.fill(0xaa, 67 * 1024 + 5, 68 * 1024 + 5);
      writeFileSync(join(dir, "out"), bytes);
    },
  ],
  ["nothing is the same", ["-rac"], (dir) => writeFileSync(join(dir, "out"), noise(9, 20 << 20))],
  [
    "shifted",
    ["-rac", "-O", "1024"],
    (dir) =>
      writeFileSync(join(dir, "out"), Buffer.concat([readFileSync(join(dir, "a.img")), noise(3, 1024)])),
  ],
  ["with a list", ["-racn"], (dir) => writeFileSync(join(dir, "out"), noise(9, 20 << 20))],
  ["with progress", ["-rcp"], (dir) => copyFileSync(join(dir, "a.img"), join(dir, "out"))],
];

for (const [what, flags, prepare] of COMPARED)
  test(`-c counts and writes like native: ${what}`, async (t) => {
    const { native, ours } = await both(t, [...flags, "a.img", "out"], prepare);
    t.is(ours.code, 0);
    t.deepEqual(ours, native);
  });

test("-c leaves the image that a fresh run writes, whatever was there", async (t) => {
  const dir = await inputs(t);
  await must("e2image", ["-r", "a.img", "fresh"], { cwd: dir });
  const size = readFileSync(join(dir, "fresh")).length;
  for (const length of [0, 1000, 500_000, size, size + 5000]) {
    writeFileSync(join(dir, "out"), noise(length, length));
    const r = await imprint(["e2image", "-rc", "a.img", "out"], { cwd: dir, timeoutMs: 30_000 });
    t.is(r.code, 0, r.stderr);
    t.is(fileDifference(join(dir, "fresh"), join(dir, "out")), null, `over ${length} bytes`);
  }
  rmSync(join(dir, "out"));
  const r = await imprint(["e2image", "-rc", "a.img", "out"], { cwd: dir, timeoutMs: 30_000 });
  t.deepEqual(said(r), { code: 0, stdout: "0 blocks already contained the data to be copied\n", stderr: "" });
  t.is(fileDifference(join(dir, "fresh"), join(dir, "out")), null, "where nothing was");
});

test("a mounted source is refused unless it is read-only or -f is given", async (t) => {
  const dir = await inputs(t);
  const at = mount(t, join(dir, "mnt"), "-o", "loop", join(dir, "a.img"));
  const ask = async (...args: string[]) => {
    rmSync(join(dir, "out"), { force: true });
    const native = said(await run("e2image", args, { cwd: dir }));
    rmSync(join(dir, "out"), { force: true });
    const ours = said(await imprint(["e2image", ...args], { cwd: dir }));
    t.deepEqual(ours, native, args.join(" "));
    return ours;
  };
  t.is((await ask("-r", "a.img", "out")).code, 1);
  t.is((await ask("-IQ", "a.img", "out")).code, 1);
  t.is((await ask("-rf", "a.img", "out")).code, 0);
  await must("mount", ["-o", "remount,ro", at]);
  t.is((await ask("-Q", "a.img", "out")).code, 0);
});

test("the environment of e2fsprogs decides the mount check", async (t) => {
  const rw = await both(t, ["-r", "a.img", "out"], undefined, { EXT2FS_PRETEND_RW_MOUNT: "1" });
  t.is(rw.ours.code, 1);
  t.deepEqual(rw.ours, rw.native);
  const ro = await both(t, ["-r", "a.img", "out"], undefined, { EXT2FS_PRETEND_RO_MOUNT: "1" });
  t.is(ro.ours.code, 0);
  t.deepEqual(ro.ours, ro.native);
});

/** A loop device over a new file of these bytes. */
function deviceOf(t: ExecutionContext, file: string, bytes: Uint8Array): string {
  writeFileSync(file, bytes);
  return attach(t, file);
}

for (const mode of ["-r", "-ra", "-Q", "-Qa"])
  test(`a block device as output, ${mode}: the native bytes`, async (t) => {
    const dir = await inputs(t);
    const raw = mode.startsWith("-r");
    const size = readFileSync(join(dir, "a.img")).length;
    // Native leaves what the device held in unused parts of a QCOW2, so that only an empty one ends up the same.
    const filled = raw ? noise(4, size + 4096) : Buffer.alloc(2 * size);
    const devices: Buffer[] = [];
    for (const tool of ["native", "ours"]) {
      const device = deviceOf(t, join(dir, tool), filled);
      if (tool === "native") await must("e2image", [mode, "a.img", device], { cwd: dir });
      else {
        const r = await imprint(["e2image", mode, "a.img", device], { cwd: dir });
        t.is(r.code, 0, r.stderr);
      }
      await must("blockdev", ["--flushbufs", device]);
      devices.push(readFileSync(device));
    }
    const [native, ours] = devices;
    if (raw) {
      t.is(ours[size - 1], filled[size - 1], "the last byte of an unselected block is left alone");
      t.is(native[size - 1], 0, "which native clears");
      native[size - 1] = ours[size - 1];
    }
    t.is(native.compare(ours), 0);
  });

for (const options of [["-Q"], ["-Qa"], ["-Qa", "--modern"]])
  test(`what a device held never shows through a QCOW2 on it, ${options.join(" ")}`, async (t) => {
    const dir = await inputs(t);
    const device = deviceOf(t, join(dir, "held"), noise(8, 24 << 20));
    const r = await imprint(["e2image", ...options, "a.img", device], { cwd: dir });
    t.is(r.code, 0, r.stderr);
    const check = await run("qemu-img", ["check", "-f", "qcow2", "--output=json", device]);
    const found = JSON.parse(check.stdout.toString()) as Record<string, number>;
    t.is((found["check-errors"] ?? 0) + (found["corruptions"] ?? 0), 0);
    await must("e2image", [options[0] === "-Q" ? "-r" : "-ra", "a.img", "raw"], { cwd: dir });
    await must("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", device, "raw"], { cwd: dir });
  });

test("a block device as source", async (t) => {
  const dir = await inputs(t);
  const device = attach(t, join(dir, "a.img"), "--read-only");
  await must("e2image", ["-ra", device, "native"], { cwd: dir });
  t.is((await imprint(["e2image", "-ra", device, "ours"], { cwd: dir })).code, 0);
  t.is(fileDifference(join(dir, "native"), join(dir, "ours")), null);
});

const OURS: readonly (readonly [string, RegExp])[] = [
  ["--verify a.img -", /--verify/],
  ["a.img a.img", /a\.img: is \(or holds, or lies on\) the source/],
  ["-I /dev/null a.img", /Wrong magic number for Ext2 Image Header/],
  ["-r --modern a.img out", /--modern is for QCOW2/],
  ["-r --verify a.img -", /--verify/],
  ["-r --wrong a.img out", /unrecognized option '--wrong'/],
  ["-r --n a.img", /Usage/],
  ["-r -o 0x20000000000001 a.img out", /2\^53/],
  ["-r a.img a.img", /a\.img: is \(or holds, or lies on\) the source/],
];

for (const [line, message] of OURS)
  test(`refused by ours: e2image ${line}`, async (t) => {
    const dir = await inputs(t);
    const r = await imprint(["e2image", ...line.split(" ")], { cwd: dir });
    t.is(r.code, 1);
    t.regex(r.stderr, message);
    t.deepEqual(readdirSync(dir).sort(), ["a.img", "empty", "junk", "zeros"]);
    t.is(fileDifference(await image(), join(dir, "a.img")), null);
  });

test("a mounted or attached destination is refused", async (t) => {
  const dir = await inputs(t);
  copyFileSync(join(dir, "a.img"), join(dir, "b.img"));
  const device = attach(t, join(dir, "b.img"));
  t.regex(
    (await imprint(["e2image", "-r", "a.img", "b.img"], { cwd: dir })).stderr,
    /b\.img: is attached to/,
  );
  mount(t, join(dir, "mnt"), device);
  for (const target of [device, "b.img"]) {
    const r = await imprint(["e2image", "-rf", "a.img", target], { cwd: dir });
    t.is(r.code, 1);
    t.regex(r.stderr, /is mounted on/);
  }
});

test("a device that is too small is refused before anything is written", async (t) => {
  const dir = await inputs(t);
  writeFileSync(join(dir, "small"), noise(2, 1 << 20));
  const device = attach(t, join(dir, "small"));
  const r = await imprint(["e2image", "-r", "a.img", device], { cwd: dir });
  t.is(r.code, 1);
  t.regex(r.stderr, /holds 1048576 bytes/);
  t.is(bytesDifference(join(dir, "small"), noise(2, 1 << 20)), null);
});

test("a source that ends early: native's warnings and native's image, but exit 1 unless told otherwise", async (t) => {
  const dir = await inputs(t);
  await must("e2image", ["-ra", "a.img", "whole"], { cwd: dir });
  const full = readFileSync(join(dir, "whole"));
  let length = full.length;
  while (full[length - 1] === 0) length--;
  length = Math.floor((length - 3000) / 4096) * 4096;
  truncateSync(join(dir, "a.img"), length);
  full.fill(0, length);
  for (const mode of ["-ra", "-Qa"]) {
    const native = await must("e2image", [mode, "a.img", "native"], { cwd: dir });
    const warnings = native.stderr.match(/error reading block \d+\n/g) ?? [];
    t.true(warnings.length > 0);
    for (const ignore of [false, true])
      for (const out of ["out", "-"]) {
        const args = ["e2image", mode, ...(ignore ? ["--ignore-read-errors"] : []), "a.img", out];
        const r = await imprint(args, { cwd: dir });
        t.is(r.code, ignore ? 0 : 1, r.stderr);
        t.deepEqual(r.stderr.match(/error reading block \d+\n/g), warnings);
        t.is(/ blocks? could not be read and (is|are) zeros in (out|-)\n$/.test(r.stderr), !ignore);
        if (out === "-") writeFileSync(join(dir, "out"), r.stdout);
        if (mode === "-ra") t.is(bytesDifference(join(dir, "out"), full), null);
        else await must("qemu-img", ["compare", "-f", "qcow2", "-F", "qcow2", "out", "native"], { cwd: dir });
      }
  }
});

test("bad sectors: the blocks around them are copied, exit 1", async (t) => {
  const dir = await inputs(t);
  await must("e2image", ["-ra", "a.img", "whole"], { cwd: dir });
  const full = readFileSync(join(dir, "whole"));
  let length = full.length;
  while (full[length - 1] === 0) length--;
  length = Math.floor((length - 3000) / 4096) * 4096;
  const device = attach(t, join(dir, "a.img"), "--read-only");
  truncateSync(join(dir, "a.img"), length);
  await must("blockdev", ["--flushbufs", device]);
  for (const args of [["-ra"], ["-ra", "--ignore-read-errors"]]) {
    const r = await imprint(["e2image", ...args, device, "out"], { cwd: dir });
    t.is(r.code, args.length === 1 ? 1 : 0, r.stderr);
    t.regex(r.stderr, /Input\/output error error reading block \d+\n/);
    t.is(readFileSync(join(dir, "out")).compare(full, 0, length, 0, length), 0);
  }
});

test("a QCOW2 source becomes raw, whatever its version, to a file and to a pipe", async (t) => {
  const dir = await inputs(t);
  for (const [name, options] of [
    ["v3.qcow2", ["-c"]],
    ["v2.qcow2", ["-o", "compat=0.10,cluster_size=4096"]],
  ] as const) {
    await must("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", ...options, "a.img", name], { cwd: dir });
    const r = await imprint(["e2image", "-r", name, "out"], { cwd: dir });
    t.is(r.code, 0, r.stderr);
    t.is(fileDifference(join(dir, "a.img"), join(dir, "out")), null, name);
    rmSync(join(dir, "out"));
    const piped = await imprint(["e2image", "-r", name, "-"], { cwd: dir });
    t.is(bytesDifference(join(dir, "a.img"), piped.stdout), null, name);
    const refused = await imprint(["e2image", "-rn", "-O", "4096", name, "out"], { cwd: dir });
    t.is(refused.code, 1);
    t.regex(refused.stderr, /not with -n -O/);
  }
});

test("--verify reads the output back", async (t) => {
  const dir = await inputs(t);
  for (const args of [["-ra"], ["-Qa"], ["-Qa", "--modern"]]) {
    const r = await imprint(["e2image", ...args, "--verify", "a.img", "out"], { cwd: dir });
    t.is(r.code, 0, `${args.join(" ")}: ${r.stderr}`);
  }
});

test("help and version go to standard output", async (t) => {
  const help = await imprint(["e2image", "--help"]);
  t.is(help.code, 0);
  t.regex(help.stdout.toString(), /^Usage: imprint e2image \[ -r\|-Q \][\s\S]*--native-selection/);
  t.is(help.stderr, "");
  const version = await imprint(["e2image", "--version"]);
  t.regex(version.stdout.toString(), /^e2image \(imprint \d+\.\d+\.\d+\)\n$/);
});
