// Imprint's own commands, run as child processes.
import { spawn } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { shapeImage, shapeNamed } from "../../support/ext-shapes.ts";
import { noise } from "../../support/ext-tree.ts";
import { attach, mount, scratch, sparse } from "../../support/host.ts";
import { bytesDifference, cli, fileDifference, imprint, must, root, run } from "../../support/native.ts";

const COMMANDS = ["info", "map", "capture", "restore", "convert", "compare"];
const MIB = 1 << 20;

/** A folder with an ext4 volume "a.img". */
async function folder(t: ExecutionContext): Promise<string> {
  const dir = scratch(t, "commands");
  copyFileSync(await shapeImage(shapeNamed("ext4-1k")), join(dir, "a.img"));
  return dir;
}

/** A disk with an MBR: partition 1 empty, partition 2 the volume. */
function writeDisk(dir: string): void {
  const volume = readFileSync(join(dir, "a.img"));
  const disk = Buffer.alloc(2 * MIB + volume.length);
  const entry = (at: number, type: number, start: number, sectors: number) => {
    disk[at + 4] = type;
    disk.writeUInt32LE(start, at + 8);
    disk.writeUInt32LE(sectors, at + 12);
  };
  entry(446, 0x82, 2048, 2048);
  entry(462, 0x83, 4096, volume.length / 512);
  disk.writeUInt16LE(0xaa55, 510);
  volume.copy(disk, 2 * MIB);
  writeFileSync(join(dir, "disk.img"), disk);
}

const json = (r: { stdout: Buffer }): Record<string, unknown> =>
  JSON.parse(r.stdout.toString()) as Record<string, unknown>;

test("help, version and unknown words", async (t) => {
  const help = await imprint(["--help"]);
  t.is(help.code, 0);
  for (const c of COMMANDS) t.true(help.stdout.includes(`\n  ${c} `), c);
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  t.is((await imprint(["--version"])).stdout.toString(), `imprint ${version}\n`);
  const none = await imprint([]);
  t.is(none.code, 2);
  t.regex(none.stderr, /^Usage: imprint COMMAND/);
  const near = await imprint(["cature", "x"]);
  t.is(near.code, 2);
  t.is(near.stderr, "imprint: unknown command 'cature'; did you mean 'capture'?\nTry 'imprint --help'.\n");
  t.regex((await imprint(["--frob"])).stderr, /unknown option '--frob'\n/);
});

for (const c of COMMANDS)
  test(`${c} --help shows options and examples; wrong usage exits 2`, async (t) => {
    const help = await imprint([c, "--help"]);
    t.is(help.code, 0);
    t.is(help.stderr, "");
    const text = help.stdout.toString();
    t.regex(text, new RegExp(`^Usage: imprint ${c} \\[OPTION\\]... `));
    t.regex(text, /\nOptions:\n[\s\S]*--json[\s\S]*\nExamples:\n {2}imprint /);
    for (const line of text.split("\n")) t.true(line.length <= 100, line);
    t.is((await imprint(["help", c])).stdout.toString(), text);
    for (const args of [[], ["--frob", "a", "b"], ["a", "b", "c"]]) {
      const r = await imprint([c, ...args]);
      t.is(r.code, 2, args.join(" "));
      t.regex(r.stderr, new RegExp(`^imprint ${c}: .*\\nTry 'imprint ${c} --help'\\.\\n$`));
    }
    const missing = await imprint(
      [c, "/nosuch/a", "/nosuch/b"].slice(0, c === "info" || c === "map" ? 2 : 3),
    );
    t.is(missing.code, c === "compare" ? 2 : 1);
    t.is(missing.stderr, `imprint ${c}: /nosuch/a: cannot open: no such file or directory\n`);
  });

for (const tool of ["o2image", "btrfs-image"])
  test(`${tool} says that it is not there yet`, async (t) => {
    const r = await imprint([tool, "x"]);
    t.is(r.code, 1);
    t.is(r.stderr, `imprint ${tool}: ${tool} is not in this version yet\n`);
    const own = await run(process.execPath, [join(root, `build/cli/bin/${tool}.js`)]);
    t.is(own.code, 1);
    t.is(own.stderr, `imprint-${tool}: ${tool} is not in this version yet\n`);
  });

