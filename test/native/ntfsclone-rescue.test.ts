// `ntfsclone --rescue` on files with read errors: as native where that gets through, further where it does not.
import { spawn } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { cli, fileDifference, inScratch, must, type Outcome, run } from "../support/native.ts";
import { find, type NtfsPatch, patchNtfs } from "../support/ntfs-patch.ts";
import { ntfsShapeImage, ntfsShapeNamed } from "../support/ntfs-shapes.ts";
import {
  type BadRange,
  type FailingFile,
  hasFineErrors,
  readLog,
  withReadErrors,
} from "../support/read-errors.ts";

/** Where things are on the volume. */
interface Places {
  readonly mft: number;
  readonly mirror: number;
  readonly bitmap: number;
  readonly upcase: number;
  readonly log: number;
  readonly size: number;
  /** First records of a file with resident and one with non-resident data, and where the latter lies. */
  readonly resident: number;
  readonly nonResident: number;
  readonly data: number;
  /** A directory's index block. */
  readonly index: number;
}

function placesOf(p: NtfsPatch): Places {
  const first = (record: number, type: number, cluster = 0) =>
    p.clustersOf(record, type)[cluster] * p.clusterSize;
  const wanted = (job: (r: Buffer) => boolean): number => {
    for (let n = 64; ; n++) {
      const r = p.record(n);
      if (r.readUInt16LE(22) & 1 && job(r)) return n;
    }
  };
  const nonResident = wanted((r) => attribute(r, 0x80) > 0 && r[attribute(r, 0x80) + 8] === 1);
  return {
    mft: p.mft,
    mirror: p.mirror,
    bitmap: first(6, 0x80),
    upcase: first(10, 0x80),
    log: first(2, 0x80, 300),
    size: p.fileSize,
    resident: wanted((r) => r.readUInt16LE(22) === 1 && attribute(r, 0x80) > 0 && allResident(r)),
    nonResident,
    data: first(nonResident, 0x80),
    index: first(
      wanted((r) => attribute(r, 0xa0) > 0),
      0xa0,
    ),
  };
}

function allResident(r: Buffer): boolean {
  for (let at = r.readUInt16LE(20); r.readUInt32LE(at) !== 0xffffffff; at += r.readUInt32LE(at + 4))
    if (r[at + 8] === 1) return false;
  return true;
}

/** The `n`th cluster that an image holds, and the byte of the image where its data begins. */
function nthCluster(image: Buffer, n: number): { lcn: number; data: number } {
  const size = image.readUInt32LE(18);
  for (let at = 56, lcn = 0; ; ) {
    if (image[at] === 0) {
      lcn += Number(image.readBigInt64LE(at + 1));
      at += 9;
    } else if (n-- === 0) return { lcn, data: at + 1 };
    else {
      at += 1 + size;
      lcn++;
    }
  }
}

function attribute(r: Buffer, type: number): number {
  try {
    return find(r, type).at;
  } catch {
    return -1;
  }
}

interface Volume {
  readonly dir: string;
  readonly image: string;
  readonly places: Places;
}

async function withVolume(job: (v: Volume) => Promise<void>): Promise<void> {
  await inScratch("rescue", async (dir) => {
    const image = await ntfsShapeImage(ntfsShapeNamed("c4k"));
    let places: Places | null = null;
    const copy = join(dir, "volume");
    await must("cp", ["--sparse=always", image, copy]);
    patchNtfs(copy, (p) => {
      places = placesOf(p);
    });
    await job({ dir, image: copy, places: places! });
  });
}

const native = (f: FailingFile, ...args: readonly string[]): Promise<Outcome> =>
  run("ntfsclone", ["-q", ...args, f.path], { env: f.env });
const ours = (f: FailingFile, ...args: readonly string[]): Promise<Outcome> =>
  run(process.execPath, [cli, "ntfsclone", "-q", ...args, f.path], { env: f.env });

const sector = (at: number): BadRange => ({ from: at, to: at + 512 });
const warnings = (r: Outcome): string[] =>
  `${r.stdout.toString("latin1")}${r.stderr}`.split("\n").filter((l) => l.startsWith("WARNING: Can't read"));

