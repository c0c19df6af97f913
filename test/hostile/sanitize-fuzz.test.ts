// Damaged metadata under the sanitiser: an image or a typed error, soon, and no kernel memory lost.
import { readFileSync } from "node:fs";
import test from "ava";
import { sanitize } from "../../src/engine/sanitize.ts";
import { ImprintError } from "../../src/errors.ts";
import { openExt } from "../../src/fs/ext/volume.ts";
import { MemorySource } from "../../src/io/memory.ts";
import { Kernel } from "../../src/kernel/kernel.ts";
import { shapeImage, shapeNamed } from "../support/ext-shapes.ts";
import { Random } from "../support/random.ts";
import { rounds } from "../support/share.ts";

const UNIT = 1024;
const ROUNDS = rounds(8, 20);
const MOST_MS = 10_000;
const SHAPES = [
  "ext4-1k",
  "inline-data",
  "xattr-blocks",
  "htree-2-levels",
  "ea-inode",
  "casefold",
  "ext2-1k",
];

/** Whether the kernel can still hand out what it could before. */
function room(): number {
  const kernel = Kernel.get();
  const taken = [];
  for (let size = 1 << 22; size >= 1 << 12; size >>= 1)
    try {
      for (;;) taken.push(kernel.take(size));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  const sum = taken.reduce((n, s) => n + s.bytes.length, 0);
  for (const slot of taken) kernel.give(slot);
  return sum;
}

for (const name of [...SHAPES, "journal-dirty"]) {
  if (name === "journal-dirty" && process.env["IMPRINT_NO_MOUNT"] === "1") continue;
  test.serial(`${name} under ${ROUNDS} seeds of random damage`, async (t) => {
    const whole = readFileSync(await shapeImage(shapeNamed(name)));
    const clean = await openExt(new MemorySource(whole));
    const { blocks } = await clean.select({ scope: "metadata", complete: true });
    const units: number[] = [];
    for (let u = 2; u * UNIT < whole.length; u++) {
      if (!blocks.has(Math.floor((u * UNIT) / clean.blockSize))) continue;
      if (whole.subarray(u * UNIT, (u + 1) * UNIT).some((b) => b !== 0)) units.push(u);
    }
    const before = room();
    for (let seed = 1; seed <= ROUNDS; seed++) {
      const random = new Random(seed * 7919 + name.length);
      const b = Buffer.from(whole);
      for (let n = 1 + random.below(40); n > 0; n--) {
        const at = units[random.below(units.length)] * UNIT + random.below(UNIT);
        b[at] = random.below(2) ? [0, 1, 0x7f, 0x80, 0xff][random.below(5)] : random.below(256);
      }
      const start = performance.now();
      try {
        const volume = await openExt(new MemorySource(b));
        const image = await sanitize(volume, { seed: "f", journal: seed % 2 ? "replay" : "drop" });
        try {
          const report = await image.report(null);
          const found = report.search.found.filter((f) => f.text !== "pipe");
          if (found.length > 0) t.log(`${name}, seed ${seed}: ${JSON.stringify(found)}`);
        } finally {
          image.close();
        }
      } catch (error) {
        t.true(error instanceof ImprintError, `${name}, seed ${seed}: ${(error as Error).stack}`);
      }
      t.true(performance.now() - start < MOST_MS, `${name}, seed ${seed}: too slow`);
      t.is(room(), before, `${name}, seed ${seed}: kernel memory lost`);
    }
  });
}
