// A move within one file loses nothing, wherever it is interrupted: power cuts in memory, SIGKILL for real.
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import test from "ava";
import { BlockSet } from "../../src/bytes/block-set.ts";
import { ExtentList } from "../../src/bytes/extents.ts";
import {
  checkMove,
  Move,
  type MoveFacts,
  MoveJournal,
  startMove,
  superblockCrc,
} from "../../src/engine/move.ts";
import { NameScrambler } from "../../src/fs/ext/name-scrambler.ts";
import { CrashFile, CrashStore, Power, PowerCut } from "../support/crash-disk.ts";
import { shapeImage, shapeNamed } from "../support/ext-shapes.ts";
import { noise } from "../support/ext-tree.ts";
import { mount, scratch, sh } from "../support/host.ts";
import { countChanges, killedAt } from "../support/kill-point.ts";
import { imprint, imprintProcess } from "../support/native.ts";
import { Random } from "../support/random.ts";

const BLOCK = 1024;

/** A file with a volume in it, and where the volume is to go. */
interface Case {
  readonly facts: MoveFacts;
  readonly before: Uint8Array;
  readonly wanted: Uint8Array;
}

/** The order in which native e2image goes through the blocks. */
function nativeOrder(facts: MoveFacts): [number, number][] {
  const { source, destination, blocks } = facts;
  const apart = Math.floor((destination - source) / BLOCK);
  if (destination <= source || apart >= blocks) return [[0, blocks]];
  const out: [number, number][] = [];
  // Below a block native moves nothing: any order will do, but it has to be one.
  const piece = apart > 0 ? apart : Math.max(1, Math.floor(facts.chunk / BLOCK));
  for (let end = blocks; end > 0; end -= piece) out.push([Math.max(0, end - piece), end]);
  return out;
}

function makeCase(random: Random, distance: number, right: boolean, scramble: boolean): Case {
  const blocks = 30 + random.below(200);
  const base = random.below(5000);
  const [source, destination] = right ? [base, base + distance] : [base + distance, base];
  const selected = new BlockSet(blocks);
  const density = 1 + random.below(6);
  for (let b = 0; b < blocks; b++) if (random.below(6) < density) selected.add(b, b + 1 + random.below(4));
  const scrambled = scramble ? new BlockSet(blocks) : null;
  const fileSize = source + blocks * BLOCK + random.below(4000);
  const before = random.fill(new Uint8Array(fileSize));
  if (scrambled !== null) {
    const runs = new ExtentList();
    selected.runs(0, blocks, runs);
    for (let i = 0; i < runs.count; i++)
      for (let b = runs.start(i); b < runs.end(i); b++) {
        if (random.below(3) === 0) continue;
        scrambled.add(b);
        const block = new DataView(before.buffer, source + b * BLOCK, BLOCK);
        for (let p = 0; p < BLOCK; ) {
          const name = 1 + random.below(30);
          const need = Math.ceil((8 + name) / 4) * 4;
          const length = need + 12 > BLOCK - p ? BLOCK - p : need;
          block.setUint16(p + 4, random.below(500) === 0 ? 6 : length, true);
          block.setUint8(p + 6, Math.min(name, length - 8));
          p += length;
        }
      }
  }
  const file = new CrashFile("file", before, () => new Power());
  const facts: MoveFacts = {
    source,
    destination,
    blockSize: BLOCK,
    blocks,
    chunk: [1024, 4096, 10_000, 32_768, 1 << 20][random.below(5)],
    fileSize,
    inode: 7,
    uuid: random.fill(new Uint8Array(16)),
    superblock: superblockCrc(file, source),
    marks: blocks,
    selected,
    scrambled,
  };
  const wanted = Buffer.alloc(Math.max(fileSize, destination + blocks * BLOCK));
  wanted.set(before);
  const names = new NameScrambler(BLOCK);
  for (const [first, last] of nativeOrder(facts))
    for (let b = first; b < last; b++) {
      if (!selected.has(b)) continue;
      const bytes = before.slice(source + b * BLOCK, source + (b + 1) * BLOCK);
      if (scrambled?.has(b)) names.scramble(bytes, b);
      wanted.set(bytes, destination + b * BLOCK);
    }
  return { facts, before, wanted };
}

