// check -r where the file system has no room for new refcounts: an error in qemu-img's words, and
// an image that is no worse.
import { closeSync, openSync, readFileSync, statSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { u32be, u64be } from "../../src/bytes/endian.ts";
import { mount, scratch, sh } from "../support/host.ts";
import { runHere } from "../support/in-process.ts";
import { run } from "../support/native.ts";

const ROOM = 4096;

/** Bytes that are taken from the table or the first block, as text after the name of a case. */
const DAMAGE = {
  "a block of zeros": (fd: number, _table: number, block: number, cs: number) =>
    writeSync(fd, new Uint8Array(cs), 0, cs, block),
  "an empty table": (fd: number, table: number, _block: number, cs: number) =>
    writeSync(fd, new Uint8Array(cs), 0, cs, table),
} as const;

/** Fills a file system but for `left` bytes. */
function fill(path: string, left: number): void {
  const fd = openSync(path, "w");
  const zeros = new Uint8Array(4096);
  try {
    for (;;) writeSync(fd, zeros);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  } finally {
    closeSync(fd);
  }
  truncateSync(path, Math.max(0, statSync(path).size - left));
}

for (const clusterSize of [512, 4096, 65536])
  for (const [name, damage] of Object.entries(DAMAGE))
    test.serial(`no room: clusters of ${clusterSize}, ${name}`, async (t) => {
      const dir = scratch(t, "full");
      const image = join(dir, "i.qcow2");
      sh("qemu-img", "create", "-q", "-f", "qcow2", "-o", `cluster_size=${clusterSize}`, image, "64M");
      sh("qemu-io", "-c", "write -q -P 5 0 3M", "-c", "write -q -P 6 20M 1M", image);
      const head = readFileSync(image);
      const table = u64be(head, 48);
      const fd = openSync(image, "r+");
      damage(fd, table, u64be(head, table), 2 ** u32be(head, 20));
      closeSync(fd);
      const damaged = readFileSync(image);
      const small = mount(t, join(dir, "m"), "-t", "tmpfs", "-o", "size=8m", "none");
      const there = join(small, "i.qcow2");
      writeFileSync(there, damaged);
      fill(join(small, "rest"), clusterSize < 65536 ? 0 : ROOM);

      const errors = async () =>
        (await run("qemu-img", ["check", there])).stderr.split("\n").filter((l) => l.startsWith("ERROR"))
          .length;
      const disk = async (to: string) => {
        await run("qemu-img", ["convert", "-O", "raw", there, join(dir, to)]);
        return readFileSync(join(dir, to));
      };
      const before = await errors();
      const contents = await disk("before.raw");
      const mine = await runHere(["qemu-img", "check", "-r", "all", there], dir);
      t.true((await errors()) <= before);
      t.true((await disk("after.raw")).equals(contents));

      writeFileSync(there, damaged);
      const theirs = await run("qemu-img", ["check", "-r", "all", there]);
      if (theirs.code === null) throw new Error("qemu-img was killed");
      t.is(mine.code, theirs.code, mine.stderr.slice(-300));
      if (name === "a block of zeros") t.is(theirs.code, 1);
      t.is(mine.stdout, theirs.stdout.toString("latin1"));
      t.is(mine.stderr.trimEnd().split("\n").at(-1), theirs.stderr.trimEnd().split("\n").at(-1));
    });
