// Images broken by hand, one structure each, through the commands that read: a clear error or qemu-img's own result;
// never a crash, a hang, or memory without bounds.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { must, residentPeak } from "../support/native.ts";
import { squeezable } from "../support/qcow2.ts";
import { Patch } from "../support/qcow2-corpus.ts";
import { nativeSaid, ourSaid } from "../support/qemu-differential.ts";
import { Random } from "../support/random.ts";

const LONGEST_MS = 10_000;
const MOST_MEMORY = 300 * 1024 * 1024;

/** Changes the bytes in place, or answers with others. */
type Change = (p: Patch) => unknown;
interface Case {
  readonly name: string;
  readonly base: string;
  readonly change: Change;
}

// In memory where the host has that: each image is flushed many times.
const dir = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "imprint-hostile-qemu-"));
process.on("exit", () => rmSync(dir, { recursive: true, force: true }));

const bases = new Map<string, Buffer>();

test.before(async () => {
  const img = (...args: string[]) => must("qemu-img", args, { cwd: dir });
  const io = (file: string, ...commands: string[]) =>
    must("qemu-io", ["-t", "unsafe", ...commands.flatMap((c) => ["-c", c]), file], { cwd: dir });
  writeFileSync(join(dir, "src.raw"), squeezable(new Random(5), 200 * 1024));
  await img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "plain", "1M");
  await io("plain", "write -P 1 0 50k", "write -P 2 300k 9k", "write -z 400k 8k");
  await img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "snap", "1M");
  await io("snap", "write -P 1 0 20k");
  await img("snapshot", "-c", "first", "snap");
  await img("snapshot", "-c", "second", "snap");
  await io("snap", "write -P 3 4k 8k");
  for (const [name, type] of [
    ["zlib", "zlib"],
    ["zstd", "zstd"],
  ])
    await img(
      "convert",
      "-c",
      "-O",
      "qcow2",
      "-o",
      `cluster_size=16k,compression_type=${type}`,
      "src.raw",
      name,
    );
  await img("create", "-q", "-f", "qcow2", "-o", "cluster_size=16k,extended_l2=on", "extl2", "1M");
  await io("extl2", "write -P 1 0 3k", "write -P 2 40k 1k", "write -z 48k 2k");
  await img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "bitmap", "1M");
  await img("bitmap", "--add", "-g", "4k", "bitmap", "b0");
  await io("bitmap", "write -P 1 0 20k");
  await img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k,compat=0.10", "v2", "1M");
  await io("v2", "write -P 1 0 20k");
  await img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512,refcount_bits=1", "tiny", "300k");
  await io("tiny", "write -P 1 0 20k");
  for (const name of ["plain", "snap", "zlib", "zstd", "extl2", "bitmap", "v2", "tiny"])
    bases.set(name, readFileSync(join(dir, name)));
});

const TOP = (1n << 64n) - 1n;

/** Values that break a 32-bit or 64-bit field. */
const WORDS = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff];
const LONGS = [0n, 1n, 512n, 4096n, 1n << 31n, 1n << 40n, 1n << 53n, 1n << 62n, 1n << 63n, TOP];