/** One run of the command: goes on with what a journal says, or starts. */
async function session(c: Case, file: CrashFile, store: CrashStore): Promise<void> {
  const journal = MoveJournal.load(store);
  if (journal === null) {
    await startMove(store, c.facts, file).run();
    return;
  }
  checkMove(journal, file, {
    source: c.facts.source,
    destination: c.facts.destination,
    scramble: c.facts.scrambled !== null,
    inode: c.facts.inode,
  });
  await new Move(journal, file).run();
}

/** What every case of one kind goes through; answers with the power cuts survived. */
async function survive(c: Case, random: Random, cuts: number): Promise<string | null> {
  let power = new Power();
  const current = () => power;
  const whole = new CrashFile("file", c.before, current);
  await session(c, whole, new CrashStore(current));
  if (!whole.bytes.equals(c.wanted)) return "an uninterrupted move is wrong";
  const { operations } = power;
  for (let n = 0; n < cuts; n++) {
    const file = new CrashFile("file", c.before, current);
    const store = new CrashStore(current);
    let ended = false;
    for (let k = 0; !ended; k++) {
      // Cut again and again, but let it get through in the end.
      power = k < 6 ? new Power(random.below(operations + 1)) : new Power();
      try {
        await session(c, file, store);
        ended = true;
      } catch (e) {
        if (!(e instanceof PowerCut)) return `cut ${n}, run ${k}: ${(e as Error).stack}`;
        file.crash(random);
        store.crash(random);
        if (store.exists) continue;
        // Without a journal the move is complete, or the volume is whole where it was.
        if (file.bytes.equals(c.wanted)) ended = true;
        else if (!sourceIntact(c, file)) return `cut ${n}, run ${k}: no journal, and the volume is damaged`;
      }
    }
    if (!file.bytes.equals(c.wanted)) return `cut ${n}: the result is wrong`;
    if (store.exists) return `cut ${n}: the journal is left`;
  }
  return null;
}

function sourceIntact(c: Case, file: CrashFile): boolean {
  const { facts } = c;
  for (let b = 0; b < facts.blocks; b++) {
    const at = facts.source + b * BLOCK;
    if (!facts.selected.has(b)) continue;
    if (file.bytes.compare(c.before, at, at + BLOCK, at, at + BLOCK) !== 0) return false;
  }
  return true;
}

for (const right of [false, true])
  for (const scramble of [false, true])
    for (const [what, distance] of [
      ["less than a block", (r: Random) => 1 + r.below(BLOCK - 1)],
      ["less than a step, in blocks", (r: Random) => BLOCK * (1 + r.below(9))],
      ["less than a step", (r: Random) => 1024 + r.below(9000)],
      ["any distance", (r: Random) => 1 + r.below(240 * BLOCK)],
      ["to a place of its own", (r: Random) => 240 * BLOCK + r.below(5000)],
      ["nowhere", () => 0],
    ] as const)
      test(`power cuts, to the ${right ? "right" : "left"}, ${what}${scramble ? ", scrambled" : ""}`, async (t) => {
        const random = new Random(what.length * 4 + (right ? 2 : 0) + (scramble ? 1 : 0));
        for (let round = 0; round < 12; round++) {
          const c = makeCase(random, distance(random), right, scramble);
          const wrong = await survive(c, random, 6);
          const { source, destination, blocks, chunk } = c.facts;
          t.is(
            wrong,
            null,
            `round ${round}: ${source} to ${destination}, ${blocks} blocks, steps of ${chunk}`,
          );
          if (wrong !== null) return;
        }
      });

/** Small steps, so that there are many moments to be killed at. */
const STEPS = { IMPRINT_MOVE_STEP: "32768" };
const JOURNAL = ".disk.imprint-move";

/** Number of changes that the whole command makes; it must succeed. */
function changesOf(dir: string, args: readonly string[]): Promise<number> {
  return countChanges(join(dir, "count"), async (env) => {
    const r = await imprintProcess(["e2image", ...args], { cwd: dir, env: { ...env, ...STEPS } });
    if (r.code !== 0) throw new Error(r.stderr);
  }).finally(() => rmSync(join(dir, "count"), { force: true }));
}

/** Runs the command until its change number `at`; true where it ended before. */
async function killed(dir: string, args: readonly string[], at: number): Promise<boolean> {
  const env = { ...(await killedAt(at)), ...STEPS };
  const r = await imprintProcess(["e2image", ...args], { cwd: dir, env });
  if (r.signal !== "SIGKILL" && r.code !== 0) throw new Error(r.stderr);
  return r.code === 0;
}

