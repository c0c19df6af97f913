// NTFS volumes broken by hand, one structure at a time.
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { inScratch, must } from "./native.ts";
import { type DamagedRecord, DamagedVolume } from "./ntfs-damage.ts";

/** Makes a volume with the native tools, lets `fill` write files into it, and returns its bytes. */
export async function makeVolume(
  size: number,
  options: readonly string[],
  fill: (root: string) => void,
): Promise<Buffer> {
  return inScratch("ntfs", async (dir) => {
    const image = join(dir, "volume");
    const root = join(dir, "root");
    closeSync(openSync(image, "w"));
    truncateSync(image, size);
    await must("mkntfs", ["-F", "-q", "-Q", "-p", "0", "-H", "0", "-S", "0", ...options, image]);
    mkdirSync(root);
    await must("ntfs-3g", ["-o", "streams_interface=windows", image, root]);
    try {
      fill(root);
    } finally {
      await must("umount", [root]);
    }
    return readFileSync(image);
  });
}

/** Bytes that say where they are from. */
export function filler(length: number, seed: number): Buffer {
  const b = Buffer.alloc(length);
  let v = (seed * 2654435761) >>> 0;
  for (let i = 0; i < length; i++) {
    v = (Math.imul(v, 1664525) + 1013904223) >>> 0;
    b[i] = v >>> 24;
  }
  return b;
}

let made: Promise<Buffer> | null = null;

/**
 * The volume that is broken: 512-byte clusters, a file "big" in many pieces with an attribute list and a stream, a
 * directory with index blocks, resident, sparse and empty files.
 */
export function baseVolume(): Promise<Buffer> {
  made ??= makeVolume(3 << 20, ["-c", "512"], (root) => {
    // Two files that grow by turns lie in as many pieces as they have clusters.
    const files = [openSync(join(root, "big"), "w"), openSync(join(root, "other"), "w")];
    for (let i = 0; i < 1200; i++) writeSync(files[i % 2], filler(512, i));
    for (const f of files) closeSync(f);
    writeFileSync(join(root, "big:stream"), filler(3000, 2));
    mkdirSync(join(root, "dir"));
    for (let i = 0; i < 60; i++) writeFileSync(join(root, "dir", `a file of the directory ${i}`), `${i}`);
    writeFileSync(join(root, "plain"), filler(5000, 3));
    writeFileSync(join(root, "small"), "resident");
    writeFileSync(join(root, "empty"), "");
    writeFileSync(join(root, "sparse"), "x");
    truncateSync(join(root, "sparse"), 70000);
  });
  return made;
}

export interface Broken {
  readonly title: string;
  readonly damage: (p: DamagedVolume) => unknown;
  /** Where ours answers otherwise than native on purpose: what it does better. */
  readonly better?: string;
}

const MAX = 0x7fffffffffffffffn;
const boot = (title: string, at: number, size: number, value: number | bigint): Broken => ({
  title: `boot sector: ${title}`,
  damage: (p) => p.put(at, size, value),
});
const record = (title: string, n: number, change: (r: DamagedRecord) => unknown): Broken => ({
  title: `record ${n}: ${title}`,
  damage: (p) => p.edit(n, change),
});
const file = (
  title: string,
  name: string,
  change: (r: DamagedRecord, p: DamagedVolume) => unknown,
): Broken => ({
  title: `${name}: ${title}`,
  damage: (p) => {
    const r = p.named(name);
    change(r, p);
    p.store(r);
  },
});
/** The extension record that maps the first part of "big", and the others. */
const extension = (p: DamagedVolume) => p.find((r) => r.bytes.readUInt32LE(32) !== 0 && r.find(0x80) >= 0);
const extensionOf = (title: string, change: (r: DamagedRecord, p: DamagedVolume) => unknown): Broken => ({
  title: `extension record: ${title}`,
  damage: (p) => {
    const r = extension(p);
    change(r, p);
    p.store(r);
  },
});

const better = (reason: string, b: Broken): Broken => ({ ...b, better: reason });

/** Breaks the end of a sector, so that fixups don't match. */
const torn = (title: string, place: (p: DamagedVolume) => number): Broken => ({
  title,
  damage: (p) => {
    const at = place(p);
    p.bytes.fill(0xee, at, at + 2);
  },
});

