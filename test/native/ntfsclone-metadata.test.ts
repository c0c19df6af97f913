// `ntfsclone --metadata` against the native tool: every volume of the corpus, as an image and as a sparse file.
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { compareBitmap } from "../../src/fs/ntfs/consistency.ts";
import { inUse } from "../../src/fs/ntfs/in-use.ts";
import { saveMetadata } from "../../src/fs/ntfs/metadata/save.ts";
import { countMetadata } from "../../src/fs/ntfs/metadata/walk.ts";
import { figureLines, nativeFigures } from "../../src/fs/ntfs/metadata/wipe.ts";
import { openNtfs } from "../../src/fs/ntfs/volume.ts";
import { volumeEnd } from "../../src/image/ntfsclone/header.ts";
import { ImageWriter } from "../../src/image/ntfsclone/writer.ts";
import { openFileSource } from "../../src/io/node/file-source.ts";
import { createFileTarget } from "../../src/io/node/file-target.ts";
import { fileDifference, imprint, inScratch, must, run } from "../support/native.ts";
import { type FoundAttribute, find, type NtfsPatch, patchNtfs } from "../support/ntfs-patch.ts";
import {
  MARK,
  type NtfsShape,
  ntfsShapeImage,
  ntfsShapeNamed,
  ntfsShapes,
  text,
} from "../support/ntfs-shapes.ts";

/** What is compared for a shape: each way for some, so that every option meets volumes of each kind. */
const WAYS: readonly (readonly string[])[] = [
  ["-s"],
  ["-s", "-t"],
  ["-s", "--full-logfile"],
  [],
  ["-t"],
  ["--full-logfile", "-t"],
];

/** The last lines of a run, with the figures: from the second scan on. */
function figures(output: Buffer): string {
  const lines = output.toString("latin1").split("\n");
  return lines.filter((l) => /^(Num of|Wiped|Space in use)/.test(l)).join("\n");
}

function marks(file: string): number {
  const bytes = readFileSync(file);
  let n = 0;
  for (let at = bytes.indexOf(MARK); at >= 0; at = bytes.indexOf(MARK, at + 1)) n++;
  return n;
}

/**
 * How `make` writes: through the command line, or the same steps in this process, which saves the time to start one.
 */
type Maker = (shape: NtfsShape, image: string, way: readonly string[], out: string) => Promise<string>;

async function throughCommand(
  shape: NtfsShape,
  image: string,
  way: readonly string[],
  out: string,
): Promise<string> {
  const needs = shape.needs === "" ? [] : [shape.needs];
  const r = await imprint(["ntfsclone", "-q", "-m", ...way, ...needs, "-o", out, image]);
  if (r.code !== 0)
    throw new Error(`ours ends with ${r.code}: ${r.stdout.toString("latin1").slice(-300)}${r.stderr}`);
  return figures(r.stdout);
}

async function inProcess(
  shape: NtfsShape,
  image: string,
  way: readonly string[],
  out: string,
): Promise<string> {
  const source = openFileSource(image);
  const target = createFileTarget(out);
  try {
    const volume = await openNtfs(source);
    const { clusters, clusterSize } = volume.boot;
    const extra =
      shape.needs === "--ignore-fs-check" ? (await compareBitmap(volume, await inUse(volume))).extra : null;
    const toFile = !way.includes("-s");
    const options = {
      fullLogFile: way.includes("--full-logfile"),
      preserveTimestamps: way.includes("-t"),
      listedOnly: toFile,
      extra,
    };
    const geometry = {
      clusterSize,
      deviceSize: source.size,
      clusters,
      inUse: await countMetadata(volume, options),
    };
    if (toFile) {
      const put = (lcn: number, bytes: Uint8Array) => target.write(bytes, lcn * clusterSize);
      const counts = await saveMetadata(volume, { put }, options);
      target.commit(volumeEnd(geometry));
      return figureLines(nativeFigures(counts, false)).join("\n");
    }
    const writer = new ImageWriter(geometry, target);
    try {
      await writer.begin();
      const counts = await saveMetadata(volume, writer, options);
      target.commit(await writer.finish());
      return figureLines(nativeFigures(counts, true)).join("\n");
    } finally {
      writer.dispose();
    }
  } finally {
    target.abort();
    source.close();
  }
}

