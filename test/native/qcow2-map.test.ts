// The map of an image against `qemu-img map --output=json` (on dense copies, where holes of the host file
// don't show).
import { closeSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { DATA, HOLE } from "../../src/bytes/runs.ts";
import { inScratch, must } from "../support/native.ts";
import { mapAll, openFile, patchwork, qemuImg, writeBytes } from "../support/qcow2.ts";
import { Random } from "../support/random.ts";

interface Extent {
  start: number;
  length: number;
  depth: number;
  present: boolean;
  zero: boolean;
  data: boolean;
  offset?: number;
}

/** Extents as text, neighbours that say the same merged; `offset` only for data. */
function lines(extents: Extent[]): string[] {
  const out: Extent[] = [];
  for (const e of extents) {
    const offset = e.data ? e.offset : undefined;
    const last = out.at(-1);
    if (
      last !== undefined &&
      last.depth === e.depth &&
      last.present === e.present &&
      last.zero === e.zero &&
      last.data === e.data &&
      (offset === undefined ? last.offset === undefined : last.offset === offset - last.length)
    )
      last.length += e.length;
    else out.push({ ...e, offset });
  }
  return out.map(
    (e) => `${e.start}+${e.length} d${e.depth} ${e.present} ${e.zero} ${e.data} ${e.offset ?? "-"}`,
  );
}

async function sameMap(t: ExecutionContext, dir: string, name: string): Promise<void> {
  const path = join(dir, name);
  const want: Extent[] = JSON.parse((await qemuImg("map", "--output=json", path)).stdout.toString());
  const got: Extent[] = [];
  const { image, close } = await openFile(path);
  const into = new Uint8Array(4096);
  const stored = new Uint8Array(4096);
  let checked = 0;
  await mapAll(image, (runs, i) => {
    const host = runs.host[i];
    got.push({
      start: runs.at[i],
      length: runs.length[i],
      depth: runs.depth[i],
      present: runs.state[i] !== HOLE,
      zero: runs.state[i] !== DATA,
      data: runs.state[i] === DATA,
      offset: host < 0 ? undefined : host,
    });
    if (host >= 0 && checked++ < 200) {
      // What the map says is in a host file must be what a read gives.
      const fd = openSync(runs.files[runs.file[i]].path, "r");
      const n = Math.min(4096, runs.length[i]);
      readSync(fd, stored, 0, n, host);
      closeSync(fd);
      t.is(image.read(into.subarray(0, n), runs.at[i]), n);
      t.is(Buffer.compare(into.subarray(0, n), stored.subarray(0, n)), 0);
    }
  });
  await close();
  t.deepEqual(lines(got), lines(want));
}

/** Replaces an image by a copy of itself without holes. */
async function dense(dir: string, name: string): Promise<void> {
  await must("cp", ["--sparse=never", join(dir, name), join(dir, `${name}.dense`)]);
  await must("mv", [join(dir, `${name}.dense`), join(dir, name)]);
}

for (const options of [
  "compat=0.10",
  "compat=1.1,cluster_size=512",
  "compat=1.1,cluster_size=4096",
  "compat=1.1",
  "extended_l2=on",
  "cluster_size=2097152",
])
  test(options, (t) =>
    inScratch("qcow2", async (dir) => {
      const raw = writeBytes(join(dir, "base.raw"), patchwork(new Random(3), 3_000_320, 4096, 0.6));
      await qemuImg("convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, join(dir, "a.qcow2"));
      await dense(dir, "a.qcow2");
      await sameMap(t, dir, "a.qcow2");
      const q = join(dir, "b.qcow2");
      await qemuImg("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "a.qcow2", "-o", options, q, "20M");
      const io = ["-c", "write -P 1 100k 20k", "-c", "write -P 9 3500k 700k", "-c", "write -P 4 19M 3k"];
      if (!options.startsWith("compat=0.10")) io.push("-c", "write -z 1M 200k", "-c", "discard 2M 128k");
      await must("qemu-io", [...io, q]);
      await dense(dir, "b.qcow2");
      await sameMap(t, dir, "b.qcow2");
    }),
  );

test("an empty image of 1 TiB takes no time", (t) =>
  inScratch("qcow2", async (dir) => {
    const q = join(dir, "a.qcow2");
    await qemuImg("create", "-q", "-f", "qcow2", "-o", "cluster_size=4096", q, "1T");
    await must("qemu-io", ["-c", "write -P 1 700G 64k", "-c", "write -P 1 0 64k", q]);
    const { image, close } = await openFile(q);
    const start = performance.now();
    const states: string[] = [];
    await mapAll(image, (runs, i) => states.push(`${runs.state[i]} ${runs.length[i]}`));
    t.true(performance.now() - start < 1000);
    const gib = 2 ** 30;
    t.deepEqual(states, [
      `${DATA} 65536`,
      `${HOLE} ${700 * gib - 65536}`,
      `${DATA} 65536`,
      `${HOLE} ${324 * gib - 65536}`,
    ]);
    await close();
  }));