/** Where the attribute list of "big" lies: its bytes, wherever they are. */
function list(p: DamagedVolume): { at: number; bytes: Buffer; store: () => void } {
  const r = p.named("big");
  const a = r.attribute(0x20);
  if (r.bytes[a + 8] === 0) return { at: r.value(0x20), bytes: r.bytes, store: () => p.store(r) };
  const [[lcn]] = p.runs(r.bytes, r.pairs(0x20));
  return { at: lcn * p.clusterSize, bytes: p.bytes, store: () => {} };
}
/** Changes the entry of the attribute list of "big" for the nth extent of its data. */
const entry = (title: string, nth: number, change: (b: Buffer, at: number) => unknown): Broken => ({
  title: `attribute list: ${title}`,
  damage: (p) => {
    const l = list(p);
    let { at } = l;
    for (let left = nth; l.bytes.readUInt32LE(at) !== 0x80 || left-- > 0; )
      at += l.bytes.readUInt16LE(at + 4);
    change(l.bytes, at);
    l.store();
  },
});
/** Changes the first INDX block of the directory "dir". */
const index = (title: string, change: (b: Buffer) => unknown): Broken => ({
  title: `index block: ${title}`,
  damage: (p) => {
    const r = p.named("dir");
    const [[lcn]] = p.runs(r.bytes, r.pairs(0xa0));
    const b = p.unfix(lcn * p.clusterSize, 4096);
    change(b);
    p.fix(b, lcn * p.clusterSize, 40);
  },
});