for (const [tool, said] of [
  ["ntfsclone", /^ERROR: You must specify an output file\.\n/m],
  ["qemu-img", /^qemu-img: Not enough arguments\n/],
] as const)
  test(`${tool} is there under both names`, async (t) => {
    for (const r of [
      await imprint([tool]),
      await run(process.execPath, [join(root, `build/cli/bin/${tool}.js`)]),
    ]) {
      t.is(r.code, 1);
      t.regex(r.stderr, said);
    }
  });

test("the tool's own name is in its messages", async (t) => {
  const r = await run(process.execPath, [join(root, "build/cli/bin/e2image.js"), "-a", "x", "y"]);
  t.is(r.code, 1);
  t.regex(r.stderr, /\nimprint-e2image: -a option can only be used with raw or QCOW2 images\.\n$/);
});

test("info tells container, partitions and filesystem", async (t) => {
  const dir = await folder(t);
  writeDisk(dir);
  const volume = json(await imprint(["info", "--json", "a.img"], { cwd: dir }));
  t.like(volume, { file: "a.img", format: "raw", partitionTable: "none", partitions: [], fileSize: 8 * MIB });
  t.like(volume["filesystem"] as object, { kind: "ext4", blockSize: 1024, size: 8 * MIB });
  const disk = json(await imprint(["info", "--json", "disk.img"], { cwd: dir }));
  t.is(disk["partitionTable"], "mbr");
  t.is(disk["filesystem"], null);
  const [first, second] = disk["partitions"] as Record<string, unknown>[];
  t.like(first, { number: 1, start: MIB, size: MIB, filesystem: null });
  t.like(second, { number: 2, start: 2 * MIB, size: 8 * MIB, filesystem: { kind: "ext4" } });
  const text = (await imprint(["info", "disk.img"], { cwd: dir })).stdout.toString();
  t.regex(text, /^File: +disk\.img\n[\s\S]*Format: +raw\n/);
  t.regex(text, /\nPartition table: MBR\n/);
  t.regex(text, /\nPartition 2: ext4\n/);
  await must("qemu-img", ["convert", "-O", "qcow2", "a.img", "a.qcow2"], { cwd: dir });
  const qcow2 = json(await imprint(["info", "--json", "a.qcow2"], { cwd: dir }));
  t.like(qcow2, { format: "qcow2", diskSize: 8 * MIB });
  t.is((qcow2["filesystem"] as { kind: string }).kind, "ext4");
  const chain = ["create", "-q", "-f", "qcow2", "-u", "-b", "gone.img", "-F", "raw", "top.qcow2", "1M"];
  await must("qemu-img", chain, { cwd: dir });
  const r = await imprint(["info", "--json", "top.qcow2"], { cwd: dir });
  t.is(r.code, 1, "its contents cannot be known");
  t.regex(r.stderr, /^imprint info: backing file of top\.qcow2: \S+gone\.img: cannot open: no such file/);
  t.like(json(r)["container"] as object, { virtualSize: MIB, backingFile: "gone.img" });
});

test("map lists every byte once, as a table and as JSON", async (t) => {
  const dir = await folder(t);
  t.is((await imprint(["convert", "a.img", "a.qcow2"], { cwd: dir })).code, 0);
  const rows = JSON.parse((await imprint(["map", "--json", "a.qcow2"], { cwd: dir })).stdout.toString()) as {
    start: number;
    length: number;
    state: string;
    depth: number;
    offset: number | null;
  }[];
  const image = readFileSync(join(dir, "a.img"));
  const file = readFileSync(join(dir, "a.qcow2"));
  let at = 0;
  for (const r of rows) {
    t.is(r.start, at);
    at += r.length;
    const part = image.subarray(r.start, at);
    if (r.state === "data") t.true(part.equals(file.subarray(r.offset!, r.offset! + r.length)));
    else t.true(part.every((b) => b === 0));
  }
  t.is(at, image.length);
  const lines = (await imprint(["map", "a.qcow2"], { cwd: dir })).stdout.toString().trim().split("\n");
  t.is(lines.length, rows.length + 1);
});

