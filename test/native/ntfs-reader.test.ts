// What the NTFS reader finds, against what the native tools say.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { compareBitmap, differenceError, differenceLines } from "../../src/fs/ntfs/consistency.ts";
import { NtfsError } from "../../src/fs/ntfs/errors.ts";
import { dropBad, inUse } from "../../src/fs/ntfs/in-use.ts";
import { checkVersion, type NtfsVolume, openNtfs } from "../../src/fs/ntfs/volume.ts";
import { MemorySource } from "../../src/io/memory.ts";
import { openFileSource } from "../../src/io/node/file-source.ts";
import type { Source } from "../../src/io/source.ts";
import { imprint, inScratch, limiter, must, run } from "../support/native.ts";
import { type Broken, baseVolume, broken, brokenVolumes } from "../support/ntfs-broken.ts";
import { ntfsShapeImage, ntfsShapeNamed, ntfsShapes } from "../support/ntfs-shapes.ts";
import { type ClusterRuns, runsOf, savedClusters } from "../support/ntfs-used.ts";
import { inShare } from "../support/share.ts";

const turn = limiter(2);

/** What `ntfsinfo -m` calls a fact, and what it has for it. */
function facts(volume: NtfsVolume): [string, string][] {
  const { boot, version } = volume;
  return [
    ["Volume Name", volume.label],
    ["Volume Version", `${version.major}.${version.minor}`],
    ["Sector Size", `${boot.bytesPerSector}`],
    ["Cluster Size", `${boot.clusterSize}`],
    ["Index Block Size", `${boot.indexBlockSize}`],
    ["Volume Size in Clusters", `${boot.clusters}`],
    ["MFT Record Size", `${boot.recordSize}`],
    ["LCN of Data Attribute for FILE_MFT", `${boot.mftLcn}`],
    ["LCN of Data Attribute for File_MFTMirr", `${boot.mirrorLcn}`],
  ];
}

for (const shape of ntfsShapes)
  test(`${shape.name}: clusters in use, metadata clusters and facts are native's`, (t) =>
    turn(async () => {
      const image = await ntfsShapeImage(shape);
      await inScratch("ntfs-reader", async (dir) => {
        const source = openFileSource(image);
        try {
          const volume = await openNtfs(source, { strict: true });
          const info = (await run("ntfsinfo", ["-f", "-m", image])).stdout.toString();
          for (const [name, value] of facts(volume)) {
            const line = info.split("\n").find((l) => l.trim().startsWith(`${name}:`));
            t.is(line?.slice(line.indexOf(":") + 1).trim(), value, name);
          }
          const used = await inUse(volume);
          const difference = await compareBitmap(volume, used);
          const needs = shape.needs === "" ? [] : shape.needs.split(" ");
          if (difference.total === 0) {
            t.deepEqual(differenceLines(difference), []);
            const saved = join(dir, "saved");
            await must("ntfsclone", ["-q", ...needs, "-s", "-o", saved, image]);
            const want = savedClusters(saved);
            t.is(dropBad(used), want.inUse, "count of clusters in use");
            t.deepEqual(runsOf(used.blocks), want.runs, "clusters in use");
          }
          const metadata = join(dir, "metadata");
          const kept = await run("ntfsclone", ["-q", ...needs, "-m", "-s", "-o", metadata, image]);
          if (kept.code !== 0) return;
          const selection = await volume.select({ scope: "metadata", roles: true });
          // With --ignore-fs-check native takes what $Bitmap alone knows as well.
          selection.blocks.union(difference.extra);
          t.deepEqual(
            inside(runsOf(selection.blocks), volume.boot.clusters),
            inside(savedClusters(metadata).runs, volume.boot.clusters),
            "metadata clusters",
          );
        } finally {
          await source.close();
        }
      });
    }));

/** Runs, without the piece after the last cluster. */
function inside(runs: ClusterRuns, clusters: number): ClusterRuns {
  return runs.filter(([from]) => from < clusters).map(([from, to]) => [from, Math.min(to, clusters)]);
}

