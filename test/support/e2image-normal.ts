// Comparing normal e2image images, and volumes that one was installed on, without what no two runs have in common.
import { readFileSync } from "node:fs";

/**
 * Header fields that differ between two right images: the device name as it was typed, device and inode number of the
 * image file, the time.
 */
const VOLATILE_HEADER = [
  [124, 188],
  [240, 256],
] as const;

/**
 * Superblock fields that installing sets from the clock (s_wtime and its high byte) and from how much it wrote
 * (s_kbytes_written), and the checksum over them.
 */
const VOLATILE_SUPERBLOCK = [
  [48, 52],
  [376, 384],
  [628, 629],
  [1020, 1024],
] as const;

const SUPERBLOCK = 1024;

function masked(bytes: Buffer, base: number, ranges: readonly (readonly [number, number])[]): Buffer {
  for (const [from, to] of ranges) bytes.fill(0, base + from, base + to);
  return bytes;
}

/** An image's bytes without its volatile header fields. */
export function imageBytes(file: string | Buffer): Buffer {
  return masked(typeof file === "string" ? readFileSync(file) : Buffer.from(file), 0, VOLATILE_HEADER);
}

/** A volume's bytes without the superblock fields that installing changes. */
export function volumeBytes(file: string): Buffer {
  return masked(readFileSync(file), SUPERBLOCK, VOLATILE_SUPERBLOCK);
}

/** Null where the bytes are the same, else where they differ first. */
export function difference(a: Buffer, b: Buffer): string | null {
  if (a.equals(b)) return null;
  if (a.length !== b.length) return `sizes ${a.length} and ${b.length}`;
  let i = 0;
  while (a[i] === b[i]) i++;
  return `first difference at byte ${i} of ${a.length}`;
}

/** Shapes that differ in what a normal image holds: layout, features, block and inode sizes, damage of files. */
export const NORMAL_SHAPES = [
  "ext4-1k",
  "ext4-4k",
  "ext4-64k",
  "ext2-1k",
  "ext2-revision-0",
  "ext3-1k",
  "no-64bit",
  "descriptors-128-bytes",
  "meta-bg",
  "meta-bg-32-bit-descriptors",
  "resized-up-meta-bg",
  "sparse-super2",
  "no-flex-bg",
  "uninit-bg",
  "metadata-csum-seed",
  "partial-last-group",
  "many-groups",
  "inode-128",
  "inode-1024",
  "bigalloc-4k",
  "bigalloc-1k",
  "bigalloc-no-64bit-1k",
  "mmp",
  "journal-dirty",
  "orphans-in-orphan-file",
  "bad-blocks-many",
  "trailing-junk",
  "boot-block-junk-4k",
  "tiny-ext2",
] as const;