test("capture, compare, restore: what comes back is what went in", async (t) => {
  const dir = await folder(t);
  const go = async (...args: string[]) => {
    const r = await imprint(args, { cwd: dir });
    t.is(r.code, 0, `${args.join(" ")}: ${r.stderr}`);
    return r;
  };
  const told = json(await go("capture", "--all", "--verify", "--json", "a.img", "a.qcow2"));
  t.like(told, { source: "a.img", image: "a.qcow2", format: "qcow2", guestSize: 8 * MIB, verified: true });
  t.regex((await go("compare", "a.img", "a.qcow2")).stdout.toString(), /^Identical\.\n$/);
  t.regex((await go("restore", "--verify", "a.qcow2", "back.img")).stdout.toString(), /verified\n$/);
  t.is(fileDifference(join(dir, "a.img"), join(dir, "back.img")), null);
  for (const scope of ["--metadata", "--used"]) {
    await go("capture", scope, "a.img", `x${scope}.img`);
    const found = await run("e2fsck", ["-fn", `x${scope}.img`], { cwd: dir });
    t.is(found.code, 0, scope);
  }
  const used = json(await go("capture", "--dry-run", "--json", "a.img", "n.img"));
  t.true((used["selected"] as number) > 0 && (used["selected"] as number) < 8 * MIB);
  t.false(existsSync(join(dir, "n.img")));
});

test("a dry run refuses what its run would, in the same words", async (t) => {
  const dir = await folder(t);
  writeFileSync(join(dir, "there.img"), "something");
  const small = attach(t, sparse(join(dir, "small"), MIB));
  for (const args of [
    ["capture", "a.img", "there.img"],
    ["capture", "--all", "a.img", small],
    ["capture", "--sanitize", "a.img", "there.img"],
    ["convert", "a.img", "a.img"],
    ["convert", "--force", "a.img", "a.img"],
    ["restore", "--force", "a.img", small],
    ["restore", "a.img", dir],
  ]) {
    const [command, ...rest] = args;
    const real = await imprint([command, ...rest], { cwd: dir });
    const dry = await imprint([command, "--dry-run", ...rest], { cwd: dir });
    t.is(real.code, 1, real.stderr);
    t.deepEqual([dry.code, dry.stderr], [1, real.stderr], args.join(" "));
  }
  const replaced = await imprint(["convert", "--dry-run", "--force", "a.img", "there.img"], { cwd: dir });
  t.is(replaced.code, 0, replaced.stderr);
  t.is(readFileSync(join(dir, "there.img"), "utf8"), "something");
});

test("compare says where, and its exit code", async (t) => {
  const dir = await folder(t);
  const bytes = readFileSync(join(dir, "a.img"));
  writeFileSync(join(dir, "longer.img"), Buffer.concat([bytes, Buffer.alloc(MIB)]));
  bytes[123_456] ^= 1;
  writeFileSync(join(dir, "other.img"), bytes);
  const other = await imprint(["compare", "a.img", "other.img"], { cwd: dir });
  t.is(other.code, 1);
  t.is(other.stdout.toString(), "The images differ at byte 123456.\n");
  const told = await imprint(["compare", "--json", "a.img", "other.img"], { cwd: dir });
  t.like(json(told), { identical: false, offset: 123_456, sizeDiffers: false });
  t.is((await imprint(["compare", "a.img", "longer.img"], { cwd: dir })).code, 0);
  t.is((await imprint(["compare", "--strict", "a.img", "longer.img"], { cwd: dir })).code, 1);
});

