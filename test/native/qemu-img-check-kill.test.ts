// check -r and bitmap killed in the middle; windows; random damage.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { nodeCodecs } from "../../src/codec/node/codecs.ts";
import { FormatError, IoError, UnsupportedError } from "../../src/errors.ts";
import { type CheckOutcome, checkImage } from "../../src/image/qcow2/check/check.ts";
import { repairImage } from "../../src/image/qcow2/check/repair.ts";
import { BitmapEditor } from "../../src/image/qcow2/edit/bitmap-editor.ts";
import { openEditor } from "../../src/image/qcow2/edit/editor.ts";
import { openQcow2 } from "../../src/image/qcow2/reader.ts";
import type { DurableFile } from "../../src/io/durable.ts";
import { MemorySource } from "../../src/io/memory.ts";
import { CrashFile, Power } from "../support/crash-disk.ts";
import { inScratch, run } from "../support/native.ts";
import { difference, readAll } from "../support/qcow2.ts";
import { DAMAGES, damaged, undamaged } from "../support/qcow2-damage.ts";
import { killEverywhere, soundness } from "../support/qcow2-kill.ts";
import { Random } from "../support/random.ts";
import { rounds } from "../support/share.ts";

/** A file in memory that gets no longer than 64 MiB. */
class SmallFile extends CrashFile {
  override grow(size: number): void {
    if (size > 64 << 20) throw new IoError("EFBIG", "file too large");
    super.grow(size);
  }
}

const inMemory = (image: Uint8Array): CrashFile => {
  const power = new Power();
  return new SmallFile("image", image, () => power);
};

function checked(image: Uint8Array, windowBytes?: number): CheckOutcome & { lines: string[] } {
  const lines: string[] = [];
  return { ...checkImage(inMemory(image), { report: (l) => lines.push(l), windowBytes }), lines };
}

/** The disk by our own reader, or why it cannot be read. */
async function disk(image: Uint8Array): Promise<Uint8Array | string> {
  try {
    const gate = () => Promise.reject(new Error("no other file"));
    return await readAll(await openQcow2(new MemorySource(image), gate, { codecs: nodeCodecs }));
  } catch (error) {
    if (error instanceof FormatError) return error.message;
    throw error;
  }
}

/** Clusters that are counted too low: what can lose data as soon as somebody writes. */
const tooLow = (image: Uint8Array): number =>
  checked(image).lines.filter((l) => l.startsWith("ERROR cluster")).length;

const wrong = ({ result, failure }: CheckOutcome): number =>
  failure === null ? result.corruptions + result.errors : Number.POSITIVE_INFINITY;

const KILLED = [
  "plain: leaks",
  "plain: count too high",
  "snap: two entries, one cluster",
  "rc4: a cluster in use is free",
  "tiny: a cluster in use is free",
  "all refcounts zero",
  "all refcounts zero, 64k",
  "L1: COPIED missing",
  "L2: COPIED missing",
  "L2: misaligned, zero",
  "L1: twice the same L2",
  "snapshots: none, leaked",
  "snapshots: no extra data, version 2",
  "snapshots: one less",
  "bitmaps: out of step",
  "dirty, refcounts wrong",
  "table: misaligned",
  "table: block past the end",
];

test("a repair that dies anywhere loses nothing, leaves nothing worse, and can be done again", async (t) => {
  await inScratch("check-kill", async (dir) => {
    const bases = await undamaged(dir);
    let points = 0;
    for (const name of KILLED) {
      const image = damaged(bases, DAMAGES.find((d) => d.name === name)!);
      const before = await disk(image);
      const wrongBefore = wrong(checked(image));
      const lowBefore = tooLow(image);
      const whole = inMemory(image);
      repairImage(whole, { repair: "all" });
      const wrongAfter = wrong(checked(whole.bytes));
      t.true(wrongAfter <= wrongBefore, name);
      const job = {
        image,
        run: (file: DurableFile) => {
          repairImage(file, { repair: "all" });
        },
      };
      points += await killEverywhere(job, 8, new Random(5), async ({ image: left, at }) => {
        const after = await disk(left);
        if (typeof before !== "string" && typeof after !== "string")
          t.is(difference(after, before), null, `${name}, killed at ${at}`);
        else if (typeof before !== "string") t.fail(`${name}, killed at ${at}: ${after as string}`);
        const low = tooLow(left);
        if (low > Math.max(lowBefore, wrongBefore))
          t.fail(`${name}, killed at ${at}: ${low} counts too low, ${lowBefore} before`);
        const again = inMemory(left);
        repairImage(again, { repair: "all" });
        t.true(wrong(checked(again.bytes)) <= wrongAfter, `${name}, killed at ${at} and repaired again`);
      });
    }
    t.true(points >= 60, `${points} points`);
  });
});

