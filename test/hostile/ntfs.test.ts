// Broken NTFS volumes: the reader ends by itself, soon, in bounded memory, with an answer or an error of its own.
import test, { type ExecutionContext } from "ava";
import { FormatError, ImprintError } from "../../src/errors.ts";
import { compareBitmap } from "../../src/fs/ntfs/consistency.ts";
import { NtfsError } from "../../src/fs/ntfs/errors.ts";
import { dropBad, inUse } from "../../src/fs/ntfs/in-use.ts";
import { type NtfsVolume, openNtfs } from "../../src/fs/ntfs/volume.ts";
import { MemorySource } from "../../src/io/memory.ts";
import { baseVolume, broken, brokenVolumes } from "../support/ntfs-broken.ts";
import { DamagedVolume } from "../support/ntfs-damage.ts";
import { Random } from "../support/random.ts";
import { rounds } from "../support/share.ts";

const MOST_MS = 3000;
const MOST_BYTES = 64 << 20;

/** What became of a volume: "" for an answer to everything, else the first error's code. */
async function read(t: ExecutionContext, title: string, bytes: Uint8Array): Promise<string> {
  const source = new MemorySource(bytes, title);
  const codes: string[] = [];
  const step = async (what: string, job: () => Promise<unknown>): Promise<void> => {
    try {
      await job();
    } catch (error) {
      if (!(error instanceof ImprintError)) {
        t.fail(`${title}, ${what}: ${(error as Error).stack}`);
        return;
      }
      if (error instanceof FormatError) t.not(error.structure, "", `${title}, ${what}: no structure`);
      t.not(error.message, "", `${title}, ${what}`);
      codes.push(error.code);
    }
  };
  const before = process.memoryUsage().arrayBuffers;
  const start = process.cpuUsage();
  for (const options of [{}, { strict: true }])
    await step(`open ${JSON.stringify(options)}`, async () => {
      const volume = await openNtfs(source, options);
      if (options.strict === true) return;
      volume.info();
      await step("in use", async () => {
        const used = await inUse(volume);
        await compareBitmap(volume, used);
        dropBad(used);
      });
      let repeated = 0;
      await step("in use, with duplicates", async () => {
        const used = await inUse(volume, { onDuplicate: () => repeated++ });
        t.is(used.duplicates, repeated);
      });
      for (const scope of ["metadata", "data", "used", "all"] as const)
        await step(scope, async () => {
          const selection = await volume.select({ scope, roles: scope === "used" });
          t.true(selection.blocks.limit >= volume.boot.clusters, title);
        });
      await step("files", () => volume.filesOn([[0, bytes.length]]));
      await step("tree", () => readTree(volume));
    });
  const cpu = process.cpuUsage(start);
  const took = (cpu.user + cpu.system) / 1000;
  t.true(took < MOST_MS, `${title}: ${took.toFixed(0)} ms of CPU`);
  const grown = process.memoryUsage().arrayBuffers - before;
  t.true(grown < MOST_BYTES, `${title}: ${grown} bytes more`);
  return codes[0] ?? "";
}

/** Reads every file that the folders lead to; throws the first error after all of them have been tried. */
async function readTree(volume: NtfsVolume): Promise<void> {
  const tree = await volume.tree();
  const seen = new Set([5]);
  const folders = [await tree.node(5)];
  let first: unknown = null;
  const buffer = new Uint8Array(1 << 18);
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    try {
      for (const entry of await tree.list(folder)) {
        if (seen.has(entry.record)) continue;
        seen.add(entry.record);
        try {
          const node = await tree.follow(entry);
          tree.stat(node);
          tree.readLink(node);
          if (node.directory) folders.push(node);
          const stream = tree.open(node);
          if (stream !== null) await tree.read(stream, buffer, 0);
        } catch (error) {
          first ??= error;
        }
      }
    } catch (error) {
      first ??= error;
    }
  }
  if (first !== null) throw first;
}