async function compare(
  make: Maker,
  shape: NtfsShape,
  image: string,
  way: readonly string[],
  dir: string,
): Promise<string | null> {
  const theirs = join(dir, "native");
  const ours = join(dir, "ours");
  try {
    const needs = shape.needs === "" ? [] : [shape.needs];
    const n = await run("ntfsclone", ["-q", "-m", ...way, ...needs, "-o", theirs, image]);
    const said = await make(shape, image, way, ours);
    if (shape.needs !== "--ignore-fs-check" && marks(ours) > 0) return "ours holds the text of users";
    // Native leaves a clone here that it has not wiped, whatever it says; ours is what a wiped image restores to.
    if (shape.mountRefused && !way.includes("-s")) return null;
    if (n.code !== 0) return `native ends with ${n.code}`;
    const native = figures(n.stdout);
    if (!native.endsWith(said)) return `${said}\ninstead of\n${native}`;
    return fileDifference(theirs, ours);
  } finally {
    rmSync(theirs, { force: true });
    rmSync(ours, { force: true });
  }
}

/**
 * Shapes whose file native leaves otherwise, and why: its log is reset, or its file ends with the last cluster in use.
 */
const OTHERWISE = new Set(["garbage-log", "exact-device"]);

test("every volume of the corpus has native's bytes and figures", async (t) => {
  t.timeout(300_000);
  await inScratch("metadata", async (dir) => {
    for (const [i, shape] of ntfsShapes.entries()) {
      const image = await ntfsShapeImage(shape);
      for (const [k, way] of WAYS.entries()) {
        const toFile = !way.includes("-s");
        // The first way always; of the others two, in turn.
        if (k > 0 && (k + i) % 5 > 1) continue;
        if (toFile && OTHERWISE.has(shape.name)) continue;
        t.is(await compare(inProcess, shape, image, way, dir), null, `${shape.name} -m ${way.join(" ")}`);
      }
    }
  });
});

test("the command says and writes what native does", async (t) => {
  await inScratch("metadata", async (dir) => {
    const names = ["c512", "c64k", "bad-clusters", "extra-marks", "dirty", "hibernated-short"];
    for (const [i, name] of names.entries()) {
      const shape = ntfsShapeNamed(name);
      const image = await ntfsShapeImage(shape);
      t.is(
        await compare(throughCommand, shape, image, WAYS[i], dir),
        null,
        `${name} -m ${WAYS[i].join(" ")}`,
      );
    }
  });
});

test("a file is what the image restores to, but for unused index blocks", async (t) => {
  await inScratch("metadata", async (dir) => {
    for (const name of ["garbage-log", "exact-device"]) {
      const image = await ntfsShapeImage(ntfsShapeNamed(name));
      const [file, special, restored] = ["file", "special", "restored"].map((f) => join(dir, `${name}.${f}`));
      t.is((await imprint(["ntfsclone", "-q", "-m", "-o", file, image])).code, 0);
      t.is((await imprint(["ntfsclone", "-q", "-m", "-s", "-o", special, image])).code, 0);
      t.is((await imprint(["ntfsclone", "-q", "-r", "-o", restored, special])).code, 0);
      t.is(fileDifference(file, restored), null, name);
      t.is(marks(file), 0, name);
    }
  });
});

test("$LogFile in several pieces", async (t) => {
  await inScratch("metadata", async (dir) => {
    const shape = ntfsShapeNamed("c1k");
    const image = join(dir, "volume");
    await must("cp", ["--sparse=always", await ntfsShapeImage(shape), image]);
    // The same clusters, mapped by several runs that touch each other.
    patchNtfs(image, (p) =>
      p.change(2, (r) => {
        const a = find(r, 0x80);
        const [first, count] = runsOf(r, a);
        const pieces = [3, 5, 40, 700, count - 748];
        const pairs: number[] = [];
        let lcn = 0;
        let at = first;
        for (const n of pieces) {
          const delta = at - lcn;
          pairs.push(
            0x42,
            n & 255,
            n >> 8,
            delta & 255,
            (delta >> 8) & 255,
            (delta >> 16) & 255,
            delta >>> 24,
          );
          lcn = at;
          at += n;
        }
        pairs.push(0);
        const from = a.at + r.readUInt16LE(a.at + 32);
        const length = Math.ceil((from - a.at + pairs.length) / 8) * 8;
        const used = r.readUInt32LE(24);
        r.copyWithin(a.at + length, a.at + a.length, used);
        r.set(pairs, from);
        r.fill(0, from + pairs.length, a.at + length);
        r.writeUInt32LE(length, a.at + 4);
        r.writeUInt32LE(used + length - a.length, 24);
      }),
    );
    for (const way of WAYS) t.is(await compare(inProcess, shape, image, way, dir), null, way.join(" "));
  });
});