test("single sectors, in data and in metadata, are lost as in native", async (t) => {
  await withVolume(async ({ dir, image, places: p }) => {
    const cases: readonly (readonly [string, readonly BadRange[], readonly string[]])[] = [
      [
        "data and log",
        [
          sector(p.data),
          { from: p.data + 4096 + 700, to: p.data + 4096 + 701 },
          { from: p.log, to: p.log + 9000 },
        ],
        [],
      ],
      [
        "a resident file's record, an index block",
        [sector(p.mft + p.resident * 1024 + 512), sector(p.index)],
        [],
      ],
      ["a non-resident file's record", [sector(p.mft + p.nonResident * 1024)], ["--ignore-fs-check"]],
    ];
    for (const [name, bad, more] of cases)
      await withReadErrors(image, bad, dir, async (f) => {
        for (const way of name === "data and log" ? [[], ["-s"]] : [["-s"]]) {
          const [theirs, mine] = [join(dir, "native"), join(dir, "ours")];
          // Where whole blocks fail, the records beside it are lost too, and what their files own is not accounted for.
          const overrule = f.granularity > 1 && name !== "data and log" ? ["--ignore-fs-check"] : more;
          const n = await native(f, "--rescue", ...overrule, ...way, "-o", theirs);
          const m = await ours(f, "--rescue", ...overrule, ...way, "-o", mine);
          t.is(n.code, 0, name);
          t.is(m.code, 0, `${name}: ${m.stdout.toString("latin1")}${m.stderr}`);
          t.deepEqual(warnings(m), warnings(n), name);
          t.is(fileDifference(theirs, mine), null, `${name} ${way.join(" ")}`);
          rmSync(theirs);
          rmSync(mine);
        }
      });
  });
});

test("to standard output, and as metadata", async (t) => {
  await withVolume(async ({ dir, image, places: p }) => {
    const bad = [sector(p.data + 512), sector(p.log + 1024)];
    await withReadErrors(image, bad, dir, async (f) => {
      const [theirs, mine] = [join(dir, "native"), join(dir, "ours")];
      const args = ["-q", "--rescue", "-o", "-", f.path];
      await run("ntfsclone", args, { env: f.env, stdoutFile: theirs });
      const m = await run(process.execPath, [cli, "ntfsclone", ...args], { env: f.env, stdoutFile: mine });
      t.is(m.code, 0, m.stderr);
      t.is(warnings(m).length, f.granularity > 512 ? 16 : 2);
      t.is(fileDifference(theirs, mine), null);
    });
  });
});

test("as metadata: as native, but for the rest of a record of which a sector is lost, which is wiped too", async (t) => {
  await withVolume(async ({ dir, image, places: p }) => {
    const record = p.mft + p.resident * 1024;
    const [theirs, mine] = [join(dir, "native.m"), join(dir, "ours.m")];
    for (const at of [record, record + 512, p.index, p.log]) {
      await withReadErrors(image, [sector(at)], dir, async (f) => {
        const args = ["--rescue", ...(f.granularity > 1 ? ["--ignore-fs-check"] : []), "-m", "-s", "-o"];
        const n = await native(f, ...args, theirs);
        const m = await ours(f, ...args, mine);
        t.is(n.code, 0);
        t.is(m.code, 0, m.stderr);
        t.deepEqual(warnings(m), [...new Set(warnings(n))]);
        const [want, got] = [readFileSync(theirs), readFileSync(mine)];
        t.is(got.length, want.length);
        const lost = at < record || at >= record + 1024 || f.granularity > 1 ? [] : [record];
        for (const r of lost) {
          // The lost sector says so. Of the other one native keeps much, which may be a file's contents.
          const place = imagePlace(got, r);
          const [gone, other] = at === r ? [place, place + 512] : [place + 512, place + 48];
          t.is(got.toString("latin1", gone, gone + 512), `BadSectoR\0${"?".repeat(502)}`);
          const end = at === r ? place + 1024 : place + 512;
          t.true(got.subarray(other, end).every((byte) => byte === 0));
          want.copy(got, place, place, place + 1024);
        }
        if (f.granularity === 1) t.true(got.equals(want), `sector at ${at}`);
      });
      rmSync(theirs);
      rmSync(mine);
    }
  });
});

/** Where byte `at` of the volume is in an image. */
function imagePlace(image: Buffer, at: number): number {
  const size = image.readUInt32LE(18);
  for (let i = 56, lcn = 0; i < image.length; ) {
    if (image[i] === 0) {
      lcn += Number(image.readBigInt64LE(i + 1));
      i += 9;
    } else {
      if (lcn === Math.floor(at / size)) return i + 1 + (at % size);
      i += 1 + size;
      lcn++;
    }
  }
  throw new Error(`byte ${at} is not in the image`);
}

