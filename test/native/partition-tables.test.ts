// Partition tables as sfdisk writes them, with ext4 and NTFS in the partitions: what ours finds, takes out and puts
// back, against sfdisk's own list, dd, and qemu-img on the same bytes.
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { noise } from "../support/ext-tree.ts";
import { attach, scratch, sh, sparse } from "../support/host.ts";
import { fileDifference, fsck, imprint, must, run } from "../support/native.ts";

const MIB = 1 << 20;

interface Layout {
  readonly name: string;
  readonly kind: "mbr" | "gpt";
  /** Bytes of a sector; other than 512 only a device has them. */
  readonly sector?: number;
  readonly script: string;
  /** Commands of sfdisk that follow, and scripts for them; "disk" stands for the disk. */
  readonly changes?: readonly (readonly [args: readonly string[], script: string])[];
  /** Where to put an ext4 and an NTFS volume. */
  readonly ext: number;
  readonly ntfs: number;
}

const LAYOUTS: readonly Layout[] = [
  {
    name: "MBR with primary partitions, out of order, a slot unused",
    kind: "mbr",
    script:
      "label: dos\n\n4: start=2048, size=10240, type=83, bootable\n1: start=30001, size=12345, type=7\n2: start=60000, size=100, type=82\n",
    ext: 4,
    ntfs: 1,
  },
  {
    name: "MBR with logical partitions, neither aligned nor in order",
    kind: "mbr",
    script:
      "label: dos\n\n1: start=63, size=2001, type=ef\n3: start=9000, size=701, type=c\n4: start=20000, size=100000, type=5\n" +
      "5: start=20063, size=9000, type=83\n6: start=50000, size=10001, type=7\n7: start=31000, size=9000, type=8e\n",
    ext: 5,
    ntfs: 6,
  },
  {
    name: "MBR with an extended partition (LBA) of many, some deleted and one added",
    kind: "mbr",
    script: `label: dos\n\n2: start=2048, size=120000, type=f\n${Array.from({ length: 9 }, (_, i) => `${5 + i}: start=${4096 + 12288 * i}, size=10240, type=83\n`).join("")}`,
    changes: [
      [["--delete", "disk", "6"], ""],
      [["--delete", "disk", "9"], ""],
      [["--append", "disk"], "start=20480, size=2048, type=fd\n"],
      [["--part-type", "disk", "8", "7"], ""],
    ],
    ext: 7,
    ntfs: 8,
  },
  {
    name: "MBR with Linux's extended partition first",
    kind: "mbr",
    script:
      "label: dos\n\n1: start=2048, size=60000, type=85\n5: start=4096, size=10240, type=83\n6: start=20480, size=10240, type=7\n2: start=80000, size=4000, type=a5\n",
    ext: 5,
    ntfs: 6,
  },
  {
    name: "GPT",
    kind: "gpt",
    script:
      'label: gpt\n\n1: start=2048, size=2048, type=U\n2: start=10240, size=10240, type=L, name="root"\n' +
      "3: start=30720, size=10240, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n4: start=60000, size=77, type=S\n",
    ext: 2,
    ntfs: 3,
  },
  {
    name: "GPT of few entries, with gaps, odd places and names",
    kind: "gpt",
    script:
      'label: gpt\ntable-length: 12\nfirst-lba: 34\n\n12: start=34, size=10001, type=L, name="a naïve näme, 名前"\n' +
      '5: start=10035, size=10003, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, name="thirty-six characters, not one more."\n' +
      "7: start=100000, size=1, type=12345678-9ABC-DEF0-1234-56789ABCDEF0\n",
    ext: 12,
    ntfs: 5,
  },
  {
    name: "GPT with a hybrid MBR",
    kind: "gpt",
    script:
      "label: gpt\n\n1: start=2048, size=10240, type=L\n2: start=20480, size=10240, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n",
    changes: [
      [
        ["--label-nested", "dos", "disk"],
        "label: dos\n\n1: start=1, size=2047, type=ee\n2: start=2048, size=10240, type=83, bootable\n3: start=20480, size=10240, type=7\n",
      ],
    ],
    ext: 1,
    ntfs: 2,
  },
  {
    name: "GPT with sectors of 4096 bytes",
    kind: "gpt",
    sector: 4096,
    script:
      'label: gpt\n\n1: start=256, size=1280, type=L, name="four"\n3: start=4001, size=1281, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n',
    ext: 1,
    ntfs: 3,
  },
];

interface Part {
  readonly number: number;
  readonly start: number;
  readonly size: number;
  readonly name: string;
}

