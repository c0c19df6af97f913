// The example commands of e2image(8), as a shell runs them: the native tool's words replaced by ours, the manual's
// device by a file. What they make must be what the native commands make.
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { shapeImage, shapeNamed } from "../support/ext-shapes.ts";
import { cli, inScratch, must } from "../support/native.ts";

const EXAMPLES = [
  ["e2image -r hda1 - | bzip2 > hda1.e2i.bz2", "hda1.e2i.bz2"],
  ["e2image -Q hda1 hda1.qcow2\nbzip2 -k -z hda1.qcow2", "hda1.qcow2.bz2"],
  ["e2image -r hda1.qcow2 hda1.raw", "hda1.raw"],
  ["e2image -arO 1048576 hda1 img", "img"],
  ["e2image -aro 1048576 img sda1", "sda1"],
] as const;

for (const name of ["ext4-4k", "ext2-1k", "journal-dirty"])
  test(`the manual's examples, ${name}`, (t) =>
    inScratch("manual", async (dir) => {
      const volume = await shapeImage(shapeNamed(name));
      const ours = `e2image() { "${process.execPath}" "${cli}" e2image "$@"; }\nset -e -o pipefail\n`;
      for (const side of ["native", "ours"]) {
        mkdirSync(join(dir, side));
        copyFileSync(volume, join(dir, side, "hda1"));
      }
      for (const [command, output] of EXAMPLES) {
        await must("bash", ["-c", `set -e -o pipefail\n${command}`], { cwd: join(dir, "native") });
        await must("bash", ["-c", ours + command], { cwd: join(dir, "ours") });
        const [a, b] = ["native", "ours"].map((side) => readFileSync(join(dir, side, output)));
        t.true(a.equals(b), command);
        t.true(b.length > 0, command);
      }
    }));
