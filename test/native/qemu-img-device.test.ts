// qemu-img on block devices: every command that writes, on loop devices full of old bytes, against
// the installed qemu-img.
import { randomFillSync } from "node:crypto";
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { attach, mount, scratch, sh } from "../support/host.ts";
import { runHere } from "../support/in-process.ts";
import { must, run } from "../support/native.ts";

interface Case {
  readonly what: string;
  /** Bytes of the device. Default 8 MiB. */
  readonly size?: number;
  /** Native commands that go before; DEV is the device. */
  readonly before?: readonly string[];
  /** Commands of both. */
  readonly lines: readonly string[];
  /** "same" (default): equal disks, clean images; "clean": only that; "none": no image. */
  readonly left?: "same" | "clean" | "none";
}

const MIB = 1024 * 1024;

/** Commands for images of one cluster size. */
function cases(clusters: string): Case[] {
  const made = [`qemu-img create -q -f qcow2 -o cluster_size=${clusters} DEV 3M`];
  const full = [...made, "qemu-img convert -n -f raw -O qcow2 src DEV"];
  const over = [
    `qemu-img create -q -f qcow2 -b DIR/src -F raw -o cluster_size=${clusters} DEV`,
    "qemu-io -f qcow2 -c DATA DEV",
  ];
  const lines: Record<string, readonly [readonly string[], ...string[]]> = {
    create: [[], `create -f qcow2 -o cluster_size=${clusters} DEV 3M`],
    "create, allocated": [[], `create -f qcow2 -o cluster_size=${clusters},preallocation=metadata DEV 3M`],
    resize: [full, "resize DEV 5M", "resize --shrink DEV 1M", "resize DEV 1100k", "resize DEV 2M"],
    "resize, reserved": [full, "resize --preallocation=falloc DEV 4M", "resize --preallocation=full DEV 4M"],
    snapshots: [
      full,
      "snapshot -c a DEV",
      "snapshot -c b DEV",
      "snapshot -a a DEV",
      "snapshot -d b DEV",
      "snapshot -d a DEV",
    ],
    amend: [
      full,
      "amend -o compat=0.10 DEV",
      "amend -o compat=1.1,refcount_bits=64 DEV",
      "amend -o size=6M DEV",
    ],
    check: [full, "check DEV", "check --output=json DEV", "check -r all DEV"],
    bitmap: [full, "bitmap --add DEV x", "bitmap --disable DEV x", "bitmap --remove DEV x"],
    "convert -n": [made, "convert -n -f raw -O qcow2 src DEV"],
    convert: [[], `convert -f raw -O qcow2 -o cluster_size=${clusters} src DEV`],
    "convert -c": [[], `convert -c -f raw -O qcow2 -o cluster_size=${clusters} src DEV`],
    "convert -S 0": [[], `convert -S 0 -f raw -O qcow2 -o cluster_size=${clusters} src DEV`],
    "convert -B": [[], `convert -f raw -O qcow2 -B DIR/base -F raw -o cluster_size=${clusters} src DEV`],
    rebase: [over, "rebase -b DIR/base -F raw DEV", "rebase -u -b DIR/src -F raw DEV", "rebase -b  DEV"],
    "commit from": [over, "commit DEV"],
    "commit into": [
      [...full, "qemu-img create -q -f qcow2 -b DEV -F qcow2 top 4M", "qemu-io -f qcow2 -c DATA top"],
      "commit top",
    ],
  };
  return Object.entries(lines).map(([what, [before, ...rest]]) => ({
    what: `${what}, clusters of ${clusters}`,
    before,
    lines: rest,
  }));
}

