// `e2image -r image.qcow2 out`: every kind of QCOW2 becomes the raw disk in it, wherever it goes.
import { spawn } from "node:child_process";
import {
  copyFileSync,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { shapeImage, shapeNamed } from "../support/ext-shapes.ts";
import { noise } from "../support/ext-tree.ts";
import { attach, scratch, sh } from "../support/host.ts";
import {
  bytesDifference,
  cli,
  fileDifference,
  imprint,
  limiter,
  must,
  type Outcome,
} from "../support/native.ts";
import { patchwork } from "../support/qcow2.ts";
import { Random } from "../support/random.ts";

const turn = limiter(2);
const MIB = 1 << 20;

/** A disk of stretches of noise and of zeros whose last bytes are neither zero nor at the end of a cluster. */
function disk(size = 5 * MIB + 7 * 512, seed = 1): Uint8Array {
  const bytes = patchwork(new Random(seed), size, 512, 0.4, 300);
  bytes.fill(0x0f, size - 512);
  return bytes;
}

/** A folder with such a disk in `disk.raw`. */
function folder(t: ExecutionContext, bytes = disk()): string {
  const dir = scratch(t, "e2image-qcow2");
  writeFileSync(join(dir, "disk.raw"), bytes);
  return dir;
}

function qemu(dir: string, ...args: readonly string[]): Promise<Outcome> {
  return must("qemu-img", args, { cwd: dir });
}

function ours(dir: string, ...args: readonly string[]): Promise<Outcome> {
  return imprint(["e2image", ...args], { cwd: dir, timeoutMs: 60_000 });
}

/** `image` must become `want` in a file and, the same bytes, through a pipe. */
async function becomes(t: ExecutionContext, dir: string, image: string, want: string): Promise<void> {
  const r = await ours(dir, "-r", image, "out");
  t.is(r.code, 0, r.stderr);
  t.is(r.stdout.length, 0);
  t.is(fileDifference(join(dir, want), join(dir, "out")), null, image);
  const piped = await ours(dir, "-r", image, "-");
  t.is(piped.code, 0, piped.stderr);
  t.is(bytesDifference(join(dir, want), piped.stdout), null, `${image} to a pipe`);
}

const KINDS: readonly (readonly [string, string])[] = [
  ["v2", "compat=0.10"],
  ["v2 with clusters of 512", "compat=0.10,cluster_size=512"],
  ["v2 with clusters of 2 MiB", "compat=0.10,cluster_size=2M"],
  ["v3", "compat=1.1"],
  ["v3 with clusters of 512", "cluster_size=512"],
  ["v3 with clusters of 4 KiB", "cluster_size=4096"],
  ["v3 with clusters of 2 MiB", "cluster_size=2M"],
  ["refcounts of 1 bit", "refcount_bits=1"],
  ["refcounts of 64 bits", "refcount_bits=64"],
  ["lazy refcounts", "lazy_refcounts=on"],
  ["extended L2", "extended_l2=on,cluster_size=128k"],
  ["preallocated tables", "preallocation=metadata"],
];

for (const [what, options] of KINDS)
  test(what, (t) =>
    turn(async () => {
      const dir = folder(t);
      await qemu(dir, "convert", "-f", "raw", "-O", "qcow2", "-o", options, "disk.raw", "a.qcow2");
      await becomes(t, dir, "a.qcow2", "disk.raw");
    }),
  );

for (const [what, options] of [
  ["v2", "compat=0.10"],
  ["v3", "compat=1.1"],
  ["zstd", "compression_type=zstd"],
  ["clusters of 512", "cluster_size=512"],
  ["clusters of 2 MiB, zstd", "cluster_size=2M,compression_type=zstd"],
] as const)
  test(`compressed, ${what}`, (t) =>
    turn(async () => {
      const dir = folder(t);
      await qemu(dir, "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, "disk.raw", "a.qcow2");
      await becomes(t, dir, "a.qcow2", "disk.raw");
    }));

for (const name of ["ext4-1k", "ext4-64k", "full-ext4", "full-ext2", "tiny-4k"])
  test(`what native e2image wrote of ${name}, its last blocks and last byte included`, (t) =>
    turn(async () => {
      const image = await shapeImage(shapeNamed(name));
      const dir = scratch(t, "e2image-qcow2");
      for (const all of ["", "a"]) {
        await must("e2image", [`-Q${all}`, image, "a.qcow2"], { cwd: dir });
        await must("e2image", [`-r${all}`, image, "want"], { cwd: dir });
        await becomes(t, dir, "a.qcow2", "want");
      }
    }));

test("a small filesystem in clusters that are larger than it", async (t) => {
  const dir = folder(t, disk(200 * 1024, 5));
  await qemu(dir, "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "a.qcow2");
  await becomes(t, dir, "a.qcow2", "disk.raw");
});

test("internal snapshots: the active state is taken", async (t) => {
  const dir = folder(t);
  await qemu(dir, "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "a.qcow2");
  await qemu(dir, "snapshot", "-c", "before", "a.qcow2");
  const bytes = readFileSync(join(dir, "disk.raw"));
  bytes.fill(0xcc, MIB, 2 * MIB);
  writeFileSync(join(dir, "disk.raw"), bytes);
  await must("qemu-io", ["-f", "qcow2", "-c", "write -P 0xcc 1M 1M", "a.qcow2"], { cwd: dir });
  await becomes(t, dir, "a.qcow2", "disk.raw");
});

test("clusters of zeros hide what lies under them", async (t) => {
  const dir = folder(t);
  await qemu(dir, "create", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "a.qcow2");
  await must("qemu-io", ["-f", "qcow2", "-c", "write -z 1M 1M", "-c", "write -z -u 3M 128k", "a.qcow2"], {
    cwd: dir,
  });
  await qemu(dir, "convert", "-O", "raw", "a.qcow2", "want");
  await becomes(t, dir, "a.qcow2", "want");
});

test("chains of backing files, in folders of their own, shorter and longer than what lies over them", async (t) => {
  const dir = folder(t);
  mkdirSync(join(dir, "below"));
  copyFileSync(join(dir, "disk.raw"), join(dir, "below/base.raw"));
  await qemu(dir, "create", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "below/middle.qcow2");
  await must("qemu-io", ["-f", "qcow2", "-c", "write -P 0x11 64k 500k", "below/middle.qcow2"], { cwd: dir });
  for (const size of ["3M", "5M", "9M"]) {
    const top = `top-${size}.qcow2`;
    await qemu(dir, "create", "-f", "qcow2", "-b", "below/middle.qcow2", "-F", "qcow2", top, size);
    await must("qemu-io", ["-f", "qcow2", "-c", "write -P 0x22 300k 1M", top], { cwd: dir });
    await qemu(dir, "convert", "-O", "raw", top, "want");
    await becomes(t, dir, top, "want");
  }
  await qemu(
    dir,
    "convert",
    "-c",
    "-O",
    "qcow2",
    "-B",
    "below/base.raw",
    "-F",
    "raw",
    "below/middle.qcow2",
    "thin.qcow2",
  );
  await qemu(dir, "convert", "-O", "raw", "thin.qcow2", "want");
  await becomes(t, dir, "thin.qcow2", "want");
});

test("an external data file", async (t) => {
  const dir = folder(t);
  for (const raw of ["on", "off"]) {
    const options = `data_file=data-${raw},data_file_raw=${raw}`;
    await qemu(dir, "convert", "-f", "raw", "-O", "qcow2", "-o", options, "disk.raw", `${raw}.qcow2`);
    await becomes(t, dir, `${raw}.qcow2`, "disk.raw");
  }
});

/** A conversion that must be refused with these words, leaving no output. */
async function refused(
  t: ExecutionContext,
  dir: string,
  image: string,
  says: RegExp,
  target = "out",
): Promise<void> {
  const before = existsSync(join(dir, target)) ? readFileSync(join(dir, target)) : null;
  const files = readdirSync(dir);
  const r = await ours(dir, "-r", image, target);
  t.is(r.code, 1);
  t.regex(r.stderr, says);
  t.deepEqual(readdirSync(dir), files);
  if (before !== null) t.true(readFileSync(join(dir, target)).equals(before));
}

test("files that an image names are opened through the gate only", async (t) => {
  const dir = folder(t);
  await qemu(dir, "create", "-u", "-f", "qcow2", "-b", "gone.raw", "-F", "raw", "gone.qcow2", "5M");
  await refused(t, dir, "gone.qcow2", /gone\.raw/);
  await qemu(dir, "create", "-u", "-f", "qcow2", "-b", "nbd://host/x", "-F", "raw", "nbd.qcow2", "5M");
  await refused(t, dir, "nbd.qcow2", /protocol/);
  for (const [image, backing] of [
    ["loop", "again"],
    ["again", "loop"],
  ])
    await qemu(
      dir,
      "create",
      "-u",
      "-f",
      "qcow2",
      "-b",
      `${backing}.qcow2`,
      "-F",
      "qcow2",
      `${image}.qcow2`,
      "5M",
    );
  await refused(t, dir, "loop.qcow2", /already part of this chain/);
  await qemu(dir, "create", "-u", "-f", "qcow2", "-b", "/dev/zero", "-F", "raw", "device.qcow2", "5M");
  await refused(t, dir, "device.qcow2", /\/dev\/zero/);
});

test("the image, or a file it names, is never the output", async (t) => {
  const dir = folder(t);
  await qemu(dir, "create", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "a.qcow2");
  await refused(t, dir, "a.qcow2", /disk\.raw: is \(or holds, or lies on\) the source/, "disk.raw");
  await refused(t, dir, "a.qcow2", /a\.qcow2: is \(or holds, or lies on\) the source/, "a.qcow2");
});

test("encrypted and damaged images are refused, and leave nothing", async (t) => {
  const dir = folder(t);
  await qemu(dir, "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "a.qcow2");
  const good = readFileSync(join(dir, "a.qcow2"));
  for (const [at, value, says] of [
    [4, 9, /version/],
    [20, 70, /cluster/],
    [32, 1, /encrypt/],
    [32, 2, /LUKS/],
    [36, 0x7fffffff, /L1/],
    [44, 0x123, /L1/],
  ] as const) {
    const bad = Buffer.from(good);
    bad.writeUInt32BE(value, at);
    writeFileSync(join(dir, "bad.qcow2"), bad);
    await refused(t, dir, "bad.qcow2", says);
  }
  writeFileSync(join(dir, "bad.qcow2"), good.subarray(0, good.length >> 1));
  await refused(t, dir, "bad.qcow2", /bad\.qcow2|qcow2/i);
});

test("an output that is there already leaves none of its bytes", async (t) => {
  const dir = folder(t);
  await qemu(dir, "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "a.qcow2");
  for (const size of [1000, 4 * MIB, 20 * MIB]) {
    writeFileSync(join(dir, "out"), noise(size, size));
    t.is((await ours(dir, "-r", "--verify", "a.qcow2", "out")).code, 0);
    t.is(fileDifference(join(dir, "disk.raw"), join(dir, "out")), null);
  }
});

test("a new output is sparse and has the mode of native's", async (t) => {
  const bytes = new Uint8Array(64 * MIB);
  bytes.set(noise(9, 4096), 32 * MIB);
  const dir = folder(t, bytes);
  await qemu(dir, "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "a.qcow2");
  t.is((await ours(dir, "-r", "a.qcow2", "out")).code, 0);
  const st = statSync(join(dir, "out"));
  t.is(st.size, 64 * MIB);
  t.true(st.blocks * 512 < MIB);
  t.is(st.mode & 0o777, 0o600);
});

test("to a block device: what lies behind the disk stays, a small device is refused", async (t) => {
  const dir = folder(t);
  const size = readFileSync(join(dir, "disk.raw")).length;
  await qemu(dir, "convert", "-c", "-f", "raw", "-O", "qcow2", "disk.raw", "a.qcow2");
  const held = Buffer.from(noise(3, 8 * MIB));
  writeFileSync(join(dir, "held"), held);
  const device = attach(t, join(dir, "held"));
  const r = await ours(dir, "-r", "--verify", "a.qcow2", device);
  t.is(r.code, 0, r.stderr);
  await must("blockdev", ["--flushbufs", device]);
  const now = readFileSync(device);
  t.is(bytesDifference(join(dir, "disk.raw"), now.subarray(0, size)), null);
  t.true(now.subarray(size).equals(held.subarray(size)), "behind the disk");
  writeFileSync(join(dir, "small"), noise(4, 4 * MIB));
  const small = attach(t, join(dir, "small"));
  const refusal = await ours(dir, "-r", "a.qcow2", small);
  t.is(refusal.code, 1);
  t.regex(refusal.stderr, /holds 4194304 bytes/);
  t.is(bytesDifference(join(dir, "small"), noise(4, 4 * MIB)), null);
});

test("from a block device, and through a FIFO", async (t) => {
  const dir = folder(t);
  await qemu(dir, "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "a.qcow2");
  truncateSync(join(dir, "a.qcow2"), Math.ceil(statSync(join(dir, "a.qcow2")).size / 4096) * 4096);
  const device = attach(t, join(dir, "a.qcow2"), "--read-only");
  t.is((await ours(dir, "-r", device, "out")).code, 0);
  t.is(fileDifference(join(dir, "disk.raw"), join(dir, "out")), null);
  sh("mkfifo", join(dir, "fifo"));
  const reader = spawn("cat", [join(dir, "fifo")], { stdio: ["ignore", "pipe", "inherit"] });
  const copied = new Promise<void>((done) =>
    reader.stdout.pipe(createWriteStream(join(dir, "copy"))).on("finish", () => done()),
  );
  t.is((await ours(dir, "-r", "a.qcow2", "fifo")).code, 0);
  await copied;
  t.is(fileDifference(join(dir, "disk.raw"), join(dir, "copy")), null);
});

test("a reader that goes away ends the job", async (t) => {
  const dir = folder(t);
  await qemu(dir, "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "a.qcow2");
  const r = await must(
    "bash",
    ["-c", `node ${cli} e2image -r a.qcow2 - | head -c 1000 | wc -c; echo \${PIPESTATUS[0]}`],
    {
      cwd: dir,
    },
  );
  t.regex(r.stdout.toString(), /^1000\n[1-9]/);
});

test("-a and -p are taken; options that have no meaning for a conversion are refused", async (t) => {
  const dir = folder(t);
  await qemu(dir, "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "a.qcow2");
  for (const flags of ["-ra", "-rap", "-rf"]) {
    t.is((await ours(dir, flags, "a.qcow2", "out")).code, 0);
    t.is(fileDifference(join(dir, "disk.raw"), join(dir, "out")), null);
  }
  for (const flags of [
    ["-rc"],
    ["-rn"],
    ["-r", "-O", "512"],
    ["-r", "-o", "512"],
    ["-r", "-b", "1", "-B", "1024"],
  ]) {
    const r = await ours(dir, ...flags, "a.qcow2", "other");
    t.is(r.code, 1);
    t.regex(r.stderr, /turns into a raw one as a whole/);
    t.false(existsSync(join(dir, "other")));
  }
});