/** What sfdisk lists, in bytes. */
function listed(device: string): Part[] {
  const { partitiontable: table } = JSON.parse(sh("sfdisk", "--json", device)) as {
    partitiontable: {
      sectorsize: number;
      partitions: { node: string; start: number; size: number; name?: string }[];
    };
  };
  return table.partitions.map((p) => ({
    number: Number(/(\d+)$/.exec(p.node.slice(device.length))![1]),
    start: p.start * table.sectorsize,
    size: p.size * table.sectorsize,
    name: p.name ?? "",
  }));
}

interface Info {
  readonly partitionTable: string;
  readonly partitions: readonly (Part & {
    readonly type: string;
    readonly filesystem: { kind: string } | null;
  })[];
}

async function info(t: ExecutionContext, file: string): Promise<Info> {
  const r = await imprint(["info", "--json", file]);
  t.is(r.code, 0, r.stderr);
  return JSON.parse(r.stdout.toString()) as Info;
}

/** Makes the disk and its partitions; answers with sfdisk's list. */
async function partition(t: ExecutionContext, dir: string, layout: Layout): Promise<Part[]> {
  const disk = sparse(join(dir, "disk"), 64 * MIB);
  const sector = layout.sector ?? 512;
  const device = sector === 512 ? disk : attach(t, disk, "--sector-size", `${sector}`);
  await must("sfdisk", ["--quiet", device], { input: layout.script });
  for (const [args, script] of layout.changes ?? [])
    await must("sfdisk", ["--quiet", ...args.map((a) => (a === "disk" ? device : a))], { input: script });
  if (device !== disk) sh("blockdev", "--flushbufs", device);
  return listed(device).sort((a, b) => a.number - b.number);
}

/** Formats a partition, with some files where that is simple. */
async function format(dir: string, part: Part, kind: "ext4" | "ntfs"): Promise<void> {
  const volume = sparse(join(dir, kind), part.size);
  if (kind === "ntfs")
    await must("mkntfs", ["-F", "-q", "-s", "512", "-p", "0", "-H", "0", "-S", "0", volume]);
  else {
    mkdirSync(join(dir, "tree"), { recursive: true });
    for (const n of [1, 2, 3]) writeFileSync(join(dir, "tree", `file-${n}`), noise(n, n * 77_777));
    await must("mke2fs", [
      "-q",
      "-F",
      "-t",
      "ext4",
      "-b",
      "1024",
      "-d",
      join(dir, "tree"),
      volume,
      `${Math.floor(part.size / 1024)}k`,
    ]);
  }
  const to = [
    `of=${join(dir, "disk")}`,
    `seek=${part.start}`,
    "oflag=seek_bytes",
    "conv=notrunc,sparse",
    "bs=64k",
  ];
  await must("dd", [`if=${volume}`, ...to, "status=none"]);
}

/** The partition's bytes, taken with dd. */
async function cut(dir: string, part: Part, name: string): Promise<string> {
  const out = join(dir, name);
  const from = [
    `skip=${part.start}`,
    `count=${part.size}`,
    "iflag=skip_bytes,count_bytes,fullblock",
    "bs=64k",
  ];
  await must("dd", [`if=${join(dir, "disk")}`, `of=${out}`, ...from, "conv=sparse", "status=none"]);
  truncateSync(out, part.size);
  return out;
}

interface Run {
  readonly start: number;
  readonly length: number;
  readonly state?: string;
  readonly data?: boolean;
  readonly offset?: number;
}

/** Stored runs of a map, joined where they touch: start, end, offset in the file. */
function stored(list: readonly Run[]): number[][] {
  const out: number[][] = [];
  for (const r of list) {
    if (!(r.data ?? r.state === "data")) continue;
    const last = out.at(-1);
    if (last?.[1] === r.start) last[1] += r.length;
    else out.push([r.start, r.start + r.length, r.offset!]);
  }
  return out;
}

