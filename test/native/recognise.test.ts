// What no reader of ours knows is known by its name: against what the native tools wrote and what blkid says of it.
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { putU16le, putU32le, putU64le } from "../../src/bytes/endian.ts";
import { scratch, sparse } from "../support/host.ts";
import { imprint, must } from "../support/native.ts";

const MIB = 1 << 20;
const UUID = "5d2c3b1a-1234-4321-8765-0123456789ab";

interface Found {
  readonly kind: string;
  readonly supported: boolean;
  readonly size: number;
  readonly label?: string;
  readonly uuid?: string;
  readonly truncated?: number;
}

async function found(t: ExecutionContext, file: string): Promise<Found | null> {
  const r = await imprint(["info", "--json", file]);
  t.is(r.code, 0, r.stderr);
  return (JSON.parse(r.stdout.toString()) as { filesystem: Found | null }).filesystem;
}

/** Type, label and UUID by blkid. */
async function blkid(file: string): Promise<Record<string, string>> {
  const r = await must("blkid", ["--probe", "--output", "export", file]);
  const lines = r.stdout.toString().trim().split("\n");
  return Object.fromEntries(lines.map((l) => [l.slice(0, l.indexOf("=")), l.slice(l.indexOf("=") + 1)]));
}

/** Ours against blkid's; a label of neither is none. */
async function sameAsBlkid(t: ExecutionContext, file: string, kind: string, type: string): Promise<Found> {
  const [ours, native] = [await found(t, file), await blkid(file)];
  t.is(native.TYPE, type);
  t.is(ours?.kind, kind);
  t.false(ours!.supported);
  const label = native.LABEL ?? native.LABEL_FATBOOT ?? "";
  t.is(ours!.label ?? "", label.replaceAll("\\ ", " "));
  if (ours!.uuid !== undefined) t.is(ours!.uuid, native.UUID);
  return ours!;
}

interface Made {
  readonly kind: string;
  readonly type: string;
  readonly size: number;
  readonly make: readonly string[];
}

const MADE: readonly Made[] = [
  { kind: "xfs", type: "xfs", size: 320 * MIB, make: ["mkfs.xfs", "-q", "-f", "-L", "a label"] },
  { kind: "btrfs", type: "btrfs", size: 128 * MIB, make: ["mkfs.btrfs", "-q", "-f", "-L", "a label"] },
  {
    kind: "ocfs2",
    type: "ocfs2",
    size: 64 * MIB,
    make: [
      "mkfs.ocfs2",
      "-q",
      "-F",
      "--fs-features=local",
      "-b",
      "2048",
      "-C",
      "8192",
      "-J",
      "size=4M",
      "-L",
      "lab",
    ],
  },
  { kind: "swap", type: "swap", size: 4 * MIB, make: ["mkswap", "-L", "a label", "-U", UUID] },
  { kind: "swap", type: "swap", size: 4 * MIB, make: ["mkswap", "-p", "65536", "-L", "large"] },
  {
    kind: "ext journal",
    type: "jbd",
    size: 16 * MIB,
    make: ["mke2fs", "-q", "-F", "-O", "journal_dev", "-b", "4096", "-L", "log"],
  },
];

for (const { kind, type, size, make } of MADE)
  test(`${make.join(" ")}: recognised, with its label, UUID and size`, async (t) => {
    const file = sparse(join(scratch(t, "recognise"), "volume"), size);
    await must(make[0], [...make.slice(1), file]);
    const { size: said } = await sameAsBlkid(t, file, kind, type);
    t.is(said, size);
    const capture = await imprint(["capture", file, `${file}.img`]);
    t.is(capture.code, 1);
    t.is(
      capture.stderr,
      `imprint capture: ${file}: ${kind}, which cannot be read; take every byte with --all\n`,
    );
    truncateSync(file, size - MIB);
    t.is((await found(t, file))?.truncated, MIB);
    const text = (await imprint(["info", file])).stdout.toString();
    t.true(text.includes(`\nContents: ${kind}, which this version does not read\n`), text);
    t.regex(text, /\n {2}Truncated by: +1 MiB \(1048576 bytes\)\n/);
  });

/** A boot sector of FAT: 512 bytes a sector, `sectors` of them. */
function fat(name: string, at: number, sectors: number): Uint8Array {
  const b = new Uint8Array(sectors * 512);
  b.set([0xeb, 0x3c, 0x90]);
  text(b, 3, "mkfs.fat");
  putU16le(b, 11, 512);
  b[13] = 4;
  putU16le(b, 14, 1);
  b[16] = 2;
  if (at === 54) {
    putU16le(b, 17, 512);
    putU16le(b, 22, 64);
  } else {
    putU16le(b, 14, 32);
    putU32le(b, 36, 64);
    putU32le(b, 44, 2);
  }
  b[21] = 0xf8;
  putU32le(b, 32, sectors);
  b[at - 16] = 0x29;
  putU32le(b, at - 15, 0x1234abcd);
  text(b, at - 11, "A LABEL    ");
  text(b, at, name);
  putU16le(b, 510, 0xaa55);
  return b;
}

function text(b: Uint8Array, at: number, s: string): void {
  b.set(Buffer.from(s, "latin1"), at);
}

function luks(version: number): Uint8Array {
  const b = new Uint8Array(4 * MIB);
  text(b, 0, "LUKS\xba\xbe");
  b[7] = version;
  if (version === 2) text(b, 24, "a label");
  text(b, 168, UUID);
  return b;
}