for (const [what, source, destination, flags] of [
  ["to the right by less than a block", 4096, 4096 + 700, "-ra"],
  ["to the right, overlapping, scrambled", 0, 3 << 20, "-ras"],
  ["to the right, to a place of its own", 0, 9 << 20, "-ra"],
  ["to the left by less than a step, scrambled", 20_480, 0, "-ras"],
  ["to the left, overlapping", (5 << 20) + 77, 512, "-ra"],
  ["to the left, to a place of its own", 9 << 20, 0, "-ra"],
] as const)
  test(`killed for real, ${what}`, async (t) => {
    const dir = scratch(t, "move");
    const volume = readFileSync(await shapeImage(shapeNamed("ext4-1k")));
    const disk = Buffer.concat([noise(3, source), volume, noise(4, 50_000)]);
    const args = [flags, "-o", `${source}`, "-O", `${destination}`, "disk"];
    writeFileSync(join(dir, "disk"), disk);
    const changes = await changesOf(dir, args);
    t.true(changes > 8, `${changes} changes`);
    const wanted = readFileSync(join(dir, "disk"));
    t.deepEqual(readdirSync(dir), ["disk"]);
    const random = new Random(destination + 1);
    const inside = () => 2 + random.below(changes - 2);
    for (const first of [1, 2, inside(), inside(), changes - 1, changes]) {
      const label = `killed at ${first} of ${changes}`;
      writeFileSync(join(dir, "disk"), disk);
      t.false(await killed(dir, args, first), label);
      // And again, once, after it went on from there.
      if (existsSync(join(dir, JOURNAL))) await killed(dir, args, 1 + random.below(changes));
      // Done, or never begun, or to be finished: the same command sees to it, unless it is done.
      if (existsSync(join(dir, JOURNAL)) || !readFileSync(join(dir, "disk")).equals(wanted)) {
        const r = await imprint(["e2image", ...args], { cwd: dir });
        t.is(r.code, 0, r.stderr);
      } else {
        // Killed between its last two steps, a finished move leaves the lock of a process that is gone: any next
        // command takes it away.
        rmSync(join(dir, `${JOURNAL}.lock`), { force: true });
      }
      t.true(readFileSync(join(dir, "disk")).equals(wanted), label);
      t.deepEqual(readdirSync(dir), ["disk"], label);
    }
  });

/** A volume amid a move that was killed with its journal there, and what it should become. */
async function halfMoved(dir: string): Promise<{ args: string[]; wanted: Buffer }> {
  const args = ["-ra", "-O", "20480", "disk"];
  const volume = await shapeImage(shapeNamed("ext4-1k"));
  copyFileSync(volume, join(dir, "disk"));
  const changes = await changesOf(dir, args);
  const wanted = readFileSync(join(dir, "disk"));
  copyFileSync(volume, join(dir, "disk"));
  await killed(dir, args, Math.floor(changes / 2));
  if (!existsSync(join(dir, JOURNAL)) || readFileSync(join(dir, "disk")).equals(wanted))
    throw new Error("the move was not interrupted");
  return { args, wanted };
}

