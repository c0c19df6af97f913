// The command stream of ntfsclone images in wasm, against plain code.
import test from "ava";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";

interface Run {
  readonly gap: number;
  readonly clusters: number;
}

/** The stream of `runs`, by the book; the last cluster has `lastBytes`. */
function encode(runs: readonly Run[], data: Uint8Array, clusterSize: number, lastBytes: number): Buffer {
  const parts: Buffer[] = [];
  let from = 0;
  const total = runs.reduce((n, r) => n + r.clusters, 0);
  let done = 0;
  for (const { gap, clusters } of runs) {
    if (gap !== 0) {
      const b = Buffer.alloc(9);
      b.writeBigInt64LE(BigInt(gap), 1);
      parts.push(b);
    }
    for (let i = 0; i < clusters; i++) {
      const n = ++done === total ? lastBytes : clusterSize;
      parts.push(Buffer.from([1]), Buffer.from(data.subarray(from, from + n)));
      from += n;
    }
  }
  return Buffer.concat(parts);
}

function sample(seed: number) {
  const r = new Random(seed * 7919 + 1);
  const pick = (n: number): number => r.below(n);
  const clusterSize = [1, 7, 256, 512, 1000, 4096][pick(6)];
  const runs: Run[] = [];
  let lcn = 0;
  for (let i = 0; i < 1 + pick(20); i++) {
    const gap = i === 0 ? pick(2) * pick(9) : pick(4) === 0 ? -pick(lcn + 1) : 1 + pick(1e9);
    const clusters = 1 + pick(9);
    if (gap === 0 && i > 0) continue;
    runs.push({ gap, clusters });
    lcn += gap + clusters;
  }
  const clusters = runs.reduce((n, r) => n + r.clusters, 0);
  const lastBytes = pick(clusterSize + 1);
  const data = new Uint8Array((clusters - 1) * clusterSize + lastBytes).map(() => pick(256));
  return { clusterSize, runs, data, lastBytes, clusters, end: lcn };
}

const kernel = Kernel.get();
const WORDS = 8;

test("writeCommands spreads clusters out in place", (t) => {
  for (let seed = 0; seed < 300; seed++) {
    const s = sample(seed);
    const want = encode(s.runs, s.data, s.clusterSize, s.lastBytes);
    const reserve = s.runs.length * 9 + s.clusters + (seed % 5);
    kernel.borrow(reserve + s.data.length + 16, (slot) =>
      kernel.borrow(16 * s.runs.length, (table) => {
        const entries = new Float64Array(table.bytes.buffer, table.at, 2 * s.runs.length);
        for (const [i, r] of s.runs.entries()) entries.set([r.gap, r.clusters], 2 * i);
        slot.bytes.fill(0xee);
        slot.bytes.set(s.data, reserve);
        const n = kernel.raw.writeCommands(
          slot.at,
          slot.at + reserve,
          table.at,
          s.runs.length,
          s.clusterSize,
          s.lastBytes,
        );
        t.is(n, want.length);
        t.true(want.equals(slot.bytes.subarray(0, n)), `seed ${seed}`);
        t.true(slot.bytes.subarray(reserve + s.data.length).every((b) => b === 0xee));
      }),
    );
  }
});