test("what native cannot open or refuses is cloned: boot sector, file table, mirror, $Bitmap, $UpCase", async (t) => {
  await withVolume(async ({ dir, image, places: p }) => {
    const healthy = join(dir, "healthy");
    t.is((await ours({ path: image, env: {}, granularity: 1 }, "-o", healthy)).code, 0);
    const want = readFileSync(healthy);
    const source = readFileSync(image);
    const cases: readonly (readonly [string, number, boolean])[] = [
      ["The boot sector cannot be read", 0, true],
      ["Record 0 of $MFT cannot be read", p.mft, true],
      ["Record 3 of $MFT cannot be read", p.mft + 3 * 1024 + 512, true],
      ["Record 1 of $MFTMirr cannot be read", p.mirror + 1024, true],
      ["WARNING: $Bitmap cannot be used", p.mft + 6 * 1024, false],
      ["WARNING: A part of $Bitmap cannot be read", p.bitmap, false],
      ["overruled by --rescue", p.mft + p.nonResident * 1024, false],
      ["WARNING: Can't read sector at", p.upcase + 1024, false],
      ["WARNING: Can't read sector at", p.size - 512, false],
    ];
    for (const [said, at, whole] of cases)
      await withReadErrors(image, [sector(at)], dir, async (f) => {
        const mine = join(dir, "ours");
        const m = await ours(f, "--rescue", "-o", mine);
        t.is(m.code, 0, `${said}: ${m.stdout.toString("latin1")}${m.stderr}`);
        t.true(m.stdout.includes(said), `${said}: ${m.stdout.toString("latin1")}`);
        const got = readFileSync(mine);
        const lost = at - (at % f.granularity);
        // Boot sector and mirrored records come from their copies; the rest of what is lost is marked.
        const end = lost + Math.max(512, f.granularity);
        if (whole && f.granularity === 1) t.true(got.equals(want), said);
        else {
          t.is(got.length, want.length);
          for (let c = 0; c < got.length; c += 4096) {
            if (c < end && c + 4096 > lost) continue;
            const piece = got.subarray(c, c + 4096);
            // Where it is not known what is in use, more may be cloned.
            const right =
              piece.equals(want.subarray(c, c + 4096)) || piece.equals(source.subarray(c, c + 4096));
            if (!right) t.fail(`${said}: the cluster at ${c} differs`);
          }
          if (!whole) t.is(got.toString("latin1", lost, lost + 12), "BadSectoR\0??", said);
        }
        rmSync(mine);
      });
  });
});

test("files on lost sectors are named", async (t) => {
  await withVolume(async ({ dir, image, places: p }) => {
    await withReadErrors(image, [sector(p.data), sector(p.log)], dir, async (f) => {
      const m = await ours(f, "--rescue", "-o", join(dir, "ours"));
      const text = m.stdout.toString("latin1");
      t.regex(text, /Lost: \d+ bytes in 2 places\. Files that lie there:\n {2}\/\$LogFile\n {2}\/a\/\S+\n/);
    });
  });
});

test("without --rescue native's words, and no file", async (t) => {
  await withVolume(async ({ dir, image, places: p }) => {
    await withReadErrors(image, [sector(p.data)], dir, async (f) => {
      for (const way of [[], ["-s"]]) {
        const [theirs, mine] = [join(dir, "native"), join(dir, "ours")];
        const n = await native(f, ...way, "-o", theirs);
        const m = await ours(f, ...way, "-o", mine);
        t.is(m.code, n.code);
        t.is(m.stdout.toString("latin1"), n.stdout.toString("latin1"));
        t.false(existsSync(mine));
        rmSync(theirs);
      }
    });
  });
});

