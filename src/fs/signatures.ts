import { u16be, u16le, u32be, u32le, u64be, u64le } from "../bytes/endian.ts";
import { readZeroFilled, type Source } from "../io/source.ts";
import type { InfoField } from "./volume.ts";

/**
 * Contents that are known by their signature only: nothing of them is read but a name and an identity. Signatures and
 * field offsets from the public format descriptions: xfs, btrfs, ocfs2, squashfs, f2fs and erofs (kernel
 * documentation), swap (mkswap(8)), LUKS 1 and 2 (on-disk format specifications), LVM2 labels, exFAT and FAT
 * (Microsoft's specifications), ECMA-119 (ISO 9660), ext journal devices (JBD2).
 */

/** Something recognised. Sizes in bytes, 0 where it does not say. */
export interface Recognised {
  /** "xfs", "LUKS", ... */
  readonly kind: string;
  readonly size: number;
  readonly blockSize: number;
  readonly info: readonly InfoField[];
}

/** Bytes of the start of a source that hold every signature. */
const HEAD = 0x10400;

interface Facts {
  readonly size?: number;
  readonly blockSize?: number;
  readonly label?: string;
  readonly uuid?: string;
}

interface Signature {
  readonly kind: string;
  /** The signature may lie at any of these bytes. */
  readonly at: readonly number[];
  readonly magic: string;
  /** Facts found, or null where it is something else after all. `at` is where the signature lies. */
  readonly read?: (b: Uint8Array, at: number) => Facts | null;
}

const EXT_MAGIC = "\x53\xef";
const EXT_INCOMPAT_JOURNAL_DEVICE = 8;

const SIGNATURES: readonly Signature[] = [
  { kind: "xfs", at: [0], magic: "XFSB", read: xfs },
  { kind: "btrfs", at: [0x10040], magic: "_BHRfS_M", read: btrfs },
  { kind: "ocfs2", at: [1024, 2048, 4096, 8192], magic: "OCFSV2", read: ocfs2 },
  { kind: "ext journal", at: [1024 + 56], magic: EXT_MAGIC, read: extJournal },
  { kind: "LUKS", at: [0], magic: "LUKS\xba\xbe", read: luks },
  { kind: "LVM2 physical volume", at: [0, 512, 1024, 1536], magic: "LABELONE", read: lvm },
  { kind: "swap", at: [4086, 8182, 16374, 32758, 65526], magic: "SWAPSPACE2", read: swap },
  { kind: "exFAT", at: [3], magic: "EXFAT   ", read: exfat },
  { kind: "BitLocker", at: [3], magic: "-FVE-FS-" },
  { kind: "FAT32", at: [82], magic: "FAT32   ", read: (b) => fat(b, 71, 67) },
  { kind: "FAT16", at: [54], magic: "FAT16   ", read: (b) => fat(b, 43, 39) },
  { kind: "FAT12", at: [54], magic: "FAT12   ", read: (b) => fat(b, 43, 39) },
  { kind: "squashfs", at: [0], magic: "hsqs", read: squashfs },
  { kind: "cramfs", at: [0], magic: "\x45\x3d\xcd\x28", read: (b) => ({ label: text(b, 48, 16) }) },
  { kind: "ISO 9660", at: [32768], magic: "\x01CD001", read: iso9660 },
  { kind: "f2fs", at: [1024], magic: "\x10\x20\xf5\xf2" },
  { kind: "erofs", at: [1024], magic: "\xe2\xe1\xf5\xe0" },
  { kind: "APFS", at: [32], magic: "NXSB" },
  { kind: "JFS", at: [32768], magic: "JFS1" },
  { kind: "ReiserFS", at: [65536 + 52], magic: "ReIsEr2Fs" },
  { kind: "ReiserFS", at: [65536 + 52], magic: "ReIsEr3Fs" },
  { kind: "Linux RAID member", at: [0, 4096], magic: "\xfc\x4e\x2b\xa9\x01\x00\x00\x00" },
  { kind: "gzip data", at: [0], magic: "\x1f\x8b\x08" },
  { kind: "xz data", at: [0], magic: "\xfd7zXZ\x00" },
  { kind: "zstd data", at: [0], magic: "\x28\xb5\x2f\xfd" },
  { kind: "VMDK image", at: [0], magic: "KDMV" },
  { kind: "VHDX image", at: [0], magic: "vhdxfile" },
  { kind: "VDI image", at: [64], magic: "\x7f\x10\xda\xbe" },
];

/**
 * What a source that no reader of this engine knows holds, by its signature; null where that says nothing certain.
 * Reads only the source's start. Throws IoError from the source.
 */
export async function recognise(source: Source): Promise<Recognised | null> {
  const b = await readZeroFilled(source, 0, HEAD);
  for (const { kind, at, magic, read } of SIGNATURES)
    for (const place of at) {
      if (!has(b, place, magic)) continue;
      const facts = read === undefined ? {} : read(b, place);
      if (facts === null) continue;
      const info: InfoField[] = [];
      if (facts.label !== undefined) info.push({ key: "label", label: "Label", value: facts.label });
      if (facts.uuid !== undefined) info.push({ key: "uuid", label: "UUID", value: facts.uuid });
      return { kind, size: facts.size ?? 0, blockSize: facts.blockSize ?? 0, info };
    }
  return null;
}