const OTHERS: readonly Case[] = [
  { what: "dd", lines: ["dd -O qcow2 if=src of=DEV bs=64k"] },
  { what: "dd of a raw disk", left: "none", lines: ["dd -f raw -O raw if=src of=DEV bs=64k"] },
  {
    what: "resize, allocated",
    left: "clean",
    before: ["qemu-img create -q -f qcow2 DEV 3M"],
    lines: ["resize --preallocation=metadata DEV 4M"],
  },
  {
    what: "a raw device",
    left: "none",
    lines: [
      "create -f raw DEV 3M",
      "create -f raw DEV 9M",
      "create -f raw -o preallocation=full DEV 3M",
      "convert -f raw -O raw src DEV",
      "convert -f raw -O raw -o preallocation=falloc src DEV",
      "resize -f raw DEV 9M",
      "resize -f raw DEV 8M",
    ],
  },
  {
    what: "no room for the image",
    left: "none",
    size: 160 * 1024,
    lines: ["create -f qcow2 DEV 3M", "convert -f raw -O raw src DEV", "convert -f raw -O qcow2 src DEV"],
  },
  {
    what: "no room for its data",
    left: "none",
    lines: [
      "create -f qcow2 -o preallocation=falloc DEV 3M",
      "create -f qcow2 -o preallocation=full DEV 9M",
      "create -f qcow2 -o preallocation=metadata DEV 9M",
      "create -f qcow2 -o data_file=DEV image 9M",
    ],
  },
  {
    what: "no room for a change",
    size: MIB,
    before: ["qemu-img create -q -f qcow2 DEV 3M", "qemu-io -f qcow2 -c FULL DEV"],
    lines: ["snapshot -c a DEV"],
  },
  {
    what: "no room for what a rebase copies",
    size: MIB,
    before: ["qemu-img create -q -f qcow2 -b DIR/src -F raw DEV"],
    lines: ["rebase -b  DEV"],
    left: "clean",
  },
];

const DATA = "write -P 9 200k 300k";

/** Words of a line; two blanks hold an empty one. DATA and FULL stand for commands of qemu-io. */
const words = (line: string, device: string, dir: string): string[] =>
  line
    .split(" ")
    .map((w) =>
      w === "DATA" ? DATA : w === "FULL" ? "write -P 3 0 700k" : w.replace("DEV", device).replace("DIR", dir),
    );

async function differential(t: ExecutionContext, list: readonly Case[]): Promise<void> {
  const dir = scratch(t, "device");
  const noise = join(dir, "noise");
  writeFileSync(noise, randomFillSync(new Uint8Array(8 * MIB)));
  const source = new Uint8Array(2 * MIB + 300 * 512);
  randomFillSync(source.subarray(0, MIB));
  randomFillSync(source.subarray(2 * MIB));
  const sides = (["native", "ours"] as const).map((name) => {
    sh("mkdir", join(dir, name));
    const disk = join(dir, name, "disk");
    copyFileSync(noise, disk);
    return { name, dir: join(dir, name), disk, device: attach(t, disk) };
  });
  for (const c of list) {
    const said: unknown[][] = [];
    for (const side of sides) {
      copyFileSync(noise, side.disk);
      truncateSync(side.disk, c.size ?? 8 * MIB);
      sh("losetup", "--set-capacity", side.device);
      writeFileSync(join(side.dir, "src"), source);
      writeFileSync(join(side.dir, "base"), source.subarray(0, 5 * 65536 + 1024));
      for (const line of c.before ?? []) {
        const [program, ...args] = words(line, side.device, side.dir);
        await must(program, args, { cwd: side.dir });
      }
      const lines: unknown[] = [];
      for (const line of c.lines) {
        const args = words(line, side.device, side.dir);
        const native = side.name === "native";
        const r = native
          ? await run("qemu-img", args, { cwd: side.dir })
          : await runHere(["qemu-img", ...args], side.dir);
        const text = (s: string) =>
          s
            .replaceAll(side.device, "DEV")
            .replaceAll(side.dir, "DIR")
            .replace(/"?image-end-offset.*|Image end.*/i, "");
        lines.push([line, r.code, text(r.stdout.toString()), text(r.stderr)]);
      }
      sh("sync", side.device);
      said.push(lines);
      if (c.left === "none") continue;
      const check = await run("qemu-img", ["check", "-q", "-f", "qcow2", side.device], { cwd: side.dir });
      t.is(check.code, 0, `${c.what}, ${side.name}: ${check.stderr.slice(0, 300)}`);
    }
    t.deepEqual(said[1], said[0], c.what);
    if (c.left !== undefined) continue;
    const disks = await Promise.all(
      sides.map(async (s) => {
        await must("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", s.device, "out"], { cwd: s.dir });
        return readFileSync(join(s.dir, "out"));
      }),
    );
    t.true(disks[0].equals(disks[1]), `${c.what}: the disks differ`);
  }
}

