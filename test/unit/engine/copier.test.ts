import test from "ava";
import { DATA, HOLE, MapRuns } from "../../../src/bytes/runs.ts";
import { copyInThread } from "../../../src/engine/copy/in-thread.ts";
import { nonzeroClusters } from "../../../src/engine/copy/nonzero.ts";
import { RawPacker } from "../../../src/engine/copy/raw-packer.ts";
import { Planner, Window } from "../../../src/engine/copy/window.ts";
import type { Packer, WriteList } from "../../../src/image/packer.ts";
import type { Source } from "../../../src/io/source.ts";

/** Small deterministic generator, so that a failure can be repeated. */
function random(seed: number): () => number {
  let s = seed >>> 0;
  return () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s / 4294967296;
  };
}

/** A source whose stored extents are random and whose bytes outside them would be wrong to copy. */
function sparseSource(size: number, unit: number, next: () => number, slow: boolean, batch: number) {
  const bytes = new Uint8Array(size);
  const expected = new Uint8Array(size);
  const extents: [number, number][] = [];
  for (let i = 0; i < size; i++) bytes[i] = 1 + Math.floor(next() * 255);
  for (let at = 0; at < size; ) {
    const hole = Math.floor(next() * 9) * unit;
    const data = (1 + Math.floor(next() * 9)) * unit;
    const from = Math.min(at + hole, size);
    const to = Math.min(from + data, size);
    if (from < to) {
      if (next() < 0.3) bytes.fill(0, from, to);
      extents.push([from, to]);
      expected.set(bytes.subarray(from, to), from);
    }
    at = to + unit;
  }
  const source: Source = {
    size,
    label: "sparse",
    read(into, at) {
      const n = Math.min(into.length, size - at);
      into.set(bytes.subarray(at, at + n));
      return slow ? Promise.resolve(n) : n;
    },
    map(from, to) {
      const runs = new MapRuns(from);
      for (const [s, e] of extents) {
        if (e <= from || runs.count > batch) continue;
        const start = Math.max(s, from);
        runs.push(start - runs.end, HOLE);
        runs.push(e - start, DATA);
      }
      if (runs.count <= batch) runs.push(to - runs.end, HOLE);
      return slow ? Promise.resolve(runs) : runs;
    },
    close() {},
  };
  return { source, expected };
}

/** Appends clusters in order: what QCOW2 packers do, without tables. */
class AppendPacker implements Packer {
  readonly clusterSize: number;
  readonly guestSize: number;
  state = new Float64Array(1);
  readonly placed: number[] = [];
  constructor(clusterSize: number, guestSize: number) {
    this.clusterSize = clusterSize;
    this.guestSize = guestSize;
  }
  place(base: number, runs: Uint32Array, count: number, out: WriteList): void {
    for (let i = 0; i < count; i++)
      for (let c = 0; c < runs[2 * i + 1]; c++) {
        const cluster = base + runs[2 * i] + c;
        this.placed.push(cluster);
        out.data(cluster * this.clusterSize, this.state[0], this.clusterSize);
        this.state[0] += this.clusterSize;
      }
  }
  finish(): number {
    return this.state[0];
  }
}

for (const slow of [false, true]) {
  test(`raw copies take exactly the stored extents (${slow ? "asynchronous" : "synchronous"} source)`, async (t) => {
    for (let seed = 1; seed <= 25; seed++) {
      const next = random(seed);
      const unit = [512, 1000, 1024, 4096][seed % 4];
      const size = Math.floor(next() * 900_000) + unit * 3 + (seed % 3);
      const { source, expected } = sparseSource(size, unit, next, slow, 1 + Math.floor(next() * 50));
      const cluster = [512, 1024, 4096, 65536][Math.floor(next() * 4)];
      const offset = Math.floor(next() * 3) * 512;
      const out = new Uint8Array(size + offset);
      let zeroWritten = false;
      const skipZero = seed % 2 === 0;
      const counts = await copyInThread({
        source,
        packer: new RawPacker(cluster, size, offset),
        skipZero,
        write: (bytes, at) => {
          if (at + bytes.length > out.length) t.fail("wrote past the end");
          if (
            skipZero &&
            at % cluster === offset % cluster &&
            bytes.subarray(0, cluster).every((b) => b === 0)
          )
            zeroWritten = true;
          out.set(bytes, at);
        },
        onProgress: () => {},
      });
      t.deepEqual(out.subarray(offset), expected, `seed ${seed}`);
      t.false(zeroWritten, `seed ${seed}: a zero cluster was written`);
      t.true(counts.walked > 0);
    }
  });
}

test("ordered packers see each non-zero cluster once, ascending, with whole clusters of data", async (t) => {
  for (let seed = 100; seed < 120; seed++) {
    const next = random(seed);
    const size = Math.floor(next() * 3_000_000) + 70_000;
    const { source, expected } = sparseSource(size, 1024, next, seed % 2 === 0, 7);
    const cluster = [512, 4096, 65536, 2 * 1024 * 1024][seed % 4];
    const packer = new AppendPacker(cluster, size);
    const pieces = new Map<number, Uint8Array>();
    await copyInThread({
      source,
      packer,
      skipZero: true,
      write: (bytes, at) => {
        pieces.set(at, bytes.slice());
      },
      onProgress: () => {},
    });
    const image = new Uint8Array(packer.finish());
    for (const [at, bytes] of pieces) image.set(bytes, at);
    const wanted: number[] = [];
    for (let c = 0; c * cluster < size; c++)
      if (expected.subarray(c * cluster, (c + 1) * cluster).some((b) => b !== 0)) wanted.push(c);
    t.deepEqual(packer.placed, wanted, `seed ${seed}`);
    const set = await nonzeroClusters(source, packer, () => {});
    t.is(set.count, wanted.length);
    wanted.forEach((c, i) => {
      const want = new Uint8Array(cluster);
      want.set(expected.subarray(c * cluster, Math.min((c + 1) * cluster, size)));
      if (!image.subarray(i * cluster, (i + 1) * cluster).every((b, k) => b === want[k]))
        t.fail(`seed ${seed}: cluster ${c} differs`);
    });
  }
});

test("a plan of very many small extents goes through several windows and no cluster is split", async (t) => {
  const unit = 512;
  const size = 90_000 * unit * 2;
  const source: Source = {
    size,
    label: "comb",
    read: (into) => into.fill(1).length,
    map(from, to) {
      const runs = new MapRuns(from);
      while (runs.end < to && runs.count < 5000) {
        const odd = Math.floor(runs.end / unit) % 2 === 1;
        runs.push(Math.min(unit - (runs.end % unit), to - runs.end), odd ? DATA : HOLE);
      }
      return runs;
    },
    close() {},
  };
  const planner = new Planner(source, 4096, 65536);
  const w = new Window();
  let windows = 0;
  let total = 0;
  let lastCluster = -1;
  while (await planner.fill(w)) {
    windows++;
    total += w.total();
    for (let c = 0; c < w.chunks; c++) {
      const first = Math.floor(w.guest[w.first[c]] / 4096);
      t.true(first > lastCluster);
      const end = w.first[c + 1] - 1;
      lastCluster = Math.floor((w.guest[end] + w.length[end] - 1) / 4096);
    }
  }
  t.true(windows > 1);
  t.is(total, 90_000 * unit);
});