function runsOf(r: Buffer, a: FoundAttribute): [number, number] {
  const p = a.at + r.readUInt16LE(a.at + 32);
  const n = r[p] & 15;
  return [r.readUIntLE(p + 1 + n, r[p] >> 4), r.readUIntLE(p + 1, n)];
}

test("times, sequence numbers and quotas at their edges", async (t) => {
  await inScratch("metadata", async (dir) => {
    const shape = ntfsShapeNamed("c4k");
    const image = join(dir, "volume");
    await must("cp", ["--sparse=always", await ntfsShapeImage(shape), image]);
    patchNtfs(image, (p) => {
      // Update sequence numbers that wrap.
      [1, 0xffff, 0xfffe, 2].forEach((usn, i) => {
        p.change(70 + i, (r) => r.writeUInt16LE(usn, r.readUInt16LE(4)));
      });
      // Quotas of the version whose times are known, and of another.
      p.change(24, (r) => {
        const a = find(r, 0x90, 1);
        const first = a.at + r.readUInt16LE(a.at + 20) + 32;
        const second = first + r.readUInt16LE(first + 8);
        r.fill(0x11, first + 36, first + 44);
        r.writeUInt32LE(3, second + 20);
        r.fill(0x22, second + 36, second + 44);
      });
    });
    for (const way of WAYS) t.is(await compare(inProcess, shape, image, way, dir), null, way.join(" "));
  });
});

test("what native leaves of users' text is gone: behind the last record, and of records that are torn", async (t) => {
  await inScratch("metadata", async (dir) => {
    const base = await ntfsShapeImage(ntfsShapeNamed("c4k"));
    const damage: readonly (readonly [string, (p: NtfsPatch) => void])[] = [
      [
        "behind the last record",
        (p) => {
          const clusters = p.clustersOf(0, 0x80);
          p.write(clusters[clusters.length - 1] * p.clusterSize + 3072, text(1, 1024));
        },
      ],
      ["torn", (p) => p.write(p.mft + 70 * 1024 + 1022, Buffer.from([0xee, 0xee]))],
      ["BAAD", (p) => p.write(p.mft + 70 * 1024, Buffer.from("BAAD"))],
      ["no record", (p) => p.write(p.mft + 70 * 1024, text(2, 1024))],
      [
        "a chain of attributes that breaks",
        (p) => p.change(70, (r) => r.writeUInt32LE(7, find(r, 0x80).at + 4)),
      ],
      [
        "a value longer than its record",
        (p) => p.change(70, (r) => r.writeUInt32LE(5000, find(r, 0x80).at + 16)),
      ],
      ["used too little", (p) => p.change(70, (r) => r.writeUInt32LE(500, 24))],
    ];
    for (const [name, job] of damage) {
      const image = join(dir, "volume");
      await must("cp", ["--sparse=always", base, image]);
      patchNtfs(image, job);
      for (const way of [["-s"], []]) {
        const out = join(dir, "out");
        await inProcess(ntfsShapeNamed("extra-marks"), image, way, out);
        t.is(marks(out), 0, name);
        rmSync(out);
      }
    }
  });
});

test("a new serial number with -m is one", async (t) => {
  await inScratch("metadata", async (dir) => {
    const image = await ntfsShapeImage(ntfsShapeNamed("c4k"));
    const serials = new Set<string>();
    for (const option of ["--new-serial", "--new-serial", "--new-half-serial"]) {
      const out = join(dir, "out");
      const r = await imprint(["ntfsclone", "-q", "-m", option, "-o", out, image]);
      t.is(r.code, 0, r.stderr);
      const bytes = readFileSync(out);
      const serial = bytes.readBigUInt64LE(72);
      t.true(r.stdout.includes(`New serial number      : 0x${serial.toString(16)}\n`));
      t.is(bytes.readBigUInt64LE(bytes.length - 512 + 72), serial);
      t.not(serial >> 32n, 0n);
      if (option === "--new-half-serial")
        t.is(serial & 0xffffffffn, readFileSync(image).readBigUInt64LE(72) & 0xffffffffn);
      serials.add(`${serial}`);
      rmSync(out);
    }
    t.is(serials.size, 3);
  });
});