function lvm(): Uint8Array {
  const b = new Uint8Array(4 * MIB);
  const at = 512;
  text(b, at, "LABELONE");
  putU64le(b, at + 8, 1);
  putU32le(b, at + 20, 32);
  text(b, at + 24, "LVM2 001");
  text(b, at + 32, "abcdefghijklmnopqrstuvwxyz012345");
  putU64le(b, at + 64, b.length);
  let crc = 0xf597a6cf;
  for (let i = at + 20; i < at + 512; i++) {
    crc ^= b[i];
    for (let k = 0; k < 8; k++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  putU32le(b, at + 16, crc >>> 0);
  return b;
}

function iso(): Uint8Array {
  const b = new Uint8Array(MIB);
  text(b, 32768, "\x01CD001\x01");
  text(b, 32768 + 40, "A LABEL".padEnd(32));
  putU32le(b, 32768 + 80, 512);
  putU16le(b, 32768 + 128, 2048);
  text(b, 34816, "\xffCD001\x01");
  return b;
}

function squashfs(): Uint8Array {
  const b = new Uint8Array(MIB);
  text(b, 0, "hsqs");
  putU32le(b, 12, 131072);
  putU16le(b, 28, 4);
  putU64le(b, 40, MIB);
  return b;
}

function exfat(): Uint8Array {
  const b = new Uint8Array(8 * MIB);
  b.set([0xeb, 0x76, 0x90]);
  text(b, 3, "EXFAT   ");
  putU64le(b, 72, b.length / 512);
  putU32le(b, 80, 128);
  putU32le(b, 84, 64);
  putU32le(b, 88, 256);
  putU32le(b, 92, 1900);
  putU32le(b, 96, 2);
  putU32le(b, 100, 0x89abcdef);
  b[105] = 1;
  b[108] = 9;
  b[109] = 3;
  b[110] = 1;
  putU16le(b, 510, 0xaa55);
  return b;
}

const WRITTEN: readonly (readonly [kind: string, type: string, size: number, bytes: () => Uint8Array])[] = [
  ["FAT12", "vfat", 4 * MIB, () => fat("FAT12   ", 54, 8192)],
  ["FAT16", "vfat", 20 * MIB, () => fat("FAT16   ", 54, 40960)],
  ["FAT32", "vfat", 140 * MIB, () => fat("FAT32   ", 82, 286720)],
  ["exFAT", "exfat", 8 * MIB, exfat],
  ["LUKS", "crypto_LUKS", 0, () => luks(1)],
  ["LUKS", "crypto_LUKS", 0, () => luks(2)],
  ["LVM2 physical volume", "LVM2_member", 4 * MIB, lvm],
  ["squashfs", "squashfs", MIB, squashfs],
  ["ISO 9660", "iso9660", MIB, iso],
];

for (const [i, [kind, type, size, bytes]] of WRITTEN.entries())
  test(`${kind} (${i}), written by hand: recognised as blkid does`, async (t) => {
    const file = join(scratch(t, "recognise"), "volume");
    writeFileSync(file, bytes());
    t.is((await sameAsBlkid(t, file, kind, type)).size, size);
  });

test("contents of a partition are recognised; nothing is where nothing certain is", async (t) => {
  const dir = scratch(t, "recognise");
  const disk = sparse(join(dir, "disk"), 16 * MIB);
  await must("sfdisk", ["--quiet", disk], { input: "label: dos\n2048 8192 82\n16384 8192 83\n" });
  const swap = sparse(join(dir, "swap"), 4 * MIB);
  await must("mkswap", ["-L", "a label", swap]);
  await must("dd", [`if=${swap}`, `of=${disk}`, "bs=1M", "seek=1", "conv=notrunc", "status=none"]);
  const r = await imprint(["info", "--json", disk]);
  const { partitions } = JSON.parse(r.stdout.toString()) as { partitions: { filesystem: Found | null }[] };
  t.is(partitions[0].filesystem?.kind, "swap");
  t.is(partitions[0].filesystem?.label, "a label");
  t.is(partitions[1].filesystem, null);
  for (const size of [0, 1, 511, 4096, 100_000]) {
    writeFileSync(join(dir, "none"), Buffer.alloc(size, 0x5a));
    t.is(await found(t, join(dir, "none")), null, `${size} bytes`);
  }
});

test("an ext4 volume that was cut off says how much is missing", async (t) => {
  const file = sparse(join(scratch(t, "recognise"), "volume"), 32 * MIB);
  await must("mke2fs", ["-q", "-F", "-t", "ext4", file]);
  t.is((await found(t, file))?.truncated, undefined);
  truncateSync(file, 20 * MIB);
  const cut = await found(t, file);
  t.is(cut?.truncated, 12 * MIB);
  t.true(cut?.supported);
});

test("NTFS has no native selection of e2image's: refused, nothing written", async (t) => {
  const dir = scratch(t, "recognise");
  const file = sparse(join(dir, "volume"), 8 * MIB);
  await must("mkntfs", ["-F", "-q", "-s", "512", "-p", "0", "-H", "0", "-S", "0", file]);
  const out = join(dir, "out.img");
  const refused = await imprint(["capture", "--native-selection", file, out]);
  t.is(refused.code, 1);
  t.is(
    refused.stderr,
    `imprint capture: ${file}: the native selection is that of e2image, which does not read ntfs\n`,
  );
  const all = await imprint(["capture", "--all", "--native-selection", file, out]);
  t.is(all.code, 2);
  t.regex(all.stderr, /--all takes every block: not with --native-selection/);
  t.is((await imprint(["capture", file, out])).code, 0);
});