for (const layout of LAYOUTS)
  test(`${layout.name}: partitions found, taken out and put back`, async (t) => {
    const dir = scratch(t, "partitions");
    const at = (name: string) => join(dir, name);
    const disk = at("disk");
    const parts = await partition(t, dir, layout);
    const numbered = (n: number) => parts.find((p) => p.number === n)!;
    await format(dir, numbered(layout.ext), "ext4");
    await format(dir, numbered(layout.ntfs), "ntfs");

    const found = await info(t, disk);
    t.is(found.partitionTable, layout.kind);
    const plain = found.partitions.map(({ number, start, size, name }) => ({ number, start, size, name }));
    t.deepEqual(plain, parts);
    t.deepEqual(
      found.partitions.filter((p) => p.filesystem !== null).map((p) => [p.number, p.filesystem!.kind]),
      [
        [layout.ext, "ext4"],
        [layout.ntfs, "ntfs"],
      ].sort((a, b) => (a[0] as number) - (b[0] as number)),
    );

    // The same disk within an image, by the native tool and by ours.
    await must("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", disk, at("disk.qcow2")]);
    t.deepEqual((await info(t, at("disk.qcow2"))).partitions, found.partitions);
    t.is((await imprint(["convert", disk, at("ours.qcow2")])).code, 0);
    await must("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", at("ours.qcow2"), disk]);

    for (const [part, kind] of [
      [numbered(layout.ext), "ext4"],
      [numbered(layout.ntfs), "ntfs"],
    ] as const) {
      const N = ["--partition", `${part.number}`];
      const wanted = await cut(dir, part, `cut-${kind}`);
      for (const [i, args] of [
        ["capture", "--all", "--format", "raw", ...N, disk],
        ["capture", "--all", "--format", "raw", ...N, at("disk.qcow2")],
        ["restore", ...N, disk],
        ["restore", ...N, at("disk.qcow2")],
        ["convert", "--format", "raw", ...N, disk],
      ].entries()) {
        const r = await imprint([...args, at(`taken-${kind}-${i}`)]);
        t.is(r.code, 0, `${args.join(" ")}: ${r.stderr}`);
        t.is(fileDifference(wanted, at(`taken-${kind}-${i}`)), null, args.join(" "));
      }
      for (const scope of ["--used", "--metadata"]) {
        const [a, b] = [at(`${kind}${scope}-disk`), at(`${kind}${scope}-cut`)];
        for (const args of [
          ["capture", scope, "--format", "qcow2", ...N, disk, a],
          ["capture", scope, "--format", "qcow2", wanted, b],
        ]) {
          const r = await imprint(args);
          t.is(r.code, 0, `${args.join(" ")}: ${r.stderr}`);
        }
        t.is(fileDifference(a, b), null, `${kind} ${scope}`);
      }

      const map = await imprint(["map", "--json", ...N, disk]);
      t.is(map.code, 0, map.stderr);
      const runs = JSON.parse(map.stdout.toString()) as Run[];
      t.is(
        runs.reduce((end, r) => (r.start === end ? end + r.length : -1), 0),
        part.size,
      );
      if (part.start % 4096 === 0 && part.size % 4096 === 0) {
        const options = `driver=raw,offset=${part.start},size=${part.size},file.driver=file,file.filename=${disk}`;
        const native = await must("qemu-img", ["map", "--output=json", "--image-opts", options]);
        t.deepEqual(stored(runs), stored(JSON.parse(native.stdout.toString()) as Run[]));
      }

      // Back into its place on a disk where it was overwritten: nothing else changes.
      await must("cp", ["--sparse=always", disk, at("target")]);
      await must("dd", [
        "if=/dev/urandom",
        `of=${at("target")}`,
        ...[`seek=${part.start}`, `count=${part.size}`, "oflag=seek_bytes", "iflag=count_bytes"],
        "conv=notrunc",
        "status=none",
      ]);
      const where = ["--offset", `${part.start}`, "--sizelimit", `${part.size}`];
      const device = attach(t, at("target"), ...where);
      const back = await imprint(["restore", "--force", "--verify", at(`${kind}--used-disk`), device]);
      t.is(back.code, 0, back.stderr);
      sh("blockdev", "--flushbufs", device);
      if (kind === "ext4") {
        t.is(await fsck(device), await fsck(wanted));
        await must("dumpe2fs", [device]);
      } else await must("ntfsfix", ["--no-action", device]);
      const [was, is] = [readFileSync(disk), readFileSync(at("target"))];
      t.true(is.subarray(0, part.start).equals(was.subarray(0, part.start)), "before the partition");
      t.true(is.subarray(part.start + part.size).equals(was.subarray(part.start + part.size)), "behind it");
    }

    const missing = await imprint(["capture", "--partition", "99", disk, at("none")]);
    t.is(missing.code, 1);
    t.regex(missing.stderr, /has no partition 99 \(it has [\d, ]+\)/);
  });