test("map files, retries and going on", async (t) => {
  if (!(await hasFineErrors())) {
    t.fail("errors that pass need the preloaded library, and that a C compiler");
    return;
  }
  await withVolume(async ({ dir, image, places: p }) => {
    const [healthy, map, mine] = ["healthy", "map", "ours"].map((n) => join(dir, n));
    t.is((await ours({ path: image, env: {}, granularity: 1 }, "-o", healthy)).code, 0);
    // Read errors that go away after some reads.
    await withReadErrors(image, [{ ...sector(p.data), times: 6 }], dir, async (f) => {
      const m = await ours(f, "--rescue", "--retries", "9", "-o", mine);
      t.is(m.code, 0, m.stderr);
      t.deepEqual(warnings(m), []);
      t.is(fileDifference(healthy, mine), null);
      rmSync(mine);
    });
    // A bad stretch; its middle is skipped at first and tried in the end.
    const bad = [{ from: p.log, to: p.log + 30 * 512 }, sector(p.data)];
    await withReadErrors(image, bad, dir, async (f) => {
      const m = await ours(f, "--rescue", "--mapfile", map, "-o", mine);
      t.is(m.code, 0, m.stderr);
      t.is(warnings(m).length, 31);
      const text = readFileSync(map, "latin1");
      const lines = text.split("\n").filter((l) => l.endsWith("-"));
      const hex = (n: number) => `0x${n.toString(16).toUpperCase().padStart(8, "0")}`;
      t.deepEqual(
        lines.sort(),
        [`${hex(p.log)}  ${hex(30 * 512)}  -`, `${hex(p.data)}  0x00000200  -`].sort(),
      );
      t.false(/[*/]$/m.test(text.split("\n").slice(2).join("\n")));
    });
    // The disk has recovered: only what was bad is read again.
    const again = await ours(
      { path: image, env: {}, granularity: 1 },
      "--rescue",
      "--mapfile",
      map,
      "--resume",
      "--retries",
      "1",
      "-O",
      mine,
    );
    t.is(again.code, 0, `${again.stdout.toString("latin1")}${again.stderr}`);
    t.is(fileDifference(healthy, mine), null);
    t.false(readFileSync(map, "latin1").includes("  -\n"));
    // Interrupted in the middle: what the map calls finished is in the clone, the rest is fetched.
    const half = readFileSync(healthy);
    const cut = 10_000_000 - (10_000_000 % 4096);
    half.fill(0, cut);
    writeFileSync(mine, half);
    writeFileSync(map, `0x0 ? 1\n0 ${cut} +\n${cut} ${half.length - cut} ?\n`);
    const rest = await ours(
      { path: image, env: {}, granularity: 1 },
      "--rescue",
      "--mapfile",
      map,
      "--resume",
      "-O",
      mine,
    );
    t.is(rest.code, 0, `${rest.stdout.toString("latin1")}${rest.stderr}`);
    t.is(fileDifference(healthy, mine), null);
    // A map that makes no sense, and none.
    writeFileSync(map, "0x0 ? 1\n0 100 +\n50 100 ?\n");
    for (const file of [map, join(dir, "no map")]) {
      const r = await ours(
        { path: image, env: {}, granularity: 1 },
        "--rescue",
        "--mapfile",
        file,
        "--resume",
        "-O",
        mine,
      );
      t.is(r.code, 1);
      t.regex(r.stdout.toString("latin1"), /map file/);
    }
  });
});

