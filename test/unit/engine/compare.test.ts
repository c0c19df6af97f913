import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import test, { type ExecutionContext } from "ava";
import { DATA, HOLE, MapRuns, type RunState } from "../../../src/bytes/runs.ts";
import { type Comparison, compare } from "../../../src/engine/compare.ts";
import { BY_SOURCE, ComparePlan, PIECE, Pieces } from "../../../src/engine/compare-pieces.ts";
import { writeImage } from "../../../src/engine/write.ts";
import { AbortError, IoError } from "../../../src/errors.ts";
import { openFileSource } from "../../../src/io/node/file-source.ts";
import { createFileTarget } from "../../../src/io/node/file-target.ts";
import { Pace } from "../../../src/io/pace.ts";
import type { Source } from "../../../src/io/source.ts";
import { nodeComparer } from "../../../src/node/bulk-compare.ts";
import { SharedPieces, Slots } from "../../../src/node/shared-pieces.ts";
import { scratch } from "../../support/host.ts";

/** Part of a piece: five whole pieces are 40 of them. */
const STEP = PIECE / 8;
/** Not a multiple of a piece. */
const SIZE = 40 * STEP + 1000;

/** A file of `size` bytes that differ from place to place. */
function pattern(path: string, size = SIZE): void {
  const words = new Uint32Array(Math.ceil(size / 4));
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + 1, 2654435761);
  fs.writeFileSync(path, new Uint8Array(words.buffer, 0, size));
}

/** Two files with the same pattern, in a folder of their own. */
function twins(t: ExecutionContext): {
  readonly dir: string;
  readonly pathA: string;
  readonly pathB: string;
} {
  const dir = scratch(t, "compare");
  const [pathA, pathB] = [join(dir, "a"), join(dir, "b")];
  pattern(pathA);
  fs.copyFileSync(pathA, pathB);
  return { dir, pathA, pathB };
}

function change(path: string, at: number): () => void {
  const fd = fs.openSync(path, "r+");
  const old = new Uint8Array(1);
  fs.readSync(fd, old, 0, 1, at);
  const put = (v: number): number => fs.writeSync(fd, Uint8Array.of(v), 0, 1, at);
  put(old[0] ^ 0x40);
  return () => {
    put(old[0]);
    fs.closeSync(fd);
  };
}

/** A source whose map says what `runs` say, over a file. */
function mapped(path: string, size: number, runs: readonly [RunState, number, boolean][]): Source {
  const file = openFileSource(path);
  return {
    size,
    label: path,
    read(into, at) {
      // Bytes that the map calls holes read as zeros.
      const n = file.read(into, at);
      let from = 0;
      for (const [state, length] of runs) {
        const a = Math.max(0, from - at);
        const b = Math.min(n, from + length - at);
        if (state !== DATA && b > a) into.fill(0, a, b);
        from += length;
      }
      return n;
    },
    map(from, to) {
      const out = new MapRuns(from);
      let at = 0;
      for (const [state, length, plain] of runs) {
        const a = Math.max(at, from);
        const b = Math.min(at + length, to);
        at += length;
        // One run a call: batches are walked too.
        if (b > a && out.count === 0)
          out.push(b - a, state, 0, plain ? a : -1, plain ? file.plain.file : null);
      }
      return out;
    },
    close: () => file.close(),
  };
}

/** What both ways of comparing answer, which must be the same. */
async function both(a: Source, b: Source, comparer: ReturnType<typeof nodeComparer>): Promise<Comparison> {
  const alone = await compare(a, b);
  const together = await compare(a, b, { comparer });
  if (JSON.stringify(alone) !== JSON.stringify(together))
    throw new Error(`${JSON.stringify(alone)} alone, ${JSON.stringify(together)} by two threads`);
  return together;
}

test.serial("the first difference is found wherever it is, by one thread and by two", async (t) => {
  const { pathA, pathB } = twins(t);
  const a = openFileSource(pathA);
  const b = openFileSource(pathB);
  const comparer = nodeComparer({ from: 1 });
  t.deepEqual(await both(a, b, comparer), { identical: true, offset: -1, sizeDiffers: false });
  // Two differences: the lower one counts, whoever finds the other first.
  for (const at of [0, 1, STEP - 1, STEP, 7 * STEP + 13, PIECE - 1, PIECE, 20 * STEP, 40 * STEP, SIZE - 1]) {
    const undo = change(pathB, at);
    const undoLater = at + STEP < SIZE ? change(pathB, at + STEP) : () => {};
    for (let i = 0; i < 3; i++) t.is((await both(a, b, comparer)).offset, at);
    undoLater();
    undo();
  }
  t.true((await both(a, b, comparer)).identical);
  await comparer.close();
  a.close();
  b.close();
});