test("a partition is found by itself, or by number", async (t) => {
  const dir = await folder(t);
  writeDisk(dir);
  for (const args of [[], ["--partition", "2"], ["-P2"]]) {
    const r = await imprint(["capture", "--force", "--all", ...args, "disk.img", "p.img"], { cwd: dir });
    t.is(r.code, 0, r.stderr);
    t.is(fileDifference(join(dir, "a.img"), join(dir, "p.img")), null);
  }
  const convert = await imprint(["convert", "--force", "-P", "2", "disk.img", "p.img"], { cwd: dir });
  t.is(convert.code, 0, convert.stderr);
  t.is(fileDifference(join(dir, "a.img"), join(dir, "p.img")), null);
  t.is((await imprint(["convert", "disk.img", "d.qcow2"], { cwd: dir })).code, 0);
  t.is((await imprint(["compare", "disk.img", "d.qcow2"], { cwd: dir })).code, 0);
  const empty = await imprint(["capture", "-P", "1", "disk.img", "q.img"], { cwd: dir });
  t.is(empty.code, 1);
  t.regex(empty.stderr, /no filesystem/);
  const none = await imprint(["capture", "-P", "7", "disk.img", "q.img"], { cwd: dir });
  t.is(none.code, 1);
  t.regex(none.stderr, /has no partition 7/);
});

test("pipes in and out", async (t) => {
  const dir = await folder(t);
  const raw = await imprint(["convert", "a.img", "-"], { cwd: dir });
  t.is(bytesDifference(join(dir, "a.img"), raw.stdout), null);
  const qcow2 = await imprint(["convert", "--format", "qcow2", "--json", "a.img", "-"], { cwd: dir });
  t.is(qcow2.code, 0, qcow2.stderr);
  t.like(JSON.parse(qcow2.stderr) as object, { image: "-", format: "qcow2" });
  writeFileSync(join(dir, "p.qcow2"), qcow2.stdout);
  t.is((await must("qemu-img", ["check", "p.qcow2"], { cwd: dir })).code, 0);
  const back = await imprint(["restore", "-", "back.img"], { cwd: dir, input: qcow2.stdout });
  t.is(back.code, 0, back.stderr);
  t.is(fileDifference(join(dir, "a.img"), join(dir, "back.img")), null);
  const same = await imprint(["compare", "-", "a.img"], { cwd: dir, input: qcow2.stdout });
  t.is(same.code, 0, same.stderr);
  t.is((await imprint(["convert", "--verify", "a.img", "-"], { cwd: dir })).code, 2);
});

test("nothing that exists is overwritten without --force", async (t) => {
  const dir = await folder(t);
  writeFileSync(join(dir, "out.img"), "precious");
  const r = await imprint(["capture", "a.img", "out.img"], { cwd: dir });
  t.is(r.code, 1);
  t.is(r.stderr, "imprint capture: out.img: exists already; --force replaces it\n");
  t.is(readFileSync(join(dir, "out.img"), "utf8"), "precious");
  t.is((await imprint(["capture", "--force", "a.img", "out.img"], { cwd: dir })).code, 0);
  const self = await imprint(["convert", "--force", "a.img", "a.img"], { cwd: dir });
  t.is(self.code, 1);
  t.regex(self.stderr, /is \(or holds, or lies on\) the source/);
});

test("a device must be empty, or --force given", async (t) => {
  const dir = await folder(t);
  const size = readFileSync(join(dir, "a.img")).length;
  for (const [name, bytes, message] of [
    ["ext", readFileSync(join(dir, "a.img")), /holds ext4; --force overwrites it/],
    ["noise", noise(1, size), /its first MiB is not empty/],
    ["zeros", Buffer.alloc(size), null],
  ] as const) {
    writeFileSync(join(dir, name), bytes);
    const device = attach(t, join(dir, name));
    const plain = await imprint(["restore", "a.img", device], { cwd: dir });
    t.is(plain.code, message === null ? 0 : 1, plain.stderr);
    if (message !== null) {
      t.regex(plain.stderr, message);
      t.is(bytesDifference(join(dir, name), bytes), null);
      const forced = await imprint(["restore", "--force", "--verify", "a.img", device], { cwd: dir });
      t.is(forced.code, 0, forced.stderr);
    }
    await must("blockdev", ["--flushbufs", device]);
    t.is(bytesDifference(join(dir, "a.img"), readFileSync(device)), null, name);
  }
});