test("an image with read errors is restored, but for the sectors that cannot be read", async (t) => {
  await withVolume(async ({ dir, image }) => {
    const [saved, healthy, mine] = ["saved", "healthy", "ours"].map((n) => join(dir, n));
    const plain = { path: image, env: {}, granularity: 1 };
    t.is((await ours(plain, "-s", "-o", saved)).code, 0);
    t.is((await ours(plain, "-o", healthy)).code, 0);
    const want = readFileSync(healthy);
    // In the data of a cluster, across a boundary of sectors.
    const { lcn, data: at } = nthCluster(readFileSync(saved), 340);
    if (!(await hasFineErrors())) {
      t.fail("sectors of an image need the preloaded library, and that a C compiler");
      return;
    }
    await withReadErrors(saved, [{ from: at + 1000, to: at + 1030 }], dir, async (f) => {
      const m = await ours(f, "--rescue", "-r", "-o", mine);
      t.is(m.code, 0, `${m.stdout.toString("latin1")}${m.stderr}`);
      t.is(warnings(m).length, 2);
      const got = readFileSync(mine);
      t.is(got.length, want.length);
      const differs: number[] = [];
      for (let s = 0; s < got.length; s += 512)
        if (!got.subarray(s, s + 512).equals(want.subarray(s, s + 512))) differs.push(s);
      t.deepEqual(differs, [lcn * 4096 + 512, lcn * 4096 + 1024]);
      t.is(got.toString("latin1", differs[0], differs[0] + 11), "BadSectoR\0?");
      rmSync(mine);
    });
    // With a map of the image; then the same again, which tries nothing that is known to be bad.
    const map = join(dir, "map");
    const bad = [
      { from: at + 1000, to: at + 1030 },
      // The end of a cluster, the command behind it, and the beginning of the next one.
      { from: at + 4096 * 2, to: at + 4096 * 2 + 600 },
    ];
    await withReadErrors(saved, bad, dir, async (f) => {
      const m = await ours(f, "--rescue", "--mapfile", map, "-r", "-o", mine);
      t.is(m.code, 0, `${m.stdout.toString("latin1")}${m.stderr}`);
      const said = m.stdout.toString("latin1");
      t.true(said.includes(`WARNING: Can't read the command at ${at + 4096 * 2 + 1}:`), said);
      t.regex(said, /Lost: \d+ bytes in \d places\. Files that lie there:\n( {2}\/.+\n)+/);
      t.is(readFileSync(mine).length, want.length);
    });
    const first = readFileSync(mine);
    const log = join(dir, "log");
    const again = await run(
      process.execPath,
      [cli, "ntfsclone", "-q", "--rescue", "--mapfile", map, "-r", "-O", mine, saved],
      { env: await readLog(saved, log) },
    );
    t.is(again.code, 0, `${again.stdout.toString("latin1")}${again.stderr}`);
    t.true(readFileSync(mine).equals(first));
    const command = at + 4096 * 2 + 1;
    for (const [from, to] of logOf(log))
      for (const b of bad)
        if (from < b.to && to > b.from && !(from <= command && to > command))
          t.fail(`${from} to ${to} was read`);
    const retried = await ours(plain, "--retries", "1", "--rescue", "--mapfile", map, "-n", "-r");
    t.is(retried.code, 1, "the source comes last");
    const back = await run(process.execPath, [
      ...[cli, "ntfsclone", "-q", "--retries", "1", "--rescue", "--mapfile", map, "-r", "-O", mine, saved],
    ]);
    t.is(back.code, 0, `${back.stdout.toString("latin1")}${back.stderr}`);
    t.is(fileDifference(healthy, mine), null);
    t.false(readFileSync(map, "latin1").includes("  -\n"));
    rmSync(mine);
    // Where it says what follows and that cannot be concluded, nothing can be made up.
    await withReadErrors(
      saved,
      [
        { from: at - 1, to: at },
        { from: at + 4096, to: at + 4097 },
      ],
      dir,
      async (f) => {
        const m = await ours(f, "--rescue", "-r", "-o", mine);
        t.is(m.code, 1);
        t.regex(m.stdout.toString("latin1"), /ERROR\(5\): read_all: Input\/output error\n$/);
        t.false(existsSync(mine));
      },
    );
  });
});

/** Byte ranges that were read. */
function logOf(file: string): [from: number, to: number][] {
  const lines = readFileSync(file, "latin1").trimEnd().split("\n");
  return lines.map((l) => l.split(" ").map(Number) as [number, number]);
}

test("a clone that is killed goes on where it was", async (t) => {
  if (!(await hasFineErrors())) {
    t.fail("slow reads need the preloaded library, and that a C compiler");
    return;
  }
  await withVolume(async ({ dir, image }) => {
    const [whole, map, mine, log1, log2] = ["whole", "map", "ours", "log1", "log2"].map((n) => join(dir, n));
    t.is((await ours({ path: image, env: {}, granularity: 1 }, "-o", whole)).code, 0);
    const args = [cli, "ntfsclone", "-q", "--rescue", "--mapfile", map, "--resume", "-O", mine, image];
    const child = spawn(process.execPath, args, {
      env: { ...process.env, ...(await readLog(image, log1, 700)) },
    });
    const ended = new Promise((done) => child.on("close", (code, signal) => done(signal ?? code)));
    // Once there is a map, some more is read.
    for (let i = 0; i < 600 && !existsSync(map); i++) await new Promise((done) => setTimeout(done, 50));
    const seen = logOf(log1).length;
    for (let i = 0; i < 200 && logOf(log1).length < seen + 1; i++)
      await new Promise((done) => setTimeout(done, 20));
    child.kill("SIGKILL");
    t.is(await ended, "SIGKILL");
    const finished = readFileSync(map, "latin1")
      .split("\n")
      .filter((l) => l.endsWith("+") && l.split(/ +/).length === 3 && !l.startsWith("#"))
      .map((l) => l.split(/ +/).map(Number))
      .filter(([, length]) => length > 0)
      .map(([from, length]) => [from, from + length]);
    const first = logOf(log1);
    t.true(finished.length > 0);
    t.not(fileDifference(whole, mine), null, "it was killed in the middle");
    const m = await run(process.execPath, args, { env: await readLog(image, log2) });
    t.is(m.code, 0, `${m.stdout.toString("latin1")}${m.stderr}`);
    t.is(fileDifference(whole, mine), null);
    // Both look at the file table first; the clone begins with the boot sector's whole cluster.
    const opening = first.findIndex(([from, to]) => from === 0 && to >= 4096);
    const second = logOf(log2);
    t.deepEqual(second.slice(0, opening), first.slice(0, opening));
    const copied = first.slice(opening);
    let twice = 0;
    for (const [from, to] of second.slice(opening)) {
      t.false(
        finished.some(([a, b]) => from < b && to > a),
        `${from} to ${to} was finished`,
      );
      if (copied.some(([a, b]) => from < b && to > a)) twice++;
    }
    t.true(twice > 0 && twice <= 3, `${twice} reads were made twice, of ${copied.length}`);
    t.true(copied.length >= twice + 2, "most of it was not read twice");
  });
});

