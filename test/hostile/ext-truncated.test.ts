// Volumes that end too early. The native tool puts zeros where it cannot read and says all is well; ours makes the same
// image and exits 1, or 0 when told to with --ignore-read-errors.
import { copyFileSync, existsSync, mkdirSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { shapeImage, shapeNamed } from "../support/ext-shapes.ts";
import { endsWell, facesHostile, forShape, turn } from "../support/hostile.ts";
import { fileDifference, imprint, inScratch, run } from "../support/native.ts";

const CUTS = [0, 1, 1023, 1024, 1500, 2047, 2048, 3000, 4096, 70_001, 300_000, 1_000_000, 3_000_000];

for (const base of ["ext4-1k", "ext2-4k", "bigalloc-4k", "meta-bg"])
  test(`${base} cut short at ${CUTS.length} points`, (t) =>
    turn(async () => {
      const shape = shapeNamed(base);
      const image = await shapeImage(shape);
      const size = readFileSync(image).length;
      await inScratch("cut", async (dir) => {
        const volume = join(dir, "volume.img");
        for (const cut of [...CUTS, size - 1, size - 1024]) {
          copyFileSync(image, volume);
          truncateSync(volume, cut);
          for (const mode of ["-r", "-Qa"])
            await facesHostile(t, dir, `${base} cut at ${cut}`, volume, mode, {
              ...forShape(shape),
              differs: "what cannot be read makes exit 1",
            });
        }
      });
    }));

for (const base of ["ext4-1k", "ext2-4k", "ext4-4k"])
  test(`${base} cut short, with --ignore-read-errors: zeros for what is missing, as native e2image does`, (t) =>
    turn(async () => {
      const image = await shapeImage(shapeNamed(base));
      await inScratch("ignore", async (dir) => {
        const volume = join(dir, "volume.img");
        const [ours, native, folder] = [join(dir, "out/ours"), join(dir, "native"), join(dir, "out")];
        for (const cut of [300_000, 1_000_000, 3_000_001]) {
          copyFileSync(image, volume);
          truncateSync(volume, cut);
          for (const mode of ["-r", "-ra"]) {
            const label = `${base} cut at ${cut}, ${mode}`;
            await run("rm", ["-rf", folder, native]);
            mkdirSync(folder);
            const n = await run("e2image", [mode, volume, native]);
            const r = await imprint(["e2image", "--ignore-read-errors", mode, volume, ours], {
              watchMemory: true,
            });
            endsWell(t, label, r, folder);
            if (n.code !== 0) continue;
            t.is(r.code, 0, `${label}: ${r.stderr.slice(0, 300)}`);
            if (existsSync(ours)) t.is(fileDifference(native, ours), null, label);
          }
        }
      });
    }));