test("imprint reads NTFS: info and capture, of a partition of type 7 too", (t) =>
  turn(async () => {
    const image = await ntfsShapeImage(ntfsShapeNamed("c2k-odd-size"));
    await inScratch("ntfs-capture", async (dir) => {
      const volume = readFileSync(image);
      const disk = Buffer.alloc((1 << 20) + volume.length);
      volume.copy(disk, 1 << 20);
      disk.writeUInt16LE(0xaa55, 510);
      disk[446 + 4] = 7;
      disk.writeUInt32LE(2048, 446 + 8);
      disk.writeUInt32LE(volume.length >> 9, 446 + 12);
      const path = join(dir, "disk");
      writeFileSync(path, disk);
      const info = JSON.parse((await imprint(["info", "--json", path])).stdout.toString());
      t.regex(JSON.stringify(info), /"kind":"ntfs"/);
      const saved = join(dir, "saved");
      await must("ntfsclone", ["-q", "-s", "-o", saved, image]);
      for (const from of [image, path]) {
        const captured = join(dir, "captured");
        const r = await imprint(["capture", "--used", "--format", "raw", "--force", from, captured]);
        t.is(r.code, 0, r.stderr);
        await must("ntfsclone", ["-q", "-s", "-O", `${saved}2`, captured]);
        t.deepEqual(savedClusters(`${saved}2`), savedClusters(saved));
        const b = readFileSync(captured);
        const { runs } = savedClusters(saved);
        for (const [first, end] of runs)
          t.true(
            b
              .subarray(first * 2048, end * 2048)
              .equals(volume.subarray(first * 2048, Math.min(end * 2048, b.length))),
          );
      }
      const metadata = await imprint(["capture", "--metadata", image, join(dir, "metadata.raw")]);
      t.is(metadata.code, 0);
      t.regex(metadata.stderr, /contents of small files/);
    });
  }));

/** What ours makes of a volume: runs, or the error that native would end with. */
async function ours(source: Source): Promise<ClusterRuns | NtfsError> {
  try {
    const volume = await openNtfs(source, { strict: true });
    checkVersion(volume);
    if (volume.boot.clusters * volume.boot.clusterSize > source.size)
      return new NtfsError("NTFS_BAD_BOOT", "NTFS volume", -1, "larger than its device", {
        text: "Current NTFS volume size is bigger than the device size",
        errno: 0,
      });
    const used = await inUse(volume);
    const difference = await compareBitmap(volume, used);
    if (difference.total > 0) {
      const error = differenceError(difference);
      const text = [...differenceLines(difference), error.nativeText].join("\n");
      return new NtfsError(error.code, error.structure, error.offset, "", { text, errno: 0 });
    }
    dropBad(used);
    return runsOf(used.blocks);
  } catch (error) {
    if (error instanceof NtfsError) return error;
    throw error;
  }
}

async function facesNative(t: ExecutionContext, dir: string, b: Broken, bytes: Buffer): Promise<void> {
  const volume = join(dir, "volume");
  const saved = join(dir, `saved${b.title.replace(/[^a-z0-9]/gi, "-")}`);
  writeFileSync(volume, bytes);
  const mine = await ours(new MemorySource(bytes));
  const native = await run(
    "bash",
    ["-c", 'ulimit -v 4000000; exec ntfsclone -f -q -s -o "$@"', "sh", saved, volume],
    {
      timeoutMs: 20_000,
    },
  );
  if (native.code === 0) {
    t.false(mine instanceof NtfsError, `${b.title}: native saves it, ours says ${mine}`);
    t.deepEqual(mine, savedClusters(saved).runs, `${b.title}: another set of clusters`);
    return;
  }
  const said = native.stdout.toString() + native.stderr;
  if (!(mine instanceof NtfsError)) return t.fail(`${b.title}: native refuses it: ${said.slice(0, 500)}`);
  for (const line of mine.nativeText.split("\n"))
    t.true(said.includes(line), `${b.title}: native does not say "${line}" but ${said.slice(-500)}`);
  const errno = /ERROR\((\d+)\)/.exec(said)?.[1] ?? "0";
  t.is(mine.errno, Number(errno), `${b.title}: errno`);
}

/** Volumes in one test: a native run takes little more than its start. */
const SHARE = 40;
/** By default every second one (the hostile tests open them all). */
const compared = brokenVolumes.filter((b) => b.better === undefined).filter((_, i) => inShare(i, 2));
for (let i = 0; i < compared.length; i += SHARE)
  test(`broken volumes ${i} and on: refused with native's words, or the same clusters`, (t) =>
    turn(async () => {
      const base = await baseVolume();
      await inScratch("ntfs-broken", async (dir) => {
        for (const b of compared.slice(i, i + SHARE)) await facesNative(t, dir, b, broken(base, b));
      });
    }));