test("readCommands packs clusters and lists them, however the stream is cut", (t) => {
  let used = 0;
  for (let seed = 0; seed < 300; seed++) {
    const s = sample(seed + 1000);
    const stream = encode(s.runs, s.data, s.clusterSize, s.lastBytes);
    // A device that ends with the last cluster of the stream, where that is the highest and comes once.
    const places = positions(s.runs);
    const last = places[places.length - 1];
    if (places.filter((p) => p >= last).length > 1) continue;
    used++;
    const device = last * s.clusterSize + s.lastBytes;
    for (const pack of [true, false]) {
      const found: number[][] = [];
      const packed: number[] = [];
      kernel.borrow(stream.length + s.clusterSize + 64, (slot) =>
        kernel.borrow(8 * WORDS, (words) => {
          const state = new Float64Array(words.bytes.buffer, words.at, WORDS);
          state.set([0, last, device, 0, 0, 0, 0, 0]);
          let at = 0;
          for (let step = 0; state[0] <= last && step < 10_000; step++) {
            const room = Math.min(stream.length - at, s.clusterSize + 10 + ((seed * 37 + step * 101) % 5000));
            slot.bytes.set(stream.subarray(at, at + room));
            const n = kernel.raw.readCommands(slot.at, room, s.clusterSize, pack ? 1 : 0, words.at) >>> 0;
            const out = new Float64Array(kernel.out.buffer, kernel.out.byteOffset, 3 * n);
            for (let i = 0; i < n; i++)
              found.push([
                out[3 * i],
                out[3 * i + 2],
                pack ? packed.length + out[3 * i + 1] : at + out[3 * i + 1],
              ]);
            for (const b of slot.bytes.subarray(0, state[4])) packed.push(b);
            at += state[3];
            t.true(state[5] === 0 || state[5] === 2, "stops for want of bytes, or at the end");
          }
          t.is(at, stream.length);
          t.is(state[6], s.runs.filter((r) => r.gap < 0).length);
        }),
      );
      if (pack) t.true(Buffer.from(packed).equals(Buffer.from(s.data)), `seed ${seed}`);
      t.deepEqual(
        found.flatMap(([lcn, count]) => Array.from({ length: count }, (_, i) => lcn + i)),
        positions(s.runs),
      );
      for (const [lcn, , at] of found) t.true(at >= 0 && lcn >= 0);
    }
  }
  t.true(used > 100);
});

function positions(runs: readonly Run[]): number[] {
  let lcn = 0;
  return runs.flatMap(({ gap, clusters }) => {
    lcn += gap;
    return Array.from({ length: clusters }, () => lcn++);
  });
}

test("readCommands stops at what makes no sense", (t) => {
  const gap = (n: bigint): number[] => {
    const b = Buffer.alloc(9);
    b.writeBigInt64LE(n, 1);
    return [...b];
  };
  const cases: [number[], number, number][] = [
    [[2], 3, 0],
    [[255], 3, 0],
    [[1, 9, 9, 7], 3, 3],
    [gap(0n), 4, 0],
    [gap(-1n), 5, 0],
    [gap(101n), 5, 0],
    [gap(2n ** 63n - 1n), 5, 0],
    [[...gap(100n), ...gap(-(2n ** 63n))], 5, 9],
    // Cluster 50 is at the end of the device, 51 behind it.
    [[...gap(50n), 1, 1], 6, 10],
    [[0, 1, 2], 0, 0],
    [[1, 9], 0, 0],
  ];
  for (const [bytes, why, done] of cases)
    kernel.borrow(64, (slot) =>
      kernel.borrow(8 * WORDS, (words) => {
        const state = new Float64Array(words.bytes.buffer, words.at, WORDS);
        state.set([0, 100, 100, 0, 0, 0, 0, 0]);
        slot.bytes.set(bytes);
        kernel.raw.readCommands(slot.at, bytes.length, 2, 1, words.at);
        t.is(state[5], why, `${bytes}`);
        t.is(state[3], done, `${bytes}`);
      }),
    );
});

test("dropCommands takes the data out between commands", (t) => {
  for (const size of [1, 3, 16, 511, 512, 4096])
    for (const count of [0, 1, 2, 9]) {
      const clusters = Array.from({ length: count }, (_, i) => Buffer.alloc(size, i + 1));
      const stream = Buffer.concat(clusters.flatMap((c) => [c, Buffer.from([0xff])]));
      kernel.borrow(Math.max(stream.length, 1), (slot) => {
        slot.bytes.set(stream);
        kernel.raw.dropCommands(slot.at, slot.at, size, count);
        t.true(Buffer.concat(clusters).equals(slot.bytes.subarray(0, size * count)));
      });
    }
});