function has(b: Uint8Array, at: number, magic: string): boolean {
  for (let i = 0; i < magic.length; i++) if (b[at + i] !== magic.charCodeAt(i)) return false;
  return true;
}

/** UTF-8 text of a field that ends at a zero byte. */
function text(b: Uint8Array, at: number, length: number): string {
  const field = b.subarray(at, at + length);
  const end = field.indexOf(0);
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
}

function uuid(b: Uint8Array, at: number): string {
  const hex = Array.from(b.subarray(at, at + 16), (v) => v.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

function isPowerOfTwo(v: number, from: number, to: number): boolean {
  return v >= from && v <= to && (v & (v - 1)) === 0;
}

function xfs(b: Uint8Array): Facts | null {
  const blockSize = u32be(b, 4);
  if (!isPowerOfTwo(blockSize, 512, 65536)) return null;
  return { size: u64be(b, 8) * blockSize, blockSize, label: text(b, 108, 12), uuid: uuid(b, 32) };
}

function btrfs(b: Uint8Array): Facts {
  const at = 0x10000;
  return {
    size: u64le(b, at + 0x70),
    blockSize: u32le(b, at + 0x90),
    label: text(b, at + 0x12b, 256),
    uuid: uuid(b, at + 0x20),
  };
}

/** The superblock is the inode in the third block; its own fields start at byte 0xC0. */
function ocfs2(b: Uint8Array, at: number): Facts | null {
  const blockBits = u32le(b, at + 0xc0 + 0x38);
  if (2 ** blockBits * 2 !== at) return null;
  const clusterBits = u32le(b, at + 0xc0 + 0x3c);
  return {
    size: clusterBits <= 20 ? u32le(b, at + 0x14) * 2 ** clusterBits : 0,
    blockSize: 2 ** blockBits,
    label: text(b, at + 0xc0 + 0x50, 64),
    uuid: uuid(b, at + 0xc0 + 0x90),
  };
}

function extJournal(b: Uint8Array): Facts | null {
  const at = 1024;
  if ((u32le(b, at + 96) & EXT_INCOMPAT_JOURNAL_DEVICE) === 0) return null;
  const log = u32le(b, at + 24);
  if (log > 6) return null;
  const blockSize = 1024 << log;
  return {
    size: u32le(b, at + 4) * blockSize,
    blockSize,
    label: text(b, at + 120, 16),
    uuid: uuid(b, at + 104),
  };
}

function luks(b: Uint8Array): Facts | null {
  const version = u16be(b, 6);
  if (version === 1) return { uuid: text(b, 168, 40) };
  return version === 2 ? { label: text(b, 24, 48), uuid: text(b, 168, 40) } : null;
}

/** The label names its own sector; the header it points to starts with the volume's identity. */
function lvm(b: Uint8Array, at: number): Facts | null {
  if (u64le(b, at + 8) * 512 !== at || !has(b, at + 24, "LVM2 001")) return null;
  const header = at + u32le(b, at + 20);
  if (header + 40 > b.length) return {};
  const id = text(b, header, 32);
  const parts = [6, 10, 14, 18, 22, 26, 32].map((end, i, ends) => id.slice(i === 0 ? 0 : ends[i - 1], end));
  return { size: u64le(b, header + 32), uuid: parts.join("-") };
}

function swap(b: Uint8Array, at: number): Facts {
  const page = at + 10;
  return {
    size: (u32le(b, 1028) + 1) * page,
    blockSize: page,
    label: text(b, 1052, 16),
    uuid: uuid(b, 1036),
  };
}

function serial(b: Uint8Array, at: number): string {
  const hex = u32le(b, at).toString(16).toUpperCase().padStart(8, "0");
  return `${hex.slice(0, 4)}-${hex.slice(4)}`;
}

function exfat(b: Uint8Array): Facts | null {
  const sector = b[108];
  if (u16le(b, 510) !== 0xaa55 || sector < 9 || sector > 12 || sector + b[109] > 25) return null;
  return { size: u64le(b, 72) * 2 ** sector, blockSize: 2 ** (sector + b[109]), uuid: serial(b, 100) };
}

function fat(b: Uint8Array, labelAt: number, serialAt: number): Facts | null {
  const sector = u16le(b, 11);
  if (u16le(b, 510) !== 0xaa55 || (b[0] !== 0xeb && b[0] !== 0xe9)) return null;
  if (!isPowerOfTwo(sector, 512, 4096) || !isPowerOfTwo(b[13], 1, 128) || u16le(b, 14) === 0) return null;
  const label = text(b, labelAt, 11).trimEnd();
  return {
    size: (u16le(b, 19) || u32le(b, 32)) * sector,
    blockSize: sector * b[13],
    label: label === "NO NAME" ? "" : label,
    uuid: serial(b, serialAt),
  };
}

function squashfs(b: Uint8Array): Facts | null {
  return u16le(b, 28) === 4 ? { size: u64le(b, 40), blockSize: u32le(b, 12) } : null;
}

function iso9660(b: Uint8Array): Facts {
  const at = 32768;
  const blockSize = u16le(b, at + 128);
  return { size: u32le(b, at + 80) * blockSize, blockSize, label: text(b, at + 40, 32).trimEnd() };
}