test("an interrupted move is finished by its own command only, on its own file only", async (t) => {
  const dir = scratch(t, "move");
  const { args, wanted } = await halfMoved(dir);
  const half = readFileSync(join(dir, "disk"));
  const journal = readFileSync(join(dir, JOURNAL));
  const refused = async (what: string, message: RegExp, command = args) => {
    const was = readFileSync(join(dir, "disk"));
    const r = await imprint(["e2image", ...command], { cwd: dir });
    t.is(r.code, 1, what);
    t.regex(r.stderr, message, what);
    t.true(readFileSync(join(dir, "disk")).equals(was), `${what}: nothing is changed`);
    t.true(existsSync(join(dir, JOURNAL)), `${what}: the journal stays`);
  };
  const another = /another move that was interrupted: from byte 0 to 20480; finish that one first/;
  await refused("another offset", another, ["-ra", "-O", "4096", "disk"]);
  await refused("scrambled", another, ["-ras", "-O", "20480", "disk"]);
  await refused("a list", /was interrupted and has to be finished first/, ["-ran", "-O", "20480", "disk"]);

  writeFileSync(join(dir, "disk"), Buffer.concat([half, noise(1, 100)]));
  await refused("a longer file", /does not belong to this file: it was made for \d+ bytes, this has \d+/);
  const other = Buffer.from(half);
  for (let i = 20_480; i < other.length; i++) other[i] ^= 0x55;
  writeFileSync(join(dir, "disk"), other);
  await refused("other contents", /of the filesystem [0-9a-f-]{36}, and the file holds something else/);
  writeFileSync(join(dir, "disk"), half);

  for (const [what, at, length, message] of [
    ["a header that is damaged", 40, 1, /journal of a move at 0x\w+: checksum is wrong/],
    ["no journal at all", 0, 8, /it is not the journal of a move/],
    ["another version", 8, 1, /version \d+, only 1 is known/],
    ["damaged runs", 4100, 1, /run of blocks|checksum of the runs/],
    ["two damaged slots", 8192, journal.length - 8192, /neither slot can be read/],
  ] as const) {
    const bad = Buffer.from(journal);
    for (let i = at; i < at + length; i++) bad[i] ^= 0xff;
    writeFileSync(join(dir, JOURNAL), bad);
    await refused(what, message);
  }
  for (const length of [0, 100, 4096, 5000]) {
    writeFileSync(join(dir, JOURNAL), journal.subarray(0, length));
    await refused(`a journal of ${length} bytes`, /journal of a move/);
  }
  writeFileSync(join(dir, JOURNAL), journal);

  const inode = join(dir, "copy");
  copyFileSync(join(dir, "disk"), inode);
  copyFileSync(join(dir, JOURNAL), join(dir, ".copy.imprint-move"));
  const r = await imprint(["e2image", "-ra", "-O", "20480", "copy"], { cwd: dir });
  t.regex(r.stderr, /does not belong to this file: it was made for inode \d+, this is \d+/);

  const device = sh("losetup", "--find", "--show", join(dir, "disk"));
  await refused("a file that is in use", /disk: is attached to/);
  sh("losetup", "--detach", device);

  const last = await imprint(["e2image", ...args], { cwd: dir });
  t.is(last.code, 0, last.stderr);
  t.regex(last.stderr, /going on with the move that was interrupted/);
  t.true(readFileSync(join(dir, "disk")).equals(wanted));
  t.false(existsSync(join(dir, JOURNAL)));
});

test("one process at a time, and a lock that a dead one left is no hindrance", async (t) => {
  const dir = scratch(t, "move");
  const { args, wanted } = await halfMoved(dir);
  t.true(readdirSync(dir).includes(`${JOURNAL}.lock`), "the killed process left its lock");
  rmSync(join(dir, `${JOURNAL}.lock`));
  const stat = readFileSync(`/proc/${process.pid}/stat`, "latin1");
  const start = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  symlinkSync(`${process.pid}.${start}.${boot}`, join(dir, `${JOURNAL}.lock`));
  const busy = await imprint(["e2image", ...args], { cwd: dir });
  t.is(busy.code, 1);
  t.regex(busy.stderr, new RegExp(`process ${process.pid} is at work on it`));
  rmSync(join(dir, `${JOURNAL}.lock`));
  symlinkSync(`${process.pid}.1.${boot}`, join(dir, `${JOURNAL}.lock`));
  const r = await imprint(["e2image", ...args], { cwd: dir });
  t.is(r.code, 0, r.stderr);
  t.true(readFileSync(join(dir, "disk")).equals(wanted));
  t.deepEqual(readdirSync(dir), ["disk"]);
});

test("a disk that is full stops a move, and with room again it goes on", async (t) => {
  const dir = scratch(t, "move");
  const at = mount(t, join(dir, "m"), "-t", "tmpfs", "-o", "size=12m", "none");
  const volume = await shapeImage(shapeNamed("ext4-1k"));
  copyFileSync(volume, join(dir, "disk"));
  const args = ["-ra", "-O", `${(1 << 20) + 300}`];
  t.is((await imprint(["e2image", ...args, "disk"], { cwd: dir })).code, 0);
  copyFileSync(volume, join(at, "disk"));
  for (const room of [100_000, 300_000, 700_000, 2_000_000]) {
    writeFileSync(join(at, "filler"), "");
    const free = Number(sh("stat", "-f", "-c", "%f", at)) * 4096;
    writeFileSync(join(at, "filler"), noise(1, Math.max(0, free - room)));
    const r = await imprint(["e2image", ...args, join(at, "disk")]);
    t.is(r.code, 1);
    t.regex(r.stderr, /no space left on device/i);
    rmSync(join(at, "filler"));
  }
  const r = await imprint(["e2image", ...args, join(at, "disk")]);
  t.is(r.code, 0, r.stderr);
  t.true(readFileSync(join(at, "disk")).equals(readFileSync(join(dir, "disk"))));
  t.deepEqual(readdirSync(at), ["disk"]);
});