test.serial("zeros, holes, what only a source can read, and sizes that differ", async (t) => {
  const { dir, pathA, pathB } = twins(t);
  const comparer = nodeComparer({ from: 1 });
  // The middle is zero in both: stored in one, a hole in the other.
  const from = 3 * STEP + 512;
  const length = 5 * STEP;
  for (const path of [pathA, pathB]) {
    const fd = fs.openSync(path, "r+");
    fs.writeSync(fd, new Uint8Array(length), 0, length, from);
    fs.closeSync(fd);
  }
  const rest = SIZE - from - length;
  const a = mapped(pathA, SIZE, [[DATA, SIZE, true]]);
  const b = mapped(pathB, SIZE, [
    [DATA, from, true],
    [HOLE, length, false],
    [DATA, 3 * STEP + 77, false],
    [DATA, rest - 3 * STEP - 77, true],
  ]);
  for (const [x, y] of [
    [a, b],
    [b, a],
  ]) {
    t.deepEqual(await both(x, y, comparer), { identical: true, offset: -1, sizeDiffers: false });
    for (const at of [from - 1, from, from + length - 1, from + length, from + length + 3 * STEP + 77]) {
      const undo = change(pathA, at);
      t.is((await both(x, y, comparer)).offset, at);
      // Nothing is asked of what the first one does not store.
      const hole = at >= from && at < from + length;
      t.is(
        (await compare(x, y, { comparer, storedOnly: true })).identical,
        hole && x === b,
        `${at}, ${x === b}`,
      );
      undo();
    }
  }
  // Longer by stored zeros, then by something else.
  const longer = join(dir, "longer");
  fs.copyFileSync(pathA, longer);
  fs.appendFileSync(longer, new Uint8Array(3 * STEP));
  const c = mapped(longer, SIZE + 3 * STEP, [[DATA, SIZE + 3 * STEP, true]]);
  t.deepEqual(await both(a, c, comparer), { identical: true, offset: -1, sizeDiffers: true });
  const undo = change(longer, SIZE + 2 * STEP);
  t.deepEqual(await both(c, a, comparer), {
    identical: false,
    offset: SIZE + 2 * STEP,
    sizeDiffers: true,
  });
  t.true((await compare(c, a, { comparer, length: SIZE + 2 * STEP })).identical);
  undo();
  await comparer.close();
  for (const s of [a, b, c]) await s.close();
});

test.serial(
  "two threads that take turns: nothing is taken behind a difference, nothing before it is left out",
  async (t) => {
    const { pathA, pathB } = twins(t);
    const a = openFileSource(pathA);
    const b = openFileSource(pathB);
    const slots = new Slots();
    const pieces = new Pieces();
    await new ComparePlan(a, b, SIZE, false).fill(pieces, new Pace(() => {}));
    t.is(pieces.count, 6);
    // In the pieces of the one, of the other, the first and the last.
    for (const piece of [0, 1, 4, 5]) {
      const undo = change(pathB, piece * PIECE);
      const mine = SharedPieces.of(pieces);
      const other = SharedPieces.in(mine.buffer);
      t.true(other.join());
      t.false(mine.close());
      while (mine.work(slots, () => true) && other.work(slots, () => true));
      other.leave();
      t.true(mine.close());
      t.false(SharedPieces.in(mine.buffer).join());
      t.is(mine.sameUntil(0), piece);
      const marks = new Uint8Array(pieces.count);
      mine.marks(marks);
      t.true(marks.subarray(0, piece).every((m) => m === 1));
      t.true(marks.subarray(piece).every((m) => m === 0));
      undo();
    }
    // What only a source can read is left out, and does not end it.
    pieces.fdB[3] = BY_SOURCE;
    const shared = SharedPieces.of(pieces);
    t.false(shared.work(slots, () => false));
    t.is(shared.sameUntil(0), 3);
    t.is(shared.sameUntil(4), 6);
    slots.dispose();
    a.close();
    b.close();
  },
);

test.serial(
  "read errors have the name of the side that fails, unless a difference comes first",
  async (t) => {
    const { pathA, pathB } = twins(t);
    const comparer = nodeComparer({ from: 1 });
    const a = openFileSource(pathA);
    const b = openFileSource(pathB);
    const cut = 30 * STEP + 99;
    fs.truncateSync(pathB, cut);
    const whole = mapped(pathA, SIZE, [[DATA, SIZE, true]]);
    const short = mapped(pathB, SIZE, [[DATA, SIZE, true]]);
    for (const [x, y] of [
      [whole, short],
      [short, whole],
      [a, short],
    ])
      for (const options of [{}, { comparer }]) {
        const error = await t.throwsAsync(compare(x, y, options), { instanceOf: IoError, code: "ESHORT" });
        t.true(error?.message.startsWith(pathB), error?.message);
        t.is(error?.offset, cut);
      }
    const undo = change(pathB, 23 * STEP);
    t.is((await both(whole, short, comparer)).offset, 23 * STEP);
    undo();
    // A map that cannot be read: what comes before it is compared.
    const lost: Source = {
      size: SIZE,
      label: "lost",
      read: (into, at) => whole.read(into, at),
      map(from, to) {
        if (from > 0) throw new IoError("EIO", "lost: map", from);
        const runs = new MapRuns(0);
        runs.push(Math.min(9 * STEP, to), DATA, 0, 0, a.plain.file);
        return runs;
      },
      close() {},
    };
    await t.throwsAsync(compare(lost, whole, { comparer }), { instanceOf: IoError, code: "EIO" });
    const before = change(pathB, 8 * STEP);
    t.is((await both(lost, short, comparer)).offset, 8 * STEP);
    before();
    const empty: Source = { ...whole, map: (from) => new MapRuns(from) };
    await t.throwsAsync(compare(empty, whole, { comparer }), { code: "EINTERNAL" });
    await comparer.close();
    for (const s of [a, b, whole, short]) await s.close();
  },
);