function cases(): Case[] {
  const list: Case[] = [];
  const add = (name: string, base: string, change: Change): void => {
    list.push({ name, base, change });
  };
  // Every field of the header.
  for (const [field, at] of [
    ["version", 4],
    ["backing length", 16],
    ["cluster bits", 20],
    ["encryption", 32],
    ["L1 entries", 36],
    ["refcount table clusters", 56],
    ["snapshots", 60],
    ["refcount order", 96],
    ["header length", 100],
  ] as const)
    for (const value of WORDS) add(`${field} ${value}`, "snap", (p) => p.setU32(at, value));
  for (const [field, at] of [
    ["backing offset", 8],
    ["disk size", 24],
    ["L1 offset", 40],
    ["refcount table offset", 48],
    ["snapshot table offset", 64],
    ["incompatible features", 72],
    ["compatible features", 80],
    ["autoclear features", 88],
  ] as const)
    for (const value of LONGS) add(`${field} 0x${value.toString(16)}`, "snap", (p) => p.setU64(at, value));
  for (let bits = 8; bits <= 23; bits++) add(`cluster bits ${bits}`, "plain", (p) => p.setU32(20, bits));
  for (let order = 0; order <= 7; order++)
    add(`refcount order ${order}`, "plain", (p) => p.setU32(96, order));
  for (const type of [1, 2, 255]) add(`compression type ${type}`, "zlib", (p) => void (p.bytes[104] = type));
  add("zlib image called zstd", "zlib", (p) => {
    p.bytes[104] = 1;
    p.setU32(76, p.u32(76) | 8);
  });
  add("zstd image called zlib", "zstd", (p) => {
    p.bytes[104] = 0;
    p.setU32(76, p.u32(76) & ~8);
  });
  // Header extensions.
  for (const [name, type] of [
    ["backing format", 0xe2792aca],
    ["data file", 0x44415441],
    ["encryption", 0x0537be77],
    ["bitmaps", 0x23852875],
    ["unknown", 0x1badf00d],
  ] as const)
    for (const length of [0, 8, 16, 24, 4000, 0x7fffffff, 0xffffffff])
      add(`extension ${name} of ${length}`, "bitmap", (p) => {
        p.setU32(112, type);
        p.setU32(116, length);
      });
  // Tables.
  const entries: [string, bigint][] = [
    ["unaligned", 0x1200n],
    ["beyond the end", 0x40000000n],
    ["far beyond the end", 0x00fffffffffff000n],
    ["reserved bits", 0x3f00000000001000n],
    ["all ones", TOP],
    ["the header", 0n],
    ["itself", -1n],
  ];
  for (const [name, value] of entries) {
    add(`L1 entry: ${name}`, "plain", (p) => p.setU64(p.l1(0), value < 0 ? BigInt(p.u64(40)) : value));
    add(`L2 entry: ${name}`, "plain", (p) =>
      p.setU64(p.l2(1), value < 0 ? BigInt(Math.floor(p.l2(0) / 4096) * 4096) : value),
    );
    add(`refcount table entry: ${name}`, "plain", (p) =>
      p.setU64(p.u64(48), value < 0 ? BigInt(p.u64(48)) : value),
    );
    add(`version 2, L2 entry: ${name}`, "v2", (p) => p.setU64(p.l2(1), value < 0 ? 0x8000n : value));
    add(`extended L2 entry: ${name}`, "extl2", (p) => p.setU64(p.l2(0), value < 0 ? 0x10000n : value));
  }
  add("all L1 entries one table", "tiny", (p) => {
    for (let i = 1; i < p.u32(36); i++) p.bytes.copy(p.bytes, p.l1(i), p.l1(0), p.l1(0) + 8);
  });
  add("all L2 entries one cluster", "plain", (p) => {
    for (let i = 1; i < 200; i++) p.bytes.copy(p.bytes, p.l2(i), p.l2(0), p.l2(0) + 8);
  });
  add("L1 table is the header", "plain", (p) => p.setU64(40, 0));
  add("L1 table is the refcount table", "plain", (p) => p.setU64(40, p.u64(48)));
  add("refcounts all ones", "plain", (p) => void p.bytes.fill(0xff, p.refcounts(), p.refcounts() + 4096));
  add("refcounts all zero", "plain", (p) => void p.bytes.fill(0, p.refcounts(), p.refcounts() + 4096));
  for (const [name, bitmap] of [
    ["stored and zero", TOP],
    ["stored without a place", 1n],
    ["zero only", 0xffffffffn << 32n],
  ] as const)
    add(`subclusters ${name}`, "extl2", (p) => {
      if (name === "stored without a place") p.setU64(p.l2(0), 0);
      p.setU64(p.l2(0) + 8, bitmap);
    });
  // Compressed streams.
  for (const base of ["zlib", "zstd"]) {
    const stream = (p: Patch): number => Number(BigInt(p.u64(p.l2(0))) & ((1n << 54n) - 1n));
    add(`${base}: stream of zeros`, base, (p) => void p.bytes.fill(0, stream(p), stream(p) + 400));
    add(`${base}: stream of ones`, base, (p) => void p.bytes.fill(0xff, stream(p), stream(p) + 400));
    add(`${base}: a bit of the stream flipped`, base, (p) => void (p.bytes[stream(p) + 20] ^= 4));
    add(`${base}: stream at the end of the file`, base, (p) =>
      p.setU64(p.l2(0), (1n << 62n) | BigInt(p.bytes.length - 3)),
    );
    add(`${base}: stream beyond the end`, base, (p) => p.setU64(p.l2(0), (1n << 62n) | (1n << 40n)));
    add(`${base}: the longest stream`, base, (p) =>
      p.setU64(p.l2(0), (0xffn << 54n) | (1n << 62n) | BigInt(stream(p))),
    );
    // A stream that grows to far more than a cluster.
    add(`${base}: bomb`, base, (p) => {
      const at = stream(p);
      const bomb =
        base === "zlib"
          ? // Deflate: one literal, then copies of 258 bytes, for ever.
            Buffer.from([0x63, ...new Array<number>(380).fill(0x18)])
          : // Zstandard: a frame that promises 2 GiB, in one block of one repeated byte.
            Buffer.from("28b52ffda000000080020010" + "00", "hex");
      bomb.copy(p.bytes, at);
    });
  }
  // Snapshots and bitmaps.
  const snapshot = (p: Patch): number => p.u64(64);
  for (const [name, at, values] of [
    ["L1 offset", 0, LONGS],
    ["extra size", 36, WORDS],
    ["L1 entries", 8, WORDS],
    ["id and name lengths", 12, [0xffffffff, 0x0000ffff, 0xffff0000]],
    ["VM state", 32, WORDS],
  ] as const)
    for (const value of values)
      add(`snapshot ${name} ${value}`, "snap", (p) =>
        typeof value === "bigint" ? p.setU64(snapshot(p) + at, value) : p.setU32(snapshot(p) + at, value),
      );
  for (const count of [3, 1000, 65536, 65537]) add(`${count} snapshots`, "snap", (p) => p.setU32(60, count));
  const directory = (p: Patch): number => p.bytes.lastIndexOf("b0") - 24;
  for (const [name, at, values] of [
    ["table offset", 0, LONGS],
    ["table entries", 8, WORDS],
    ["flags", 12, WORDS],
    ["type, granularity and name length", 16, [0, 0x01ff0002, 0x0108ffff, 0x010c0000]],
    ["extra size", 20, WORDS],
  ] as const)
    for (const value of values)
      add(`bitmap ${name} ${value}`, "bitmap", (p) =>
        typeof value === "bigint" ? p.setU64(directory(p) + at, value) : p.setU32(directory(p) + at, value),
      );
  // Cut at every structure, and a little after it.
  for (const base of ["plain", "snap", "zlib", "extl2", "bitmap", "v2", "tiny"])
    for (const at of [0, 3, 4, 20, 71, 72, 103, 104, 112, 200])
      add(`${base} cut at ${at}`, base, (p) => p.bytes.subarray(0, at));
  for (const base of ["plain", "snap", "zlib", "extl2", "bitmap"])
    for (let cluster = 1; cluster < 12; cluster++)
      for (const more of [0, 100])
        add(`${base} cut in cluster ${cluster} + ${more}`, base, (p) => {
          const at = cluster * p.clusterSize + more;
          return at < p.bytes.length ? p.bytes.subarray(0, at) : undefined;
        });
  return list;
}

