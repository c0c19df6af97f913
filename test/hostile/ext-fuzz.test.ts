// Volumes with random damage, always the same: a seed names the case.
import { readFileSync } from "node:fs";
import test from "ava";
import { Patch } from "../support/ext-patch.ts";
import { shapeImage, shapeNamed } from "../support/ext-shapes.ts";
import { random } from "../support/ext-tree.ts";
import { facesHostile, forShape, turn, writeVolume } from "../support/hostile.ts";
import { inScratch } from "../support/native.ts";

type Region = (p: Patch) => readonly [from: number, to: number];

const superblock: Region = () => [1024, 1024 + 704];
const descriptors: Region = (p) => [p.descriptor(0), p.descriptor(0) + p.blockSize];
const inodeTable: Region = (p) => {
  const at = p.bytes.readUInt32LE(p.descriptor(0) + 8) * p.blockSize;
  return [at, at + 24 * p.blockSize];
};
const anywhere: Region = (p) => [1024, p.bytes.length];

/** Changes `count` bytes of a region, half of them to the values that break arithmetic. */
function damage(p: Patch, [from, to]: readonly [number, number], seed: number, count: number): void {
  const next = random(seed);
  for (let i = 0; i < count; i++) {
    const at = from + (next() % (to - from));
    p.bytes[at] = next() % 2 ? [0, 1, 0x7f, 0x80, 0xff][next() % 5]! : next() & 255;
  }
}

function fuzz(what: string, region: Region, bases: readonly string[], count: number, seeds: number): void {
  for (const base of bases)
    test(`${what} of ${base} under ${seeds} seeds of random damage`, async (t) => {
      const shape = shapeNamed(base);
      const image = await turn(() => shapeImage(shape));
      const whole = readFileSync(image);
      await Promise.all(
        Array.from({ length: seeds }, (_, i) =>
          turn(() =>
            inScratch("fuzz", async (dir) => {
              const seed = 1000 * (i + 1) + what.length + base.length;
              const p = new Patch(image, Buffer.from(whole));
              damage(p, region(p), seed, count);
              const volume = writeVolume(dir, p.bytes);
              const mode = i % 3 ? "-r" : "-Qa";
              await facesHostile(t, dir, `${what} of ${base}, seed ${seed}`, volume, mode, forShape(shape));
            }),
          ),
        ),
      );
    });
}

// Damage that leaves the magic number alone reaches deeper: few bytes at a time.
fuzz("superblock", superblock, ["ext4-1k", "bigalloc-1k", "meta-bg", "ext2-4k"], 3, 12);
fuzz("descriptors", descriptors, ["ext4-1k", "many-groups", "meta-bg", "bigalloc-4k", "uninit-bg"], 6, 8);
fuzz(
  "inode table",
  inodeTable,
  ["ext4-1k", "ext2-1k", "inline-data", "extents-depth-3", "triple-indirect"],
  60,
  8,
);
fuzz("whole volume", anywhere, ["ext4-4k", "ext3-1k", "aged-ext4"].filter(exists), 4000, 6);

/** The aged volumes need a loop mount and may be left out of the corpus. */
function exists(base: string): boolean {
  return !(process.env["IMPRINT_NO_MOUNT"] === "1" && base.startsWith("aged"));
}