test.serial(
  "a helper that cannot start, ends at once or dies at work: the comparison is as it would be without",
  async (t) => {
    const { dir, pathA, pathB } = twins(t);
    const a = openFileSource(pathA);
    const b = openFileSource(pathB);
    const shared = pathToFileURL(join(import.meta.dirname, "../../../src/node/shared-pieces.js"));
    const helpers = {
      missing: null,
      ends: "process.exit(3);",
      throws: "throw new Error('no');",
      // Takes a piece of the second list it is sent and is gone.
      dies: `import { parentPort } from "node:worker_threads";
      import { SharedPieces } from ${JSON.stringify(shared.href)};
      let lists = 0;
      parentPort.on("message", (buffer) => {
        if (++lists < 2) return;
        const pieces = SharedPieces.in(buffer);
        if (pieces.join()) pieces.work({ same() { process.exit(4); } }, () => false);
        lists = 1;
      });`,
    };
    for (const [name, code] of Object.entries(helpers)) {
      const file = join(dir, `${name}.mjs`);
      if (code !== null) fs.writeFileSync(file, code);
      const comparer = nodeComparer({ from: 1, file: pathToFileURL(file) });
      for (let i = 0; i < 200 && comparer.worthFrom !== Number.POSITIVE_INFINITY; i++) {
        t.true((await compare(a, b, { comparer })).identical, name);
        const undo = change(pathB, (i % 40) * STEP + 5);
        t.is((await compare(a, b, { comparer })).offset, (i % 40) * STEP + 5, name);
        undo();
        await sleep(5);
      }
      t.is(comparer.worthFrom, Number.POSITIVE_INFINITY, name);
      t.true((await compare(a, b, { comparer })).identical, name);
      await comparer.close();
    }
    a.close();
    b.close();
  },
);

test.serial("a comparison can be stopped, and says how far it is", async (t) => {
  const dir = scratch(t, "compare");
  const path = join(dir, "a");
  fs.writeFileSync(path, "");
  fs.truncateSync(path, 2 ** 36);
  const a = mapped(path, 2 ** 36, [[DATA, 2 ** 36, true]]);
  const comparer = nodeComparer();
  for (const options of [{}, { comparer }]) {
    const abort = new AbortController();
    const seen: number[] = [];
    const timer = setTimeout(() => abort.abort(), 300);
    const started = performance.now();
    await t.throwsAsync(
      compare(a, a, { ...options, signal: abort.signal, onProgress: (p) => seen.push(p.done) }),
      { instanceOf: AbortError },
    );
    clearTimeout(timer);
    t.true(performance.now() - started < 10_000);
    t.true(seen.length > 1 && seen.every((x, i) => i === 0 || x >= seen[i - 1]));
    t.true(seen[seen.length - 1] > 0);
  }
  await comparer.close();
  await a.close();
});

test.serial(
  "verification by two threads: an output that ends early holds zeros, a wrong byte is found",
  async (t) => {
    const dir = scratch(t, "compare");
    const path = join(dir, "a");
    pattern(path);
    // Zeros at the end that are stored: the output has a hole there, and ends before it.
    const size = 44 * STEP + 1024;
    fs.truncateSync(path, size);
    const source = mapped(path, size, [[DATA, size, true]]);
    const comparer = nodeComparer({ from: 1 });
    const qemu = { kind: "qemu", version: 3, refcountOrder: 4, clusterSize: 65536 } as const;
    const layouts = [
      { kind: "raw", clusterSize: 4096, guestSize: size, offset: 0 } as const,
      { ...qemu, guestSize: size, backingFile: null, backingFormat: null } as const,
    ];
    for (const layout of layouts) {
      const target = (): ReturnType<typeof createFileTarget> => createFileTarget(join(dir, "out"));
      t.true((await writeImage(source, target(), { layout, verify: true, comparer })).verified);
      const broken = target();
      const write = broken.write.bind(broken);
      // One byte of what is written in the middle is wrong.
      broken.write = (bytes, at) => {
        const copy = bytes.slice();
        if (at <= 22 * STEP && 22 * STEP < at + copy.length) copy[22 * STEP - at] ^= 1;
        write(copy, at);
      };
      await t.throwsAsync(writeImage(source, broken, { layout, verify: true, comparer }), {
        code: "EVERIFY",
      });
    }
    await comparer.close();
    await source.close();
  },
);
