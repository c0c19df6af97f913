// `ntfsclone --rescue` on files with read errors: as native where that gets through, further where it does not.
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { cli, fileDifference, inScratch, must, type Outcome, run } from "../support/native.ts";
import { find, type NtfsPatch, patchNtfs } from "../support/ntfs-patch.ts";
import { ntfsShapeImage, ntfsShapeNamed } from "../support/ntfs-shapes.ts";
import { type BadRange, type FailingFile, hasFineErrors, withReadErrors } from "../support/read-errors.ts";

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
          // The lost sector says so in both; of the other one native keeps all, and it may hold a file's contents.
          const from = imagePlace(got, r);
          const other = at === r ? 512 : 0;
          t.is(got.toString("latin1", from + 512 - other, from + 522 - other), "BadSectoR\0");
          const wiped = got.subarray(from + other + (other === 0 ? 48 : 0), from + other + 512);
          t.true(wiped.every((byte) => byte === 0));
          want.copy(got, from + other, from + other, from + other + 512);
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
      ["overruled by --rescue", p.bitmap, false],
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
    // Where it says what follows, nothing can be made up.
    await withReadErrors(saved, [{ from: at - 1, to: at }], dir, async (f) => {
      const m = await ours(f, "--rescue", "-r", "-o", mine);
      t.is(m.code, 1);
      t.regex(m.stdout.toString("latin1"), /ERROR\(5\): read_all: Input\/output error\n$/);
      t.false(existsSync(mine));
    });
  });
});