test.serial("as qemu-img: clusters of 512 bytes", (t) => differential(t, cases("512")));
test.serial("as qemu-img: clusters of 64 KiB", (t) => differential(t, cases("64k")));
test.serial("as qemu-img: raw devices, devices that are too small", (t) => differential(t, OTHERS));

test.serial("what a device held does not show through", async (t) => {
  const dir = scratch(t, "device");
  const disk = join(dir, "disk");
  writeFileSync(disk, randomFillSync(new Uint8Array(8 * MIB)));
  const device = attach(t, disk);
  const out = join(dir, "out");
  const zeros = async (from: number): Promise<boolean> => {
    await must("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", device, out]);
    return readFileSync(out)
      .subarray(from)
      .every((b) => b === 0);
  };
  await must("qemu-img", ["create", "-q", "-f", "qcow2", device, "1M"]);
  t.is((await runHere(["qemu-img", "resize", "--preallocation=metadata", device, "4M"], dir)).code, 0);
  t.true(await zeros(0), "allocated by a resize");
  writeFileSync(join(dir, "src"), randomFillSync(new Uint8Array(1000)));
  for (const options of ["preallocation=metadata", "extended_l2=on", "cluster_size=512k"]) {
    randomFillSync(source);
    writeFileSync(disk, source, { flag: "r+" });
    sh("blockdev", "--flushbufs", device);
    const args = ["convert", "-S", "0", "-f", "raw", "-O", "qcow2", "-o", options, join(dir, "src"), device];
    const r = await runHere(["qemu-img", ...args], dir);
    t.is(r.code, 0, `${options}: ${r.stderr}`);
    t.true(await zeros(1000), options);
  }
});

const source = new Uint8Array(8 * MIB);

test.serial("devices in use are left alone", async (t) => {
  const dir = scratch(t, "device");
  const disk = join(dir, "disk");
  writeFileSync(disk, "");
  truncateSync(disk, 8 * MIB);
  sh("mkfs.ext2", "-q", disk);
  const before = readFileSync(disk);
  const device = attach(t, disk);
  const top = join(dir, "top");
  const src = join(dir, "src");
  writeFileSync(src, new Uint8Array(MIB).fill(7));
  await must("qemu-img", ["create", "-q", "-f", "qcow2", "-b", device, "-F", "raw", top]);
  await must("qemu-io", ["-f", "qcow2", "-c", DATA, top]);
  mount(t, join(dir, "mnt"), "-o", "ro", device);
  const lines = [
    ["create", "-f", "qcow2", device, "1M"],
    ["create", "-f", "raw", device, "1M"],
    ["create", "-f", "qcow2", "-o", `data_file=${device}`, join(dir, "image"), "1M"],
    ["convert", "-f", "raw", "-O", "qcow2", src, device],
    ["convert", "-f", "raw", "-O", "raw", src, device],
    ["convert", "-n", "-f", "raw", "-O", "raw", src, device],
    ["dd", "-O", "qcow2", `if=${src}`, `of=${device}`],
    ["dd", "-f", "raw", "-O", "raw", `if=${src}`, `of=${device}`],
    ["commit", top],
  ];
  for (const args of lines) {
    const r = await runHere(["qemu-img", ...args], dir);
    t.is(r.code, 1, args.join(" "));
    t.regex(r.stderr, /is mounted on/, args.join(" "));
  }
  sh("sync", device);
  t.true(readFileSync(disk).equals(before));
});