for (const layout of [
  {
    name: "MBR",
    kind: "mbr",
    script:
      "label: dos\n\n1: start=256, size=1280, type=83\n3: start=3000, size=9000, type=5\n" +
      "5: start=3100, size=2000, type=7\n6: start=6000, size=999, type=82\n",
    ext: 1,
    ntfs: 5,
  },
  LAYOUTS.find((l) => l.sector === 4096)!,
] as const)
  test(`${layout.name} on a device with sectors of 4096 bytes, and in an image of it`, async (t) => {
    const dir = scratch(t, "partitions");
    const at = (name: string) => join(dir, name);
    const disk = sparse(at("disk"), 64 * MIB);
    const device = attach(t, disk, "--sector-size", "4096");
    await must("sfdisk", ["--quiet", device], { input: layout.script });
    const parts = listed(device).sort((a, b) => a.number - b.number);
    sh("blockdev", "--flushbufs", device);
    await format(dir, parts.find((p) => p.number === layout.ext)!, "ext4");
    await format(dir, parts.find((p) => p.number === layout.ntfs)!, "ntfs");
    sh("blockdev", "--flushbufs", device);
    await must("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", disk, at("disk.qcow2")]);
    const kinds = { [layout.ext]: "ext4", [layout.ntfs]: "ntfs" };
    const named = ["--sector-size", "4096"];
    for (const args of [[device], [...named, device], [...named, disk], [...named, at("disk.qcow2")]]) {
      const r = await imprint(["info", "--json", ...args]);
      t.is(r.code, 0, r.stderr);
      const found = JSON.parse(r.stdout.toString()) as Info;
      t.is(found.partitionTable, layout.kind);
      t.deepEqual(
        found.partitions.map(({ number, start, size, name }) => ({ number, start, size, name })),
        parts,
      );
      for (const p of found.partitions) t.is(p.filesystem?.kind, kinds[p.number], `${args} ${p.number}`);
    }
    const part = parts.find((p) => p.number === layout.ext)!;
    const N = ["--partition", `${part.number}`];
    const wanted = await cut(dir, part, "cut");
    for (const [i, args] of [
      ["capture", "--all", "--format", "raw", ...N, device],
      ["capture", "--all", "--format", "raw", ...N, ...named, disk],
      ["restore", ...N, ...named, at("disk.qcow2")],
      ["convert", "--format", "raw", ...N, ...named, disk],
    ].entries()) {
      const r = await imprint([...args, at(`taken-${i}`)]);
      t.is(r.code, 0, `${args.join(" ")}: ${r.stderr}`);
      t.is(fileDifference(wanted, at(`taken-${i}`)), null, args.join(" "));
    }
    const map = await imprint(["map", "--json", ...N, ...named, disk]);
    const runs = JSON.parse(map.stdout.toString()) as Run[];
    t.is(runs.at(-1)!.start + runs.at(-1)!.length, part.size);
    const odd = await imprint(["info", "--sector-size", "1000", disk]);
    t.is(odd.code, 2);
    t.regex(odd.stderr, /--sector-size takes a power of two from 512 to 65536, not '1000'/);
  });

test("a GPT whose primary header is gone is read from its backup, as sfdisk does", async (t) => {
  const dir = scratch(t, "partitions");
  const layout = LAYOUTS.find((l) => l.name === "GPT")!;
  const parts = await partition(t, dir, layout);
  const disk = join(dir, "disk");
  for (const [what, seek, count] of [
    ["a damaged header", 512 + 40, 8],
    ["damaged entries", 2 * 512 + 40, 8],
    ["neither", 512, 33 * 512],
  ] as const) {
    await must("dd", [
      ...[
        "if=/dev/zero",
        `of=${disk}`,
        `seek=${seek}`,
        `count=${count}`,
        "bs=1",
        "conv=notrunc",
        "status=none",
      ],
    ]);
    const found = await info(t, disk);
    t.is(found.partitionTable, "gpt", what);
    t.deepEqual(
      found.partitions.map(({ number, start, size, name }) => ({ number, start, size, name })),
      parts,
      what,
    );
    t.deepEqual(listed(disk), parts, what);
  }
});

test("a volume on the whole disk is no partition table; a table that was wiped is none", async (t) => {
  const dir = scratch(t, "partitions");
  const layout = LAYOUTS.find((l) => l.name === "GPT")!;
  await partition(t, dir, layout);
  const disk = join(dir, "disk");
  await must("mke2fs", ["-q", "-F", "-t", "ext4", disk]);
  t.is((await info(t, disk)).partitionTable, "none");
  await run("wipefs", ["--all", disk]);
  const found = await info(t, disk);
  t.is(found.partitionTable, "none", basename(disk));
  t.deepEqual(found.partitions, []);
});