interface Command {
  readonly args: (file: string) => string[];
  /** Native's output is looked at too. */
  readonly equal: boolean;
}

/** Commands for every image. */
const COMMANDS: readonly Command[] = [
  { args: (f) => ["info", f], equal: true },
  { args: (f) => ["map", "--output=json", f], equal: true },
  { args: (f) => ["check", f], equal: false },
  { args: (f) => ["compare", f, f], equal: false },
];

/** Commands that images take turns with. */
const TURNS: readonly (readonly Command[])[] = [
  [
    { args: (f) => ["convert", "-O", "raw", f, "out.raw"], equal: false },
    { args: (f) => ["snapshot", "-l", f], equal: false },
  ],
  [
    { args: (f) => ["convert", "-c", "-O", "qcow2", f, "out.qcow2"], equal: false },
    { args: (f) => ["measure", "-O", "qcow2", f], equal: false },
    { args: (f) => ["map", f], equal: false },
  ],
];

const all = cases();
/** Parts, so that a part's failure says which images it was about. */
const PARTS = 6;

for (let part = 0; part < PARTS; part++)
  test.serial(`broken images, part ${part + 1} of ${PARTS}`, async (t) => {
    t.true(all.length >= 300);
    const wrong: string[] = [];
    for (const [n, c] of all.entries()) {
      if (n % PARTS !== part) continue;
      const p = new Patch(Buffer.from(bases.get(c.base)!));
      let bytes: Buffer;
      try {
        const other = c.change(p);
        bytes = other instanceof Buffer ? other : p.bytes;
      } catch (error) {
        throw new Error(`${c.name}: cannot be made`, { cause: error });
      }
      const file = "broken.qcow2";
      writeFileSync(join(dir, file), bytes);
      for (const command of [...COMMANDS, ...TURNS[Math.floor(n / PARTS) % TURNS.length]]) {
        const args = command.args(file);
        const start = performance.now();
        const ours = await ourSaid(args, dir);
        const took = performance.now() - start;
        const say = (what: string): void => {
          wrong.push(
            `${c.base}, ${c.name}: ${args.join(" ")}: ${what}: exit ${ours.code} ${ours.stderr.slice(0, 300)}`,
          );
        };
        if (took > LONGEST_MS) say(`took ${Math.round(took)} ms`);
        if (ours.stderr.includes("a bug in Imprint") || /^ +at .*\.[jt]s:/m.test(ours.stderr)) say("crashed");
        const codes = args[0] === "check" ? [0, 1, 2, 3, 63] : args[0] === "compare" ? [0, 2, 3, 4] : [0, 1];
        if (!codes.includes(ours.code)) say("odd exit code");
        // Compare of an image with itself that cannot be read says so.
        if (
          ours.code === 1 &&
          !ours.stderr.startsWith("qemu-img: ") &&
          !ours.stderr.includes("\nqemu-img: ")
        ) {
          if (args[0] !== "check") say("no message");
        }
        if (command.equal && ours.code === 0) {
          const theirs = await nativeSaid(args, dir);
          // Ours may know of what is missing, and reads where native does not; never something else.
          if (theirs.code === 0 && theirs.stdout !== ours.stdout)
            say(`native prints\n${theirs.stdout.slice(0, 500)}\nours\n${ours.stdout.slice(0, 500)}`);
        }
      }
    }
    t.deepEqual(wrong, []);
    const peak = residentPeak(process.pid);
    t.true(peak < MOST_MEMORY, `${peak} bytes`);
  });

