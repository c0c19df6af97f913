// QCOW2 images damaged by hand, one structure each: what check has to find.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { must } from "./native.ts";
import { squeezable } from "./qcow2.ts";
import { COMPRESSED, COPIED, FIELD, PatchedImage } from "./qcow2-patch.ts";
import { Random } from "./random.ts";

type Bases = ReadonlyMap<string, Uint8Array>;

interface Shape {
  readonly name: string;
  readonly options: string;
  readonly size: string;
  /** qemu-io commands, or a verb of `make`. */
  readonly io: readonly string[];
  readonly snapshots?: boolean;
  readonly compress?: boolean;
  readonly bitmaps?: boolean;
}

const WRITES = [
  "write -P 1 0 300k",
  "write -P 2 1M 40k",
  "write -P 3 5M 200k",
  "write -z 1M 16k",
  "write -z 3M 64k",
];

const SHAPES: readonly Shape[] = [
  { name: "plain", options: "cluster_size=4k", size: "8M", io: WRITES },
  { name: "default", options: "cluster_size=64k", size: "8M", io: WRITES },
  { name: "snap", options: "cluster_size=4k", size: "8M", io: WRITES, snapshots: true },
  { name: "comp", options: "cluster_size=4k", size: "2M", io: [], compress: true },
  { name: "ext", options: "cluster_size=16k,extended_l2=on", size: "40M", io: WRITES },
  { name: "tiny", options: "cluster_size=512", size: "3M", io: WRITES.slice(0, 2), snapshots: true },
  { name: "rc1", options: "cluster_size=4k,refcount_bits=1", size: "8M", io: WRITES },
  { name: "rc4", options: "cluster_size=4k,refcount_bits=4", size: "8M", io: WRITES, snapshots: true },
  { name: "rc8", options: "cluster_size=4k,refcount_bits=8", size: "8M", io: WRITES, snapshots: true },
  { name: "rc32", options: "cluster_size=4k,refcount_bits=32", size: "8M", io: WRITES },
  { name: "rc64", options: "cluster_size=4k,refcount_bits=64", size: "8M", io: WRITES, snapshots: true },
  { name: "v2", options: "compat=0.10,cluster_size=4k", size: "8M", io: WRITES, snapshots: true },
  { name: "wide", options: "cluster_size=2M", size: "9M", io: WRITES.slice(0, 2) },
  { name: "bitmap", options: "cluster_size=4k", size: "8M", io: WRITES, bitmaps: true },
  { name: "lazy", options: "cluster_size=4k,lazy_refcounts=on", size: "8M", io: WRITES },
];

/** Makes the undamaged images in `dir`; returns their bytes by name. */
export async function undamaged(dir: string): Promise<Bases> {
  const bases = new Map<string, Uint8Array>();
  for (const shape of SHAPES) {
    const path = join(dir, `${shape.name}.qcow2`);
    if (shape.compress) {
      const raw = join(dir, "raw");
      writeFileSync(raw, squeezable(new Random(7), 2 << 20));
      await must("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", "-c", "-o", shape.options, raw, path]);
    } else await must("qemu-img", ["create", "-q", "-f", "qcow2", "-o", shape.options, path, shape.size]);
    const io = (commands: readonly string[]) =>
      must("qemu-io", [path, ...commands.flatMap((c) => ["-c", c])]);
    if (shape.io.length > 0) await io(shape.io);
    if (shape.snapshots) {
      await must("qemu-img", ["snapshot", "-c", "first", path]);
      await io(["write -P 9 100k 80k"]);
      await must("qemu-img", ["snapshot", "-c", "second", path]);
      await io(["write -P 8 8k 80k"]);
    }
    if (shape.bitmaps) {
      await must("qemu-img", ["bitmap", "--add", "-g", "512", path, "one"]);
      await must("qemu-img", ["bitmap", "--add", "-g", "65536", path, "two"]);
      await io(["write -P 9 100k 80k", "write -P 9 6M 5k"]);
      await must("qemu-img", ["bitmap", "--disable", path, "two"]);
    }
    bases.set(shape.name, readFileSync(path));
  }
  return bases;
}

export interface Damage {
  readonly name: string;
  readonly base: string;
  readonly patch: (p: PatchedImage) => void;
}