test.serial("volumes broken by hand", async (t) => {
  t.true(brokenVolumes.length > 300);
  const base = await baseVolume();
  t.is(await read(t, "whole", base), "");
  let refused = 0;
  for (const b of brokenVolumes) if ((await read(t, b.title, broken(base, b))) !== "") refused++;
  t.true(refused > 150 && refused < brokenVolumes.length, `${refused} refused`);
});

test.serial("volumes cut off at every structure", async (t) => {
  const base = await baseVolume();
  const p = new DamagedVolume(Buffer.from(base));
  const cuts = new Set([0, 1, 11, 72, 510, 511, 512, 513, base.length - 1, base.length - 512]);
  for (const at of [p.mft, p.mirror, p.place(3), p.place(6), p.place(24), p.place(100)])
    for (const d of [-1, 0, 1, 511, 512, 1023]) cuts.add(at + d);
  for (const n of [2, 4, 6, 9, 10]) {
    const r = p.record(n);
    const pairs = r.find(0x80);
    if (pairs < 0 || r.bytes[pairs + 8] === 0) continue;
    for (const [lcn, length] of p.runs(r.bytes, r.pairs(0x80)))
      for (const at of [lcn * p.clusterSize, (lcn + length) * p.clusterSize]) cuts.add(at).add(at - 100);
  }
  for (const cut of cuts) {
    const bytes = new Uint8Array(base.subarray(0, Math.max(0, cut)));
    const code = await read(t, `cut at ${cut}`, bytes);
    if (cut < p.mft + 1024) t.not(code, "", `cut at ${cut}`);
  }
});

test.serial("a destroyed boot sector: the copy at the end serves", async (t) => {
  const base = await baseVolume();
  for (const damage of [
    (b: Buffer) => b.fill(0, 0, 512),
    (b: Buffer) => b.fill(0xff, 0, 8192),
    (b: Buffer) => b.writeUInt16LE(0, 11),
  ]) {
    const bytes = Buffer.from(base);
    damage(bytes);
    await t.throwsAsync(openNtfs(new MemorySource(bytes)), { instanceOf: NtfsError });
    const volume = await openNtfs(new MemorySource(bytes), { backupBoot: true });
    t.is(volume.warnings.length, 1);
    const intact = await openNtfs(new MemorySource(base));
    t.is((await inUse(volume)).clusters, (await inUse(intact)).clusters);
  }
});

test.serial("random damage, seeded", async (t) => {
  const base = await baseVolume();
  const p = new DamagedVolume(Buffer.from(base));
  const random = new Random(20220 + 1003);
  const used = p.mftRuns.flatMap(([at, length]) => [at, at + length]);
  for (let round = 0; round < rounds(60, 150); round++) {
    const bytes = Buffer.from(base);
    const flips = 1 + random.below(40);
    for (let i = 0; i < flips; i++) {
      // Mostly where structures are: the boot sector and $MFT, past fixups' reach and within.
      const where = random.below(10);
      const at =
        where === 0
          ? random.below(90)
          : where < 9
            ? used[0] + random.below(Math.min(used[1] - used[0], 140 * 1024))
            : random.below(bytes.length);
      bytes[at] = random.below(2) === 0 ? random.below(256) : bytes[at] ^ (1 << random.below(8));
    }
    await read(t, `random ${round}`, bytes);
  }
});

test.serial("random fields of records, fixups kept valid", async (t) => {
  const base = await baseVolume();
  const random = new Random(77);
  const values = [0, 1, 7, 8, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0xffffffff];
  for (let round = 0; round < rounds(80, 200); round++) {
    const p = new DamagedVolume(Buffer.from(base));
    for (let i = 0; i < 6; i++) {
      const n = random.below(2) === 0 ? random.below(12) : 64 + random.below(70);
      const r = p.record(n);
      const size = [1, 2, 4, 8][random.below(4)];
      r.put(16 + random.below(420), size, values[random.below(values.length)]);
      p.store(r);
    }
    await read(t, `fields ${round}`, p.bytes);
  }
});