test.serial("loops of backing files are found by every command, also under other names", async (t) => {
  const make = (name: string, backing: string, format: string | null) =>
    must(
      "qemu-img",
      [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-u",
        "-b",
        backing,
        ...(format === null ? [] : ["-F", format]),
        name,
        "1M",
      ],
      { cwd: dir },
    );
  await make("self", "./self", "qcow2");
  await make("ring-a", "ring-b", "qcow2");
  await make("ring-b", "ring-c", "qcow2");
  await make("ring-c", "./././ring-a", "qcow2");
  for (const file of ["self", "ring-a"])
    for (const args of [
      ["info", "--backing-chain", file],
      ["map", file],
      ["check", file],
      ["compare", file, file],
      ["convert", "-O", "raw", file, "out.raw"],
      ["measure", "-O", "qcow2", file],
      ["snapshot", "-l", file],
    ]) {
      const r = await ourSaid(args, dir);
      t.true(r.code === 1 || r.code === 2, args.join(" "));
      t.regex(r.stderr, /creates an infinite loop\./, args.join(" "));
    }
  t.is((await ourSaid(["info", "self"], dir)).code, 0);
});

test.serial("--untrusted opens nothing that an image names, and probes nothing", async (t) => {
  writeFileSync(join(dir, "secret"), "the host's own\n".repeat(100));
  const make = (name: string, ...args: string[]) =>
    must("qemu-img", ["create", "-q", "-f", "qcow2", "-u", ...args, name, "1M"], { cwd: dir });
  await make("overlay", "-b", "secret", "-F", "raw");
  const said = (...args: string[]) => ourSaid(args, dir);
  // Without it the host's file is read.
  t.is((await said("convert", "-f", "qcow2", "-O", "raw", "overlay", "out.raw")).code, 0);
  t.true(readFileSync(join(dir, "out.raw")).includes("the host's own"));
  for (const where of [
    ["--untrusted", "convert", "-f", "qcow2"],
    ["convert", "--untrusted", "-f", "qcow2"],
  ]) {
    const r = await said(...where, "-O", "raw", "overlay", "none.raw");
    t.is(r.code, 1);
    t.regex(r.stderr, /the backing file "secret" is not opened \(--untrusted\)/);
  }
  const probe = await said("info", "--untrusted", "overlay");
  t.is(probe.code, 1);
  t.regex(probe.stderr, /--untrusted probes no format: say which it is with -f/);
  const info = await said("info", "--untrusted", "-f", "qcow2", "--backing-chain", "overlay");
  t.is(info.code, 0);
  t.regex(info.stderr, /backing file 'secret' is not looked at/);
  const map = await said("map", "--untrusted", "-f", "qcow2", "--output=json", "overlay");
  t.deepEqual(JSON.parse(map.stdout), [
    { start: 0, length: 1048576, depth: 0, present: false, zero: false, data: false },
  ]);
  await make("external", "-o", `data_file=${join(dir, "secret")}`);
  writeFileSync(join(dir, "secret"), "the host's own\n".repeat(100));
  const external = await said("convert", "--untrusted", "-f", "qcow2", "-O", "raw", "external", "none.raw");
  t.is(external.code, 1);
  t.regex(external.stderr, /the data file ".*secret" is not opened \(--untrusted\)/);
  // The switch is not remembered.
  t.is((await said("info", "overlay")).code, 0);
});

test.serial("images that are cut short: a warning, and no conversion without --salvage", async (t) => {
  const whole = bases.get("plain")!;
  writeFileSync(join(dir, "cut"), whole.subarray(0, whole.length - 8192));
  for (const args of [
    ["info", "cut"],
    ["map", "cut"],
    ["measure", "-O", "qcow2", "cut"],
    ["snapshot", "-l", "cut"],
  ]) {
    const r = await ourSaid(args, dir);
    t.is(r.code, 0, args.join(" "));
    t.regex(
      r.stderr,
      /^qemu-img: warning: 'cut' is cut short: it ends at byte \d+, and the cluster at byte \d+ is missing/,
    );
  }
  const refused = await ourSaid(["convert", "-O", "raw", "cut", "cut.raw"], dir);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /but the file ends at/);
  const salvaged = await ourSaid(["convert", "--salvage", "-O", "raw", "cut", "cut.raw"], dir);
  t.is(salvaged.code, 0);
  t.regex(salvaged.stderr, /is cut short/);
});