/** Each structure, wrong in each way. */
export const DAMAGES: readonly Damage[] = [
  // Refcounts.
  ...["plain", "rc1", "rc4", "rc8", "rc32", "rc64", "v2", "tiny", "wide", "ext", "bitmap"].flatMap(
    (base): Damage[] => [
      { name: `${base}: as it is`, base, patch: () => {} },
      {
        name: `${base}: leaks`,
        base,
        patch: (p) => {
          p.grow(3);
          const end = p.bytes.length / p.clusterSize;
          p.setRefcount(end - 1, 1);
          p.setRefcount(end - 3, 1);
        },
      },
      {
        name: `${base}: a cluster in use is free`,
        base,
        patch: (p) => p.setRefcount(p.cluster(p.guest(1)), 0),
      },
    ],
  ),
  ...["plain", "rc4", "rc64", "snap", "v2"].flatMap((base): Damage[] => [
    { name: `${base}: count too high`, base, patch: (p) => p.setRefcount(p.cluster(p.guest(1)), 5) },
    {
      name: `${base}: two entries, one cluster`,
      base,
      patch: (p) => p.put64(p.guest(2), p.u64(p.guest(1))),
    },
  ]),
  {
    name: "rc64: huge count",
    base: "rc64",
    patch: (p) => p.setRefcount(p.cluster(p.guest(1)), 0xfedcba9876543210n),
  },
  {
    name: "rc1: overflow",
    base: "rc1",
    patch: (p) => {
      for (let i = 2; i < 5; i++) p.put64(p.guest(i), p.u64(p.guest(1)));
    },
  },
  {
    name: "rc8: 300 references to one cluster",
    base: "rc8",
    patch: (p) => {
      for (let i = 0; i < 300; i++) p.put64(p.guest(i), p.u64(p.guest(0)));
    },
  },
  {
    name: "rc32: 400 references to one cluster",
    base: "rc32",
    patch: (p) => {
      for (let i = 0; i < 400; i++) p.put64(p.guest(i), p.u64(p.guest(0)));
    },
  },
  { name: "header free", base: "plain", patch: (p) => p.setRefcount(0, 0) },
  { name: "refcount block free", base: "plain", patch: (p) => p.setRefcount(2, 0) },
  { name: "all refcounts zero", base: "plain", patch: (p) => p.bytes.fill(0, 8192, 12288) },
  { name: "all refcounts zero, 64k", base: "default", patch: (p) => p.bytes.fill(0, 131072, 196608) },
  // The refcount table.
  { name: "table: reserved bits", base: "plain", patch: (p) => p.or64(p.reftable(0), 0x10n) },
  { name: "table: misaligned", base: "plain", patch: (p) => p.or64(p.reftable(0), 0x400n) },
  { name: "table: no block", base: "plain", patch: (p) => p.put64(p.reftable(0), 0) },
  { name: "table: block past the end", base: "plain", patch: (p) => p.put64(p.reftable(1), 0x400000) },
  { name: "table: block far past the end", base: "plain", patch: (p) => p.put64(p.reftable(1), 1n << 62n) },
  {
    name: "table: two entries, one block",
    base: "plain",
    patch: (p) => p.put64(p.reftable(1), p.u64(p.reftable(0))),
  },
  {
    name: "table: block is the header",
    base: "plain",
    patch: (p) => p.put64(p.reftable(0), 0x1000n * 0n + 0n),
  },
  {
    name: "table: block is the L1 table",
    base: "plain",
    patch: (p) => p.put64(p.reftable(0), p.u64(FIELD.l1Offset)),
  },
  {
    name: "table: it is the L1 table",
    base: "plain",
    patch: (p) => p.put64(FIELD.tableOffset, p.u64(FIELD.l1Offset)),
  },
  { name: "table: past the end", base: "plain", patch: (p) => p.put64(FIELD.tableOffset, 0x4000000) },
  { name: "table: no clusters", base: "plain", patch: (p) => p.put32(FIELD.tableClusters, 0) },
  {
    name: "table: more clusters than there are",
    base: "plain",
    patch: (p) => p.put32(FIELD.tableClusters, 400),
  },
  // L1.
  { name: "L1: reserved bits", base: "plain", patch: (p) => p.or64(p.l1(0), 1n << 57n) },
  { name: "L1: low reserved bits", base: "plain", patch: (p) => p.or64(p.l1(0), 0x11n) },
  { name: "L1: misaligned", base: "plain", patch: (p) => p.or64(p.l1(0), 0x200n) },
  { name: "L1: COPIED missing", base: "plain", patch: (p) => p.put64(p.l1(0), p.u64(p.l1(0)) & ~COPIED) },
  { name: "L1: COPIED alone", base: "plain", patch: (p) => p.put64(p.l1(3), COPIED) },
  { name: "L1: past the end", base: "plain", patch: (p) => p.put64(p.l1(1), 0x10000000n) },
  {
    name: "L1: an entry is the header",
    base: "plain",
    patch: (p) => p.put64(p.l1(1), 0x200n * 0n + COPIED + 0x1000n * 0n),
  },
  {
    name: "L1: an entry is the L1 table",
    base: "plain",
    patch: (p) => p.put64(p.l1(1), p.u64(FIELD.l1Offset) | COPIED),
  },
  {
    name: "L1: an entry is the refcount block",
    base: "plain",
    patch: (p) => p.put64(p.l1(1), p.u64(p.reftable(0)) | COPIED),
  },
  { name: "L1: twice the same L2", base: "plain", patch: (p) => p.put64(p.l1(1), p.u64(p.l1(0))) },
  { name: "L1: table past the end", base: "plain", patch: (p) => p.put64(FIELD.l1Offset, 0x40000000) },
  { name: "L1: table is the header", base: "plain", patch: (p) => p.put64(FIELD.l1Offset, 0) },
  { name: "L1: more entries", base: "plain", patch: (p) => p.put32(FIELD.l1Entries, 600) },
  { name: "L1: many more entries", base: "plain", patch: (p) => p.put32(FIELD.l1Entries, 100000) },
  // L2.
  { name: "L2: reserved bits", base: "plain", patch: (p) => p.or64(p.guest(1), 1n << 56n) },
  { name: "L2: low reserved bits", base: "plain", patch: (p) => p.or64(p.guest(1), 0x102n) },
  { name: "L2: reserved bits, no cluster", base: "plain", patch: (p) => p.put64(p.guest(400), 1n << 58n) },
  { name: "L2: misaligned", base: "plain", patch: (p) => p.or64(p.guest(1), 0x200n) },
  { name: "L2: misaligned, zero", base: "plain", patch: (p) => p.or64(p.guest(257), 0x400n) },
  { name: "L2: misaligned, past the end", base: "plain", patch: (p) => p.put64(p.guest(1), 0x7fffe00n) },
  { name: "L2: zero and plain", base: "plain", patch: (p) => p.put64(p.guest(400), 1n) },
  { name: "L2: COPIED zero and plain", base: "plain", patch: (p) => p.put64(p.guest(400), COPIED | 1n) },
  {
    name: "L2: COPIED missing",
    base: "plain",
    patch: (p) => p.put64(p.guest(1), p.u64(p.guest(1)) & ~COPIED),
  },
  { name: "L2: COPIED alone", base: "plain", patch: (p) => p.put64(p.guest(400), COPIED) },
  { name: "L2: past the end", base: "plain", patch: (p) => p.put64(p.guest(1), COPIED | 0x40000000n) },
  {
    name: "L2: far past the end",
    base: "plain",
    patch: (p) => p.put64(p.guest(1), COPIED | 0x00fffffffffff000n),
  },
  {
    name: "L2: just past the end",
    base: "plain",
    patch: (p) => p.put64(p.guest(1), COPIED | BigInt(p.bytes.length)),
  },
  { name: "L2: the header", base: "plain", patch: (p) => p.put64(p.guest(1), COPIED | 0x1000n) },
  { name: "L2: an L2 table", base: "plain", patch: (p) => p.put64(p.guest(1), p.u64(p.l1(0))) },
  {
    name: "L2: the refcount block",
    base: "plain",
    patch: (p) => p.put64(p.guest(1), p.u64(p.reftable(0)) | COPIED),
  },
  {
    name: "L2: out of order",
    base: "plain",
    patch: (p) => {
      const a = p.u64(p.guest(1));
      p.put64(p.guest(1), p.u64(p.guest(3)));
      p.put64(p.guest(3), a);
    },
  },
  { name: "L2: filled with ones", base: "plain", patch: (p) => p.bytes.fill(0xff, p.l2(0, 0), p.l2(0, 20)) },
  // Compressed clusters.
  { name: "compressed: as it is", base: "comp", patch: () => {} },
  { name: "compressed: COPIED", base: "comp", patch: (p) => p.or64(p.guest(3), COPIED) },
  { name: "compressed: longer", base: "comp", patch: (p) => p.or64(p.guest(3), 15n << 58n) },
  {
    name: "compressed: past the end",
    base: "comp",
    patch: (p) => p.put64(p.guest(3), COMPRESSED | 0x7000000n),
  },
  {
    name: "compressed: at the end",
    base: "comp",
    patch: (p) => p.put64(p.guest(3), COMPRESSED | BigInt(p.bytes.length - 100) | (3n << 58n)),
  },
  { name: "compressed: count too low", base: "comp", patch: (p) => p.setRefcount(5, 1) },
  { name: "compressed: twice", base: "comp", patch: (p) => p.put64(p.guest(3), p.u64(p.guest(4))) },
  // Extended L2 entries.
  { name: "extended: stored and zero", base: "ext", patch: (p) => p.or64(p.guest(1) + 8, 0x300000003n) },
  { name: "extended: stored, no cluster", base: "ext", patch: (p) => p.put64(p.guest(700) + 8, 3) },
  { name: "extended: zero bit", base: "ext", patch: (p) => p.or64(p.guest(1), 1n) },
  { name: "extended: zero bit alone", base: "ext", patch: (p) => p.put64(p.guest(700), 1n) },
  { name: "extended: misaligned", base: "ext", patch: (p) => p.or64(p.guest(1), 0x400n) },
  {
    name: "extended: misaligned, no data",
    base: "ext",
    patch: (p) => {
      p.or64(p.guest(1), 0x400n);
      p.put64(p.guest(1) + 8, 0x700000000n);
    },
  },
  {
    name: "extended: misaligned, nothing",
    base: "ext",
    patch: (p) => {
      p.or64(p.guest(1), 0x400n);
      p.put64(p.guest(1) + 8, 0);
    },
  },
  {
    name: "extended: compressed with subclusters",
    base: "ext",
    patch: (p) => p.or64(p.guest(1), COMPRESSED),
  },
  { name: "extended: cluster without subclusters", base: "ext", patch: (p) => p.put64(p.guest(1) + 8, 0) },
  // Snapshots.
  { name: "snapshots: as they are", base: "snap", patch: () => {} },
  { name: "snapshots: tiny clusters", base: "tiny", patch: () => {} },
  {
    name: "snapshots: L1 misaligned",
    base: "snap",
    patch: (p) => p.or64(Number(p.u64(FIELD.snapshotsOffset)), 0x200n),
  },
  {
    name: "snapshots: L1 too large",
    base: "snap",
    patch: (p) => p.put32(Number(p.u64(FIELD.snapshotsOffset)) + 8, 5000000),
  },
  {
    name: "snapshots: L1 past the end",
    base: "snap",
    patch: (p) => p.put64(Number(p.u64(FIELD.snapshotsOffset)), 0x40000000),
  },
  {
    name: "snapshots: L1 beyond 2^63",
    base: "snap",
    patch: (p) => p.put64(Number(p.u64(FIELD.snapshotsOffset)), 0xf000000000000000n),
  },
  {
    name: "snapshots: L1 near 2^63",
    base: "snap",
    patch: (p) => p.put64(Number(p.u64(FIELD.snapshotsOffset)), 0x7ffffffffffff000n),
  },
  {
    name: "snapshots: L1 is the active one",
    base: "snap",
    patch: (p) => p.put64(Number(p.u64(FIELD.snapshotsOffset)), p.u64(FIELD.l1Offset)),
  },
  {
    name: "snapshots: no L1",
    base: "snap",
    patch: (p) => p.put32(Number(p.u64(FIELD.snapshotsOffset)) + 8, 0),
  },
  { name: "snapshots: one more than there is", base: "snap", patch: (p) => p.put32(FIELD.snapshots, 3) },
  { name: "snapshots: one less", base: "snap", patch: (p) => p.put32(FIELD.snapshots, 1) },
  { name: "snapshots: none, leaked", base: "snap", patch: (p) => p.put32(FIELD.snapshots, 0) },
  { name: "snapshots: too many", base: "snap", patch: (p) => p.put32(FIELD.snapshots, 70000) },
  { name: "snapshots: far too many", base: "snap", patch: (p) => p.put32(FIELD.snapshots, 0xffffffff) },
  { name: "snapshots: table misaligned", base: "snap", patch: (p) => p.or64(FIELD.snapshotsOffset, 0x8n) },
  {
    name: "snapshots: table past the end",
    base: "snap",
    patch: (p) => p.put64(FIELD.snapshotsOffset, 0x40000000),
  },
  { name: "snapshots: table is the header", base: "snap", patch: (p) => p.put64(FIELD.snapshotsOffset, 0) },
  {
    name: "snapshots: too much extra data",
    base: "snap",
    patch: (p) => p.put32(Number(p.u64(FIELD.snapshotsOffset)) + 36, 2000),
  },
  {
    name: "snapshots: little extra data",
    base: "snap",
    patch: (p) => p.put32(Number(p.u64(FIELD.snapshotsOffset)) + 36, 8),
  },
  {
    name: "snapshots: no extra data, version 2",
    base: "v2",
    patch: (p) => p.put32(Number(p.u64(FIELD.snapshotsOffset)) + 36, 0),
  },
  {
    name: "snapshots: long name",
    base: "snap",
    patch: (p) => p.bytes.writeUInt16BE(65535, Number(p.u64(FIELD.snapshotsOffset)) + 14),
  },
  // Bitmaps.
  { name: "bitmaps: out of step", base: "bitmap", patch: (p) => p.put64(FIELD.autoclear, 0) },
  { name: "bitmaps: one more", base: "bitmap", patch: (p) => p.put32(p.extension(0x23852875), 3) },
  {
    name: "bitmaps: directory past the end",
    base: "bitmap",
    patch: (p) => p.put64(p.extension(0x23852875) + 16, 0x40000000),
  },
  {
    name: "bitmaps: table past the end",
    base: "bitmap",
    patch: (p) => p.put64(Number(p.u64(p.extension(0x23852875) + 16)), 0x40000000),
  },
  {
    name: "bitmaps: table entry past the end",
    base: "bitmap",
    patch: (p) => p.put64(Number(p.u64(Number(p.u64(p.extension(0x23852875) + 16)))), 0x40000000),
  },
  {
    name: "bitmaps: table entry misaligned",
    base: "bitmap",
    patch: (p) => p.put64(Number(p.u64(Number(p.u64(p.extension(0x23852875) + 16)))), 0x4200),
  },
  {
    name: "bitmaps: in use, table entry misaligned",
    base: "bitmap",
    patch: (p) => {
      const directory = Number(p.u64(p.extension(0x23852875) + 16));
      p.put32(directory + 12, 1);
      p.put64(Number(p.u64(directory)), 0x4200);
    },
  },
  {
    name: "bitmaps: table is the L1 table",
    base: "bitmap",
    patch: (p) => p.put64(Number(p.u64(p.extension(0x23852875) + 16)), p.u64(FIELD.l1Offset)),
  },
  // Headers.
  { name: "dirty", base: "lazy", patch: (p) => p.or64(FIELD.incompatible, 1n) },
  {
    name: "dirty, refcounts wrong",
    base: "lazy",
    patch: (p) => {
      p.or64(FIELD.incompatible, 1n);
      p.setRefcount(p.cluster(p.guest(1)), 0);
      p.setRefcount(p.cluster(p.guest(2)), 3);
    },
  },
  { name: "corrupt", base: "plain", patch: (p) => p.or64(FIELD.incompatible, 2n) },
  {
    name: "corrupt and damaged",
    base: "plain",
    patch: (p) => {
      p.or64(FIELD.incompatible, 2n);
      p.put64(p.guest(2), p.u64(p.guest(1)));
    },
  },
  { name: "unknown autoclear bits", base: "plain", patch: (p) => p.or64(FIELD.autoclear, 0x30n) },
  { name: "smaller disk", base: "plain", patch: (p) => p.put64(FIELD.size, 0x100000) },
  // Cut short.
  ...[5000, 9000, 13000, 20000, 30000].map(
    (length): Damage => ({
      name: `cut after ${length} bytes`,
      base: "plain",
      patch: (p) => {
        p.bytes = p.bytes.subarray(0, length);
      },
    }),
  ),
  {
    name: "cut within the last cluster",
    base: "snap",
    patch: (p) => {
      p.bytes = p.bytes.subarray(0, p.bytes.length - 1700);
    },
  },
  {
    name: "longer by a few bytes",
    base: "plain",
    patch: (p) => {
      p.bytes = Buffer.concat([p.bytes, Buffer.alloc(700)]);
    },
  },
];

/** The bytes of a damaged image. */
export function damaged(bases: Bases, damage: Damage): Buffer {
  const p = new PatchedImage(bases.get(damage.base)!);
  damage.patch(p);
  return p.bytes;
}
