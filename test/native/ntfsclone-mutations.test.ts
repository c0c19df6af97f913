// Seeded damage to records of NTFS volumes: ntfsclone and ours refuse them with the same words, or write the same bytes. What ours does better is told apart by rules, each with its reason.
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { inScratch } from "../support/native.ts";
import { type Mutation, mutate, mutationBases } from "../support/ntfs-mutations.ts";
import { both, OUT, type Pair, type Said } from "../support/ntfsclone.ts";
import { Random } from "../support/random.ts";
import { rounds } from "../support/share.ts";

const FULL = rounds(0, 1) === 1;

const WAYS: readonly (readonly string[])[] = [
  ["-o"],
  ["-m", "-s", "-o"],
  ["-s", "-o"],
  ["-m", "-o"],
  ["-m", "-s", "-t", "-o"],
  ["--rescue", "--ignore-fs-check", "-o"],
  ["-m", "-t", "-o"],
  ["--rescue", "--ignore-fs-check", "-s", "-o"],
  ["-m", "--ignore-fs-check", "-o"],
  ["-f", "-o"],
  ["-m", "-s", "--ignore-fs-check", "-o"],
];

/** What both say alike: without progress, and without the figures of what was wiped, which native takes from wild places too. */
function words(said: Said, metadata: boolean): string {
  const lines = said.messages.split("\n").map((line) => line.slice(line.lastIndexOf("\r") + 1));
  return lines
    .filter(
      (line) => !metadata || !/^(Wiped|Num of used)|Damaged INDX record|is referenced twice!$/.test(line),
    )
    .filter((line) => !line.endsWith(" percent completed"))
    .join("\n");
}

/** 1970-01-01 as NTFS writes it: what times are wiped to. */
const EPOCH = Buffer.from("00803ed5deb19d01", "hex");

function isEpoch(b: Buffer, at: number): boolean {
  const from = Math.max(0, at - 7);
  const found = b.indexOf(EPOCH, from);
  return found >= 0 && found <= at;
}

/** A special image as the volume it restores to, and everything of it that is no data. */
function restored(b: Buffer): { commands: string; volume: Buffer } {
  const cluster = b.readUInt32LE(18);
  const device = Number(b.readBigInt64LE(22));
  const pieces: [at: number, bytes: Buffer][] = [];
  let commands = b.toString("hex", 0, 56);
  let position = 0;
  for (let at = b.readUInt32LE(46); at < b.length; ) {
    if (b[at] === 0) {
      const gap = Number(b.readBigInt64LE(at + 1));
      commands += ` ${gap}`;
      position += gap;
      at += 9;
      continue;
    }
    const n = Math.max(0, Math.min(cluster, device - position * cluster));
    pieces.push([position * cluster, b.subarray(at + 1, at + 1 + n)]);
    commands += ".";
    position++;
    at += 1 + n;
  }
  const volume = Buffer.alloc(Math.max(...pieces.map(([at, bytes]) => at + bytes.length)));
  for (const [at, bytes] of pieces) bytes.copy(volume, at);
  return { commands, volume };
}

/**
 * Whether two images of metadata differ only in what ours wipes and native does not: broken records and index blocks that their
 * index does not reach. `record`: where a record is whose magic and update sequence may differ.
 */
function wipesMore(native: Buffer, ours: Buffer, record: readonly number[], size: number): string | null {
  if (native.length !== ours.length) return `sizes ${native.length} and ${ours.length}`;
  for (let i = 0; i < ours.length; i++) {
    if (native[i] === ours[i] || ours[i] === 0 || isEpoch(ours, i)) continue;
    const start = record.find((at) => i >= at && i < at + size);
    const inside = start === undefined ? -1 : i - start;
    const marks = inside >= 0 && (inside < 4 || inside === 48 || inside === 49 || inside % 512 >= 510);
    if (!marks) return `byte ${i} is ${ours[i]} and not ${native[i]}`;
  }
  return null;
}

/** A crash or a hang of native: ours ends by itself, with an answer or a refusal. */
function endsByItself(t: ExecutionContext, said: Said, title: string): void {
  t.true(said.code === 0 || (said.code === 1 && /ERROR/.test(said.messages)), `${title}: ${said.code}`);
}

test("volumes with changed fields in a record", async (t) => {
  t.timeout(300_000);
  const bases = FULL ? mutationBases : mutationBases.filter((b) => ["c512", "c4k", "c64k"].includes(b.name));
  const made = await Promise.all(bases.map((b) => b.make()));
  await inScratch("ntfs-mutations", async (dir) => {
    for (let seed = 0; seed < rounds(20, 180); seed++) {
      const which = seed % bases.length;
      const base = made[which];
      const m = mutate(base, new Random(seed * 7919 + 13));
      const volume = join(dir, "volume");
      writeFileSync(volume, m.bytes);
      const ways = FULL ? WAYS : [0, 1].map((k) => WAYS[(seed * 2 + k) % WAYS.length]);
      for (const way of ways) {
        const title = `seed ${seed}, ${bases[which].name} record ${m.record} (${m.what}), ${way.join(" ")}`;
        const pair = await both(dir, [...way, OUT, volume]);
        compareVolume(t, pair, m, way, title);
        for (const { output } of [pair.native, pair.ours]) rmSync(output, { force: true });
      }
    }
  });
});

function compareVolume(
  t: ExecutionContext,
  { native, ours }: Pair,
  m: Mutation,
  way: readonly string[],
  title: string,
): void {
  const metadata = way.includes("-m");
  if (native.code === null) {
    endsByItself(t, ours, title);
    return;
  }
  // Native wipes what it has cloned already, and cannot write every record back.
  const stuck = metadata && native.messages.includes("ntfs_mft_record_write");
  if (stuck) {
    t.is(ours.code, 0, title);
    return;
  }
  t.is(ours.code, native.code, `${title}: ${native.messages}\n${ours.messages}`);
  t.is(words(ours, metadata), words(native, metadata), title);
  if (native.code !== 0) {
    t.false(existsSync(ours.output), title);
    return;
  }
  const [a, b] = [native, ours].map((s) => readFileSync(s.output));
  if (a.equals(b)) return;
  t.true(metadata, `${title}: other bytes`);
  // Native wipes as far as the record says it goes, into the next one.
  if (m.what.includes("record allocated")) return;
  if (!way.includes("-s")) {
    t.is(wipesMore(a, b, m.places, m.recordSize), null, title);
    return;
  }
  const [x, y] = [restored(a), restored(b)];
  t.is(y.commands, x.commands, title);
  t.is(wipesMore(x.volume, y.volume, m.places, m.recordSize), null, title);
}