test("bitmaps are changed wholly or not at all, wherever the change dies", async (t) => {
  await inScratch("bitmap-kill", async (dir) => {
    const bases = await undamaged(dir);
    const image = bases.get("bitmap")!;
    const names = async (b: Uint8Array): Promise<string> => {
      const editor = await openEditor(inMemory(b), { codecs: nodeCodecs });
      return new BitmapEditor(editor).entries.map((e) => `${e.name}:${e.flags}`).join(" ");
    };
    const before = await names(image);
    const job = {
      image,
      run: async (file: Parameters<typeof openEditor>[0]) => {
        const editor = await openEditor(file, { codecs: nodeCodecs });
        const bitmaps = new BitmapEditor(editor);
        bitmaps.add("three", 4096, "#block");
        await bitmaps.merge("three", bitmaps.bits("one"));
        await bitmaps.merge("two", bitmaps.bits("one"));
        bitmaps.clear("one");
        bitmaps.setEnabled("three", false);
        bitmaps.store();
        editor.commit();
      },
    };
    let changed = 0;
    const points = await killEverywhere(job, 40, new Random(3), async ({ image: left, at }) => {
      const now = await names(left);
      if (now !== before) changed++;
      t.true(now === before || now === "one:2 two:0 three:0", `killed at ${at}: ${now}`);
      t.is(soundness(left, true), null, `killed at ${at}`);
    });
    t.true(points >= 15 && changed >= 1, `${points} points, ${changed} changed`);
  });
});

test("images too large for one window of counts are checked in several, with the same findings", async (t) => {
  await inScratch("check-windows", async (dir) => {
    const bases = await undamaged(dir);
    for (const damage of DAMAGES.filter((_, i) => i % 3 === 1)) {
      const image = damaged(bases, damage);
      let whole: ReturnType<typeof checked>;
      try {
        whole = checked(image);
      } catch (error) {
        if (error instanceof FormatError) continue;
        throw error;
      }
      // A window has at least the clusters of one refcount block.
      const parts = checked(image, 1);
      t.deepEqual(parts.failure, whole.failure, damage.name);
      t.deepEqual([...parts.lines].sort(), [...whole.lines].sort(), damage.name);
      t.deepEqual(parts.result, whole.result, damage.name);
      if (whole.failure !== null) continue;
      const a = inMemory(image);
      const b = inMemory(image);
      repairImage(a, { repair: "all" });
      repairImage(b, { repair: "all", windowBytes: 1 });
      t.is(wrong(checked(b.bytes)), wrong(checked(a.bytes)), damage.name);
    }
  });
});

/** Flips bytes where an image has its metadata. */
function scramble(image: Uint8Array, random: Random): Buffer {
  const b = Buffer.from(image);
  const cs = 2 ** b.readUInt32BE(20);
  const areas = [
    [72, 104],
    [36, 72],
    [cs, 2 * cs],
    [2 * cs, 4 * cs],
    [3 * cs, 5 * cs],
    [0, b.length],
  ];
  const flips = 1 + random.below(6);
  for (let i = 0; i < flips; i++) {
    const [from, to] = areas[random.below(areas.length)];
    const at = from + random.below(Math.max(1, Math.min(to, b.length) - from));
    if (at >= 20 && at < 24) continue;
    b[at] = random.below(3) === 0 ? random.below(256) : b[at] ^ (1 << random.below(8));
  }
  return random.below(10) === 0 ? b.subarray(0, random.below(b.length)) : b;
}

test("random damage: no crash, no endless check; a sample finds what native finds", async (t) => {
  await inScratch("check-fuzz", async (dir) => {
    const bases = [...(await undamaged(dir))].filter(([name]) => name !== "wide" && name !== "default");
    const random = new Random(Number(process.env["CHECK_FUZZ_SEED"] ?? 20260));
    const most = rounds(80, 160);
    const path = join(dir, "image");
    let compared = 0;
    for (let i = 0; i < most; i++) {
      const [name, base] = bases[i % bases.length];
      const image = scramble(base, random);
      let outcome: ReturnType<typeof checked>;
      try {
        outcome = checked(image);
        const file = inMemory(image);
        repairImage(file, { repair: i % 2 === 0 ? "all" : "leaks" });
        checked(file.bytes);
      } catch (error) {
        if (error instanceof FormatError || error instanceof UnsupportedError) continue;
        throw new Error(`round ${i}, ${name}: ${(error as Error).stack}`);
      }
      if (i % (most > 300 ? 1 : 8) !== 0) continue;
      writeFileSync(path, image);
      const native = await run("qemu-img", ["check", "--output=json", path]);
      if (native.stdout.length === 0) continue;
      compared++;
      const json = JSON.parse(native.stdout.toString()) as Record<string, number>;
      const { result } = outcome;
      const words = native.stderr
        .replace(/\nqemu-img: Check failed$/, "")
        .replace("qemu-img: Check failed\n", "");
      t.is(
        outcome.lines
          .map((l) => `${l}\n`)
          .join("")
          .slice(0, 100_000),
        words.slice(0, 100_000),
        `round ${i}, ${name}`,
      );
      t.deepEqual(
        [
          result.corruptions,
          result.leaks,
          result.errors,
          result.imageEndOffset,
          result.totalClusters,
          result.allocatedClusters,
          result.fragmentedClusters,
          result.compressedClusters,
        ],
        [
          "corruptions",
          "leaks",
          "check-errors",
          "image-end-offset",
          "total-clusters",
          "allocated-clusters",
          "fragmented-clusters",
          "compressed-clusters",
        ].map((key) => json[key] ?? 0),
        `round ${i}, ${name}`,
      );
    }
    t.true(compared > most / 40, `${compared} compared`);
  });
});