/** Every broken volume; `baseVolume` is what they start from. */
export const brokenVolumes: readonly Broken[] = [
  { title: "nothing but zeros", damage: (p) => p.bytes.fill(0) },
  { title: "nothing but ones", damage: (p) => p.bytes.fill(255) },
  { title: "boot sector alone", damage: (p) => p.bytes.fill(0, 512) },
  boot("no signature", 3, 1, 0),
  ...[0, 1, 128, 255, 257, 511, 1000, 1024, 4096, 8192, 65535].map((v) =>
    boot(`${v} bytes a sector`, 11, 2, v),
  ),
  ...[0, 2, 3, 64, 128, 129, 200, 239, 240, 244, 253, 254, 255].map((v) =>
    boot(`sectors per cluster ${v}`, 13, 1, v),
  ),
  boot("reserved sectors", 14, 2, 1),
  boot("fats", 16, 1, 2),
  boot("root entries", 17, 2, 512),
  boot("small sectors", 19, 2, 1),
  boot("sectors per fat", 22, 2, 9),
  boot("large sectors", 32, 4, 100),
  ...[0n, 1n, 100n, 0x100000n, 1n << 54n, (1n << 55n) - 1n, MAX, -1n, -MAX].map((v) =>
    boot(`${v} sectors`, 40, 8, v),
  ),
  ...[0n, 1n, 3000n, 6143n, 6144n, 1n << 33n, 1n << 53n, MAX, -1n].map((v) => boot(`$MFT at ${v}`, 48, 8, v)),
  better("whether native can seek there depends on its host", boot("2^40 sectors", 40, 8, 1n << 40n)),
  ...[0n, 6143n, 1n << 33n, MAX, -1n].map((v) => boot(`$MFTMirr at ${v}`, 56, 8, v)),
  { title: "boot sector: both at the same place", damage: (p) => p.bytes.copy(p.bytes, 56, 48, 56) },
  ...[0, 1, 2, 3, 4, 64, 65, 128, 0xe0, 0xe1, 0xf0, 0xf5, 0xf7, 0xf8, 0xff].map((v) =>
    boot(`record size code ${v}`, 64, 1, v),
  ),
  ...[0, 1, 3, 64, 0xe0, 0xe1, 0xf0, 0xf7, 0xff].map((v) => boot(`index block size code ${v}`, 68, 1, v)),
  boot("no end marker", 510, 2, 0),

  record("no magic", 0, (r) => r.put(0, 4, 0)),
  record("BAAD", 0, (r) => r.put(0, 4, 0x44414142)),
  record("fixup count 0", 0, (r) => r.put(6, 2, 0)),
  record("fixup count 1", 0, (r) => r.put(6, 2, 1)),
  record("fixup count 0xffff", 0, (r) => r.put(6, 2, 0xffff)),
  record("not in use", 0, (r) => r.put(22, 2, 0)),
  record("attributes at 0", 0, (r) => r.put(20, 2, 0)),
  record("attributes at 65528", 0, (r) => r.put(20, 2, 65528)),
  record("no bytes in use", 0, (r) => r.put(24, 4, 0)),
  record("all bytes in use", 0, (r) => r.put(24, 4, 0xffffffff)),
  record("allocated 0", 0, (r) => r.put(28, 4, 0)),
  record("its data is resident", 0, (r) => r.put(r.attribute(0x80) + 8, 1, 0)),
  record("its data is compressed", 0, (r) => r.put(r.attribute(0x80) + 12, 2, 1)),
  record("its data is encrypted", 0, (r) => r.put(r.attribute(0x80) + 12, 2, 0x4000)),
  record("its data is gone", 0, (r) => r.put(r.attribute(0x80), 4, 0x81)),
  record("data starts at cluster 5", 0, (r) => r.put(r.attribute(0x80) + 16, 8, 5)),
  record("highest VCN -1", 0, (r) => r.put(r.attribute(0x80) + 24, 8, -1)),
  record("highest VCN 2^63-1", 0, (r) => r.put(r.attribute(0x80) + 24, 8, MAX)),
  ...[0n, 512n, 1024n, 100000n, 1n << 40n, 1n << 62n, MAX, -1n].flatMap((v): Broken[] => [
    record(`${v} bytes allocated`, 0, (r) => r.put(r.attribute(0x80) + 40, 8, v)),
    record(`data size ${v}`, 0, (r) => r.put(r.attribute(0x80) + 48, 8, v)),
    {
      ...record(`${v} bytes initialized`, 0, (r) => r.put(r.attribute(0x80) + 56, 8, v)),
      ...(v >= 1n << 40n ? { better: "native tries every record that is not there" } : {}),
    },
  ]),
  record("all sizes 2^62", 0, (r) => {
    for (const at of [40, 48, 56]) r.put(r.attribute(0x80) + at, 8, 1n << 62n);
  }),
  record("mapping pairs past the record", 0, (r) => r.put(r.attribute(0x80) + 32, 2, 0xfff0)),
  record("mapping pairs in its head", 0, (r) => r.put(r.attribute(0x80) + 32, 2, 0)),
  record("no runs", 0, (r) => r.put(r.pairs(0x80), 1, 0)),
  record("a run without a length", 0, (r) => r.put(r.pairs(0x80), 1, 0x10)),
  record("a run of 15-byte fields", 0, (r) => r.put(r.pairs(0x80), 1, 0xff)),
  record("a hole first", 0, (r) => r.put(r.pairs(0x80), 1, 0x02)),
  record("a run far away", 0, (r) => {
    const at = r.pairs(0x80);
    r.put(at, 1, 0x42)
      .put(at + 3, 4, 0x7fffffff)
      .put(at + 7, 1, 0);
  }),
  better(
    "refused by both, in other words",
    record("attribute length 0", 0, (r) => r.put(r.attribute(0x30) + 4, 4, 0)),
  ),
  record("attribute length 2^32-8", 0, (r) => r.put(r.attribute(0x30) + 4, 4, 0xfffffff8)),
  torn("record 0: a torn sector", (p) => p.mft + 510),
  torn("record 5: a torn sector", (p) => p.place(5) + 1022),
  torn("$MFTMirr: a torn sector", (p) => p.mirror + 1024 + 510),
  record("no standard information", 0, (r) => r.put(r.attribute(0x10), 4, 0x11)),
  record("no end", 0, (r) => r.put(r.attribute(0xb0) + 4, 4, 1024 - r.attribute(0xb0))),

  { title: "$MFTMirr: zeros", damage: (p) => p.bytes.fill(0, p.mirror, p.mirror + 4096) },
  { title: "$MFTMirr: another byte", damage: (p) => p.bytes.fill(1, p.mirror + 70, p.mirror + 71) },
  record("mirror's record without magic", 1, (r) => r.put(0, 4, 0)),
  record("log file without magic", 2, (r) => r.put(0, 4, 0)),
  record("volume without magic", 3, (r) => r.put(0, 4, 0)),
  record("no volume information", 3, (r) => r.put(r.attribute(0x70), 4, 0x71)),
  record("volume information is too short", 3, (r) => r.put(r.attribute(0x70) + 16, 4, 4)),
  record("volume information is non-resident", 3, (r) => r.put(r.attribute(0x70) + 8, 1, 1)),
  ...[0, 4, 255].map((v) => record(`version ${v}.1`, 3, (r) => r.put(r.value(0x70) + 8, 1, v))),
  ...[0, 2, 9].map((v) => record(`version 3.${v}`, 3, (r) => r.put(r.value(0x70) + 9, 1, v))),
  record("version 1.2", 3, (r) => r.put(r.value(0x70) + 8, 2, 0x0201)),
  record("version 2.3", 3, (r) => r.put(r.value(0x70) + 8, 2, 0x0302)),
  record("flags 0xfffe", 3, (r) => r.put(r.value(0x70) + 10, 2, 0xfffe)),
  record("dirty", 3, (r) => r.put(r.value(0x70) + 10, 2, 1)),
  record("name longer than its attribute", 3, (r) => r.put(r.attribute(0x60) + 16, 4, 4000)),
  record("root without magic", 5, (r) => r.put(0, 4, 0)),
  record("root is not in use", 5, (r) => r.put(22, 2, 0)),
  record("bitmap without magic", 6, (r) => r.put(0, 4, 0)),
  record("bitmap without data", 6, (r) => r.put(r.attribute(0x80), 4, 0x81)),
  record("bitmap too short", 6, (r) => r.put(r.attribute(0x80) + 48, 8, 8).put(r.attribute(0x80) + 56, 8, 8)),
  record("bitmap initialized in part", 6, (r) => r.put(r.attribute(0x80) + 56, 8, 64)),
  record("bitmap of 2^62 bytes", 6, (r) => {
    for (const at of [40, 48, 56]) r.put(r.attribute(0x80) + at, 8, 1n << 62n);
  }),
  record("bitmap's run is gone", 6, (r) => r.put(r.pairs(0x80), 1, 0)),
  record("upcase without magic", 10, (r) => r.put(0, 4, 0)),
  record("a bad cluster", 8, (r) => {
    // A cluster and a hole instead of one hole.
    const at = r.find(0x80, 1);
    const pairs = r.pairs(0x80, 1);
    const clusters = Number(r.bytes.readBigInt64LE(at + 24)) + 1;
    r.put(pairs, 1, 0x21)
      .put(pairs + 1, 1, 1)
      .put(pairs + 2, 2, clusters - 9);
    r.put(pairs + 4, 1, 0x02)
      .put(pairs + 5, 2, clusters - 1)
      .put(pairs + 7, 1, 0);
  }),
  {
    title: "bad clusters that $Bitmap knows",
    damage: (p) => {
      p.edit(8, (r) => {
        const pairs = r.pairs(0x80, 1);
        r.put(pairs, 1, 0x21)
          .put(pairs + 1, 1, 8)
          .put(pairs + 2, 2, p.clusters - 16);
        r.put(pairs + 4, 1, 0x02)
          .put(pairs + 5, 2, p.clusters - 8)
          .put(pairs + 7, 1, 0);
      });
      const r = p.record(6);
      const [[lcn]] = p.runs(r.bytes, r.pairs(0x80));
      for (let c = p.clusters - 16; c < p.clusters - 8; c++)
        p.bytes[lcn * p.clusterSize + (c >> 3)] |= 1 << (c & 7);
    },
  },
  {
    title: "$Bitmap: clusters that nobody owns",
    damage: (p) => {
      const r = p.record(6);
      const [[lcn, n]] = p.runs(r.bytes, r.pairs(0x80));
      p.bytes.fill(255, lcn * p.clusterSize + 600, lcn * p.clusterSize + Math.min(n * p.clusterSize, 640));
    },
  },
  {
    title: "$Bitmap: zeros",
    damage: (p) => {
      const r = p.record(6);
      const [[lcn, n]] = p.runs(r.bytes, r.pairs(0x80));
      p.bytes.fill(0, lcn * p.clusterSize, (lcn + n) * p.clusterSize);
    },
  },
  {
    title: "$Bitmap: the bits past the end are clear",
    damage: (p) => {
      const r = p.record(6);
      const [[lcn]] = p.runs(r.bytes, r.pairs(0x80));
      p.bytes[lcn * p.clusterSize + (p.clusters >> 3)] &= (1 << (p.clusters & 7)) - 1;
    },
  },

  file("no magic", "plain", (r) => r.put(0, 4, 0)),
  file("BAAD", "plain", (r) => r.put(0, 4, 0x44414142)),
  file("attributes at 3", "plain", (r) => r.put(20, 2, 3)),
  file("attributes at 0", "plain", (r) => r.put(20, 2, 0)),
  file("attributes at 32", "plain", (r) => r.put(20, 2, 32)),
  file("attributes at 1020", "plain", (r) => r.put(20, 2, 1020)),
  file("attributes at 1016", "plain", (r) => r.put(20, 2, 1016)),
  file("attributes at 65528", "plain", (r) => r.put(20, 2, 65528)),
  file("nothing in use", "plain", (r) => r.put(24, 4, 0)),
  file("in use ends early", "plain", (r) => r.put(24, 4, 200)),
  file("all in use", "plain", (r) => r.put(24, 4, 0xffffffff)),
  file("in use to the end", "plain", (r) => r.put(24, 4, 1024)),
  file("allocated 512", "plain", (r) => r.put(28, 4, 512)),
  file("allocated 0", "plain", (r) => r.put(28, 4, 0)),
  file("fixup count 0", "plain", (r) => r.put(6, 2, 0)),
  file("fixup count 2", "plain", (r) => r.put(6, 2, 2)),
  file("fixup count 0xffff", "plain", (r) => r.put(6, 2, 0xffff)),
  file("an odd fixup offset", "plain", (r) => r.put(4, 2, 49)),
  file("a fixup offset past the sector", "plain", (r) => r.put(4, 2, 510)),
  torn("plain: a torn sector", (p) => p.place(p.named("plain").number) + 1022),
  file("an extension of record 5", "plain", (r) => r.put(32, 8, 5)),
  file("not in use", "plain", (r) => r.put(22, 2, 0)),
  file("no standard information", "plain", (r) => r.put(r.attribute(0x10), 4, 0x0f)),
  file("standard information is non-resident", "plain", (r) => r.put(r.attribute(0x10) + 8, 1, 1)),
  file("standard information is empty", "plain", (r) => r.put(r.attribute(0x10) + 16, 4, 0)),
  ...[0, 4, 8, 16, 20, 1024, 0x7ffffff8, 0xfffffff8].flatMap((v) => [
    file(`name attribute of ${v} bytes`, "plain", (r) => r.put(r.attribute(0x30) + 4, 4, v)),
    file(`data attribute of ${v} bytes`, "plain", (r) => r.put(r.attribute(0x80) + 4, 4, v)),
  ]),
  file("attributes out of order", "plain", (r) => r.put(r.attribute(0x80), 4, 0x18)),
  file("attribute type 0", "plain", (r) => r.put(r.attribute(0x80), 4, 0)),
  file("attribute type 2^32-2", "plain", (r) => r.put(r.attribute(0x80), 4, 0xfffffffe)),
  file("no end marker", "plain", (r) =>
    r.put(r.attribute(0x80) + r.bytes.readUInt32LE(r.attribute(0x80) + 4), 4, 0),
  ),
  file("attribute name past the attribute", "plain", (r) => r.put(r.attribute(0x80) + 9, 1, 255)),
  file("attribute name past the record", "plain", (r) =>
    r.put(r.attribute(0x80) + 9, 1, 1).put(r.attribute(0x80) + 10, 2, 0xfff0),
  ),
  file("file name past its value", "plain", (r) => r.put(r.value(0x30) + 64, 1, 255)),
  file("its own parent", "plain", (r) => r.put(r.value(0x30), 6, r.number)),
  file("a parent that is not there", "plain", (r) => r.put(r.value(0x30), 6, 0xffffffffffffn)),
  file("resident value past the attribute", "small", (r) => r.put(r.attribute(0x80) + 16, 4, 4000)),
  file("resident value of 2^32-1 bytes", "small", (r) => r.put(r.attribute(0x80) + 16, 4, 0xffffffff)),
  file("resident value at 65535", "small", (r) => r.put(r.attribute(0x80) + 20, 2, 65535)),
  file("resident data called non-resident", "small", (r) => r.put(r.attribute(0x80) + 8, 1, 1)),
  file("lowest VCN 1", "plain", (r) => r.put(r.attribute(0x80) + 16, 8, 1)),
  file("lowest VCN -1", "plain", (r) => r.put(r.attribute(0x80) + 16, 8, -1)),
  file("highest VCN 0", "plain", (r) => r.put(r.attribute(0x80) + 24, 8, 0)),
  file("highest VCN 3", "plain", (r) => r.put(r.attribute(0x80) + 24, 8, 3)),
  file("highest VCN -1", "plain", (r) => r.put(r.attribute(0x80) + 24, 8, -1)),
  file("highest VCN 2^63-1", "plain", (r) => r.put(r.attribute(0x80) + 24, 8, MAX)),
  ...[0n, 1n, 4096n, 1n << 40n, MAX, -1n].flatMap((v) => [
    file(`${v} bytes allocated`, "plain", (r) => r.put(r.attribute(0x80) + 40, 8, v)),
    file(`data size ${v}`, "plain", (r) => r.put(r.attribute(0x80) + 48, 8, v)),
    file(`${v} bytes initialized`, "plain", (r) => r.put(r.attribute(0x80) + 56, 8, v)),
  ]),
  ...[0, 16, 63, 72, 88, 1000, 65535].map((v) =>
    file(`mapping pairs at ${v}`, "plain", (r) => r.put(r.attribute(0x80) + 32, 2, v)),
  ),
  file("compression unit 200", "plain", (r) => r.put(r.attribute(0x80) + 34, 1, 200)),
  file("compressed without a unit", "plain", (r) => r.put(r.attribute(0x80) + 12, 2, 1)),
  file("no runs", "plain", (r) => r.put(r.pairs(0x80), 1, 0)),
  file("a run without a length", "plain", (r) => r.put(r.pairs(0x80), 1, 0x20)),
  file("a negative length", "plain", (r) => r.put(r.pairs(0x80) + 1, 1, 0x80)),
  file("a length of 0", "plain", (r) => r.put(r.pairs(0x80) + 1, 1, 0)),
  file("15-byte fields", "plain", (r) => r.put(r.pairs(0x80), 1, 0xff)),
  file("8-byte fields", "plain", (r) => r.put(r.pairs(0x80), 1, 0x88)),
  file("a run before the volume", "plain", (r) => {
    const at = r.pairs(0x80);
    r.put(at, 1, 0x21)
      .put(at + 2, 2, -200)
      .put(at + 4, 1, 0);
  }),
  file("LCN -1", "plain", (r) => {
    const at = r.pairs(0x80);
    r.put(at, 1, 0x21)
      .put(at + 2, 2, -1)
      .put(at + 4, 1, 0);
  }),
  file("a run at the volume's end", "plain", (r, p) => {
    const at = r.pairs(0x80);
    r.put(at, 1, 0x21)
      .put(at + 2, 2, p.clusters - 3)
      .put(at + 4, 1, 0);
  }),
  better(
    "native crashes",
    file("a run past the volume", "plain", (r) => {
      const at = r.pairs(0x80);
      r.put(at, 1, 0x31)
        .put(at + 2, 3, 0x100000)
        .put(at + 5, 1, 0);
    }),
  ),
  file("a huge run", "plain", (r) => {
    const at = r.pairs(0x80);
    r.put(at, 1, 0x15)
      .put(at + 1, 5, 0x7fffffffffn)
      .put(at + 6, 1, 20)
      .put(at + 7, 1, 0);
    r.put(r.attribute(0x80) + 24, 8, 0);
  }),
  file("a huge hole", "plain", (r) => {
    const at = r.pairs(0x80);
    r.put(at, 1, 0x06)
      .put(at + 1, 6, 0x7fffffffffffn)
      .put(at + 7, 1, 0);
    r.put(r.attribute(0x80) + 24, 8, 0x7ffffffffffen);
    for (const size of [40, 48, 56]) r.put(r.attribute(0x80) + size, 8, 0x7fffffffffffn * 512n);
  }),
  file("the clusters of $MFT", "plain", (r, p) => {
    const at = r.pairs(0x80);
    r.put(at, 1, 0x21)
      .put(at + 2, 2, p.mft / p.clusterSize)
      .put(at + 4, 1, 0);
  }),
  file("a directory flag", "plain", (r) => r.put(22, 2, 3)),

  extensionOf("no magic", (r) => r.put(0, 4, 0)),
  extensionOf("not in use", (r) => r.put(22, 2, 0)),
  extensionOf("another sequence number", (r) => r.put(16, 2, 77)),
  extensionOf("another base", (r) => r.put(32, 8, 5)),
  extensionOf("no base", (r) => r.put(32, 8, 0)),
  extensionOf("another instance", (r) => r.put(r.attribute(0x80) + 14, 2, 99)),
  extensionOf("another type", (r) => r.put(r.attribute(0x80), 4, 0x90)),
  extensionOf("lowest VCN elsewhere", (r) => r.put(r.attribute(0x80) + 16, 8, 3)),
  extensionOf("allocated 0", (r) => r.put(28, 4, 0)),
  extensionOf("attribute length 0", (r) => r.put(r.attribute(0x80) + 4, 4, 0)),

  ...[0, 1, 8, 24, 26, 1000, 65535].map((v) =>
    entry(`an entry of ${v} bytes`, 0, (b, at) => b.writeUInt16LE(v, at + 4)),
  ),
  entry("a name past the entry", 0, (b, at) => b.writeUInt8(255, at + 6)),
  entry("a name offset of 255", 0, (b, at) => b.writeUInt8(255, at + 7)),
  entry("lowest VCN -1", 1, (b, at) => b.writeBigInt64LE(-1n, at + 8)),
  entry("lowest VCN 1", 0, (b, at) => b.writeBigInt64LE(1n, at + 8)),
  entry("a record that is not there", 0, (b, at) => b.writeUIntLE(0xffffff, at + 16, 6)),
  entry("a record that is free", 0, (b, at) => b.writeUIntLE(23, at + 16, 6)),
  entry("the base record itself", 0, (b, at) => b.writeUIntLE(5, at + 16, 6)),
  entry("another sequence number", 0, (b, at) => b.writeUInt16LE(99, at + 22)),
  entry("no sequence number", 0, (b, at) => b.writeUInt16LE(0, at + 22)),
  entry("another instance", 0, (b, at) => b.writeUInt16LE(99, at + 24)),
  entry("another type", 0, (b, at) => b.writeUInt32LE(0x100, at)),
  entry("type 0", 0, (b, at) => b.writeUInt32LE(0, at)),
  entry("type 2^32-1", 0, (b, at) => b.writeUInt32LE(0xffffffff, at)),
  better(
    "native ends with ERROR(0)",
    file("attribute list of 0 bytes", "big", (r) => {
      const a = r.attribute(0x20);
      if (r.bytes[a + 8] === 0) r.put(a + 16, 4, 0);
      else for (const at of [48, 56]) r.put(a + at, 8, 0);
    }),
  ),
  file("attribute list cut", "big", (r) => {
    const a = r.attribute(0x20);
    if (r.bytes[a + 8] === 0) r.put(a + 16, 4, 50);
    else for (const at of [48, 56]) r.put(a + at, 8, 50);
  }),
  file("attribute list of 2^62 bytes", "big", (r) => {
    const a = r.attribute(0x20);
    if (r.bytes[a + 8] === 0) r.put(a + 16, 4, 0x7fffffff);
    else for (const at of [40, 48, 56]) r.put(a + at, 8, 1n << 62n);
  }),
  {
    title: "attribute list: every entry names the same extent",
    damage: (p) => {
      const l = list(p);
      const start = l.at;
      const first = Buffer.from(l.bytes.subarray(start, start + l.bytes.readUInt16LE(start + 4)));
      const r = p.named("big");
      const a = r.attribute(0x20);
      const size =
        r.bytes[a + 8] === 0 ? r.bytes.readUInt32LE(a + 16) : Number(r.bytes.readBigInt64LE(a + 48));
      for (let at = start; at + first.length <= start + size; at += first.length) first.copy(l.bytes, at);
      l.store();
    },
  },

  index("no magic", (b) => b.writeUInt32LE(0, 0)),
  index("an entry of length 0", (b) => b.writeUInt16LE(0, 24 + b.readUInt32LE(24) + 8)),
  index("an entry of length 65528", (b) => b.writeUInt16LE(65528, 24 + b.readUInt32LE(24) + 8)),
  index("entries at 2^32-8", (b) => b.writeUInt32LE(0xfffffff8, 24)),
  index("index length 2^32-8", (b) => b.writeUInt32LE(0xfffffff8, 28)),
  index("another VCN", (b) => b.writeBigInt64LE(MAX, 16)),
  index("key of 65535 bytes", (b) => b.writeUInt16LE(65535, 24 + b.readUInt32LE(24) + 10)),
];

/** A base volume with one damage done. */
export function broken(base: Buffer, b: Broken): Buffer {
  const p = new DamagedVolume(Buffer.from(base));
  b.damage(p);
  return p.bytes;
}