test("options of QCOW2 outputs", async (t) => {
  const dir = await folder(t);
  const args = ["convert", "--cluster-size", "4k", "--compat", "2", "a.img", "a.qcow2"];
  t.is((await imprint(args, { cwd: dir })).code, 0);
  const info = json(await must("qemu-img", ["info", "--output=json", "a.qcow2"], { cwd: dir }));
  t.like(info, { "cluster-size": 4096, format: "qcow2" });
  t.is((info["format-specific"] as Record<string, Record<string, string>>)["data"]?.["compat"], "0.10");
  for (const wrong of [
    ["--cluster-size", "3000"],
    ["--cluster-size", "4M"],
    ["--cluster-size", "x"],
    ["--compat", "4"],
    ["--format", "vmdk"],
    ["--format", "raw", "--compat", "3"],
  ]) {
    const r = await imprint(["convert", ...wrong, "a.img", "b.qcow2"], { cwd: dir });
    t.is(r.code, 2, wrong.join(" "));
    t.false(existsSync(join(dir, "b.qcow2")));
  }
});

test("Ctrl-C leaves nothing and exits 130", async (t) => {
  const dir = scratch(t, "interrupt");
  const chunk = noise(7, 8 * MIB);
  const fd = openSync(join(dir, "big.img"), "w");
  for (let i = 0; i < 64; i++) writeSync(fd, chunk);
  closeSync(fd);
  let stderr = "";
  let code: number | null = null;
  // A conversion that is done before the signal gets there proves nothing: once more.
  for (let tries = 0; tries < 20 && code !== 130; tries++) {
    rmSync(join(dir, "out.qcow2"), { force: true });
    stderr = "";
    const child = spawn(process.execPath, [cli, "convert", "big.img", "out.qcow2"], { cwd: dir });
    child.stderr.on("data", (b: Buffer) => {
      stderr += b.toString();
    });
    const watch = setInterval(() => {
      if (readdirSync(dir).length > 1) {
        clearInterval(watch);
        child.kill("SIGINT");
      }
    }, 2);
    code = await new Promise<number | null>((done) => child.on("close", done));
    clearInterval(watch);
    if (code !== 0 && code !== 130) break;
  }
  t.is(code, 130, stderr);
  t.is(stderr, "imprint convert: interrupted, nothing was written\n");
  t.deepEqual(readdirSync(dir), ["big.img"]);
});

test("a source that is mounted read-write is captured and converted with a warning", async (t) => {
  const dir = scratch(t, "commands");
  const file = sparse(join(dir, "volume"), 8 << 20);
  await must("mke2fs", ["-q", "-F", "-t", "ext4", file]);
  const device = attach(t, file);
  const at = mount(t, join(dir, "mnt"), device);
  for (const [i, args] of [
    ["capture", device],
    ["capture", file],
    ["capture", "--dry-run", device],
    ["convert", device],
    ["restore", file],
  ].entries()) {
    const r = await imprint([...args, join(dir, `out-${i}`)]);
    t.is(r.code, 0, r.stderr);
    t.is(
      r.stderr,
      `warning: ${args.at(-1)}: is mounted read-write on ${at}; what changes meanwhile may not fit together\n`,
    );
  }
  t.is((await imprint(["info", device])).stderr, "");
});

test("metadata of a volume beyond 8 TiB goes into QCOW2 without asking for a cluster size", async (t) => {
  const dir = scratch(t, "commands");
  const at = (name: string) => join(dir, name);
  const file = sparse(at("volume"), 12 * 1024 ** 4);
  const features = ["-O", "bigalloc,^has_journal,^resize_inode", "-C", "1048576", "-N", "4096"];
  await must("mke2fs", ["-q", "-F", "-t", "ext4", ...features, "-E", "nodiscard", file]);
  t.is((await imprint(["capture", "--metadata", file, at("raw")])).code, 0);
  for (const hide of [false, true]) {
    const out = at(`out-${hide}.qcow2`);
    const r = await imprint(["capture", hide ? "--sanitize" : "--metadata", file, out]);
    t.is(r.code, 0, r.stderr);
    const info = JSON.parse((await must("qemu-img", ["info", "--output=json", out])).stdout.toString()) as {
      "cluster-size": number;
      "virtual-size": number;
    };
    t.is(info["cluster-size"], 8192);
    t.is(info["virtual-size"], 12 * 1024 ** 4);
    await must("qemu-img", ["check", out]);
    if (!hide) await must("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", out, at("raw")]);
  }
});