test("long bad stretches: images in files get what can be read in the end, in pipes the rest is skipped", async (t) => {
  if (!(await hasFineErrors())) {
    t.fail("slow reads need the preloaded library, and that a C compiler");
    return;
  }
  await withVolume(async ({ dir, image, places: p }) => {
    const [theirs, mine] = [join(dir, "native"), join(dir, "ours")];
    const bad = [
      { from: p.log, to: p.log + 300 * 512 },
      { from: p.log + 302 * 512, to: p.log + 600 * 512 },
      sector(p.data),
    ];
    await withReadErrors(image, bad, dir, async (f) => {
      const n = await native(f, "--rescue", "-s", "-o", theirs);
      for (const [way, out] of [
        [["-s", "-o", mine], undefined],
        [["-s", "-o", "-"], mine],
        [["-s", "--patience", "0", "-o", "-"], mine],
      ] as const) {
        const m = await run(process.execPath, [cli, "ntfsclone", "-q", "--rescue", ...way, image], {
          env: f.env,
          ...(out === undefined ? {} : { stdoutFile: out }),
        });
        const said = `${m.stdout.toString("latin1")}${m.stderr}`;
        t.is(m.code, 0, said);
        if (way.length === 3) {
          t.deepEqual(warnings(m).sort(), warnings(n).sort());
          t.is(fileDifference(theirs, mine), null);
        } else {
          t.true(warnings(m).length < 30, said);
          t.regex(said, /WARNING: Read errors took too long: skipped \d+ bytes at \d+, lost data\.\n/);
          const [want, got] = [readFileSync(theirs), readFileSync(mine)];
          t.is(got.length, want.length);
          const from = imagePlace(want, p.log);
          // The end of a stretch that was skipped twice is found to within 1024 bytes.
          const to = imagePlace(want, p.log + 600 * 512 + 4096);
          t.true(got.subarray(0, from).equals(want.subarray(0, from)));
          t.true(got.subarray(to).equals(want.subarray(to)));
        }
        rmSync(mine);
      }
    });
  });
});

test("what a lost part of $Bitmap describes is cloned", async (t) => {
  await withVolume(async ({ dir, image, places: p }) => {
    const [healthy, mine] = [join(dir, "healthy"), join(dir, "ours")];
    t.is((await ours({ path: image, env: {}, granularity: 1 }, "-o", healthy)).code, 0);
    const [want, source] = [readFileSync(healthy), readFileSync(image)];
    await withReadErrors(image, [sector(p.bitmap)], dir, async (f) => {
      const n = await native(f, "--rescue", "-o", join(dir, "native"));
      t.is(n.code, 1);
      const m = await ours(f, "--rescue", "-o", mine);
      const said = m.stdout.toString("latin1");
      t.is(m.code, 0, said);
      const extra = /WARNING: A part of \$Bitmap cannot be read: (\d+) clusters/.exec(said);
      t.true(Number(extra?.[1]) > 1000, said);
      t.false(said.includes("accounting failed"), said);
      const got = readFileSync(mine);
      // The first sector describes 4096 clusters; what comes after is as in a healthy clone.
      for (let at = 0; at < got.length; at += 4096) {
        if (at <= p.bitmap && at + 4096 > p.bitmap) continue;
        const right = (at < 4096 * 4096 ? source : want).subarray(at, at + 4096);
        if (!got.subarray(at, at + 4096).equals(right)) t.fail(`the cluster at ${at} differs`);
      }
      rmSync(mine);
    });
  });
});
