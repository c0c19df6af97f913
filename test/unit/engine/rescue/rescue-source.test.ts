import test from "ava";
import { BlockSet } from "../../../../src/bytes/block-set.ts";
import { DATA, MapRuns } from "../../../../src/bytes/runs.ts";
import { rescueClone } from "../../../../src/engine/rescue/clone.ts";
import { DomainMap } from "../../../../src/engine/rescue/domain-map.ts";
import { RescueSource } from "../../../../src/engine/rescue/rescue-source.ts";
import { IoError } from "../../../../src/errors.ts";
import { MemoryTarget } from "../../../../src/io/memory.ts";
import type { Source } from "../../../../src/io/source.ts";
import { noise } from "../../../support/ext-tree.ts";

const SIZE = 3_000_000;

/** Bytes with read errors; `failing` says whether a read of [from, to) fails. */
class Failing implements Source {
  readonly label = "disk";
  readonly size = SIZE;
  readonly bytes = noise(5, SIZE);
  reads = 0;
  private readonly failing: (from: number, to: number, reads: number) => boolean;
  private readonly later: boolean;

  constructor(failing: (from: number, to: number, reads: number) => boolean, later = false) {
    this.failing = failing;
    this.later = later;
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const n = Math.min(into.length, SIZE - at);
    this.reads++;
    const bad = this.failing(at, at + n, this.reads);
    const error = new IoError("EIO", `disk: read error at byte ${at}`, at);
    if (bad && !this.later) throw error;
    if (bad) return Promise.reject(error);
    into.set(this.bytes.subarray(at, at + n));
    return this.later ? Promise.resolve(n) : n;
  }

  map(from: number, to: number): MapRuns {
    const runs = new MapRuns(from);
    runs.push(to - from, DATA);
    return runs;
  }

  close(): void {}
}

const over = (a: number, b: number) => (from: number, to: number) => from < b && to > a;

function lost(bytes: Uint8Array, at: number, sector: number): Uint8Array {
  const b = bytes.slice();
  b.fill(0x3f, at, Math.min(at + sector, b.length));
  b.set(Buffer.from("BadSectoR\0"), at);
  return b;
}

test("single sectors are lost, synchronously and not", async (t) => {
  for (const later of [false, true])
    for (const [sector, at] of [
      [512, 512 * 77],
      [4096, 4096 * 100],
      [512, 0],
      [512, SIZE - (SIZE % 512)],
    ]) {
      const told: number[] = [];
      const base = new Failing(over(at + 5, at + 6), later);
      const s = new RescueSource(base, { sectorSize: sector, onLost: (x) => told.push(x) });
      s.startCopying();
      const got = new Uint8Array(SIZE);
      for (let p = 0; p < SIZE; p += 1_000_000) await s.read(got.subarray(p, p + 1_000_000), p);
      t.deepEqual(told, [at]);
      t.deepEqual(s.lostRanges(), [[at, Math.min(at + sector, SIZE)]]);
      t.true(Buffer.from(lost(base.bytes, at, sector)).equals(got));
    }
});

test("other errors are not survived", async (t) => {
  const base = new Failing(() => false);
  base.read = () => {
    throw new IoError("ENXIO", "gone");
  };
  const s = new RescueSource(base, { sectorSize: 512 });
  await t.throwsAsync(async () => s.read(new Uint8Array(10), 0), { code: "ENXIO" });
});

async function clone(
  base: Failing,
  domain: DomainMap,
  retries = 0,
  resume = false,
  target = new MemoryTarget(),
) {
  const told: number[] = [];
  const s = new RescueSource(base, { sectorSize: 512, domain, onLost: (x) => told.push(x) });
  const blocks = new BlockSet(Math.ceil(SIZE / 4096));
  blocks.add(0, blocks.limit);
  await rescueClone(s, target, blocks, { blockSize: 4096, size: SIZE, retries, resume });
  await target.commit(SIZE);
  return { told, bytes: target.bytes };
}

test("a bad stretch is skipped at first, and in the end only what is bad is lost", async (t) => {
  const [from, to] = [512 * 1000, 512 * 1300];
  const order: number[] = [];
  const base = new Failing((a, b) => {
    if (b - a === 512 && over(from, to)(a, b)) order.push(a);
    return over(from, to)(a, b);
  });
  const domain = new DomainMap(SIZE);
  const { told, bytes } = await clone(base, domain);
  t.deepEqual(
    told,
    Array.from({ length: 300 }, (_, i) => from + i * 512),
  );
  const want = base.bytes.slice();
  for (let at = from; at < to; at += 512) want.set(lost(base.bytes.subarray(at, at + 512), 0, 512), at);
  t.true(Buffer.from(want).equals(bytes));
  // After four failures in a row the head moved on; what was left out came last.
  t.deepEqual(
    order.slice(0, 4),
    [0, 1, 2, 3].map((i) => from + i * 512),
  );
  t.is(order[4], from + 4 * 512 + 65536);
  t.true(order.indexOf(from + 512 * 4) > order.indexOf(order[4]));
  t.is(domain.bytes("-"), to - from);
  t.is(domain.bytes("+"), SIZE - (to - from));
});

test("retries read what fails only for a while", async (t) => {
  const at = 512 * 2000;
  let failures = 5;
  const base = new Failing((a, b) => over(at, at + 1)(a, b) && failures-- > 0);
  const { told, bytes } = await clone(base, new DomainMap(SIZE), 9);
  t.deepEqual(told, []);
  t.true(Buffer.from(base.bytes).equals(bytes));
});

test("going on reads nothing that is finished, and what was bad only to try it again", async (t) => {
  const base = new Failing(over(512 * 10, 512 * 11));
  const domain = new DomainMap(SIZE);
  const first = await clone(base, domain);
  t.deepEqual(first.told, [5120]);
  const read: [number, number][] = [];
  const healthy = new Failing((a, b) => {
    read.push([a, b]);
    return false;
  });
  const target = new MemoryTarget();
  target.write(first.bytes, 0);
  const second = await clone(healthy, domain, 1, true, target);
  t.deepEqual(read, [[5120, 5632]]);
  t.deepEqual(second.told, []);
  t.true(Buffer.from(base.bytes).equals(second.bytes));
  // Without going on, what a map calls finished is copied nevertheless.
  t.true(Buffer.from(base.bytes).equals((await clone(healthy, domain)).bytes));
});

test("a target that fails leaves a map that does not call finished what was not written", async (t) => {
  const domain = new DomainMap(SIZE);
  const target = new MemoryTarget();
  target.write = () => {
    throw new IoError("ENOSPC", "full");
  };
  await t.throwsAsync(clone(new Failing(() => false), domain, 0, false, target), { code: "ENOSPC" });
  t.is(domain.bytes("+"), 0);
});

test("copies found elsewhere replace what cannot be read", async (t) => {
  const base = new Failing(over(1024, 2048));
  const s = new RescueSource(base, { sectorSize: 512 });
  s.patch(1024, Buffer.alloc(1024, 7));
  const got = new Uint8Array(4096);
  await s.read(got, 512);
  const want = base.bytes.slice(512, 512 + 4096);
  want.fill(7, 512, 1536);
  t.true(Buffer.from(want).equals(got));
});

test("front to back, a stretch that takes too long is skipped, but for what can be read before its end", async (t) => {
  const [from, to] = [512 * 1000, 512 * 3000];
  let clock = 0;
  let failures = 0;
  const base = new Failing((a, b) => {
    if (!over(from, to)(a, b)) return false;
    clock += 1000;
    failures++;
    return true;
  });
  const told: number[] = [];
  const s = new RescueSource(base, { sectorSize: 512, now: () => clock, onLost: (x) => told.push(x) });
  s.startCopying({ patience: 20_000 });
  const got = new Uint8Array(SIZE);
  for (let p = 0; p < SIZE; p += 524288) await s.read(got.subarray(p, p + 524288), p);
  const want = base.bytes.slice();
  for (let at = from; at < to; at += 512) want.set(lost(base.bytes.subarray(at, at + 512), 0, 512), at);
  t.true(Buffer.from(want).equals(got), "nothing that can be read is lost");
  t.true(failures < 40, `${failures} reads fail`);
  t.true(told.length < 25);
  t.deepEqual(s.lostRanges(), [[from, to]]);
  const skipped = s.skippedRanges().reduce((n, [a, b]) => n + b - a, 0);
  t.is(skipped + told.length * 512, to - from);
  t.is(s.domain.bytes("*"), skipped);
  // With all the time in the world every sector is tried.
  failures = 0;
  const patient = new RescueSource(base, { sectorSize: 512 });
  patient.startCopying();
  await patient.read(got, 0);
  t.true(failures >= 2000);
  t.deepEqual(patient.skippedRanges(), []);
});

test("a long stretch in which every other sector fails costs no more time", async (t) => {
  const [from, to] = [512 * 1000, 512 * 5000];
  let clock = 0;
  const base = new Failing((a, b) => {
    const bad = over(from, to)(a, b) && (b - a > 512 || (a / 512) % 2 === 0);
    if (bad) clock += 1000;
    return bad;
  });
  const s = new RescueSource(base, { sectorSize: 512, now: () => clock });
  s.startCopying({ patience: 20_000 });
  const got = new Uint8Array(SIZE);
  for (let p = 0; p < SIZE; p += 524288) await s.read(got.subarray(p, p + 524288), p);
  t.true(clock < 100_000, `${clock}`);
  t.true(Buffer.from(base.bytes.subarray(0, from)).equals(got.subarray(0, from)));
  const end = to + 65536;
  t.true(Buffer.from(base.bytes.subarray(end)).equals(got.subarray(end)));
});

test("what was left for later is left out for good where it takes too long", async (t) => {
  const [from, to] = [512 * 1000, 512 * 3000];
  let clock = 0;
  const base = new Failing((a, b) => {
    if (over(from, to)(a, b)) clock += 1000;
    return over(from, to)(a, b);
  });
  const s = new RescueSource(base, { sectorSize: 512, now: () => clock });
  s.startCopying({ defer: true, patience: 20_000 });
  await s.read(new Uint8Array(SIZE), 0);
  clock = 0;
  await s.settle(
    () => {},
    0,
    () => {},
  );
  t.true(clock <= 40_000, `${clock}`);
  t.true(s.domain.bytes("*") > 900_000);
});

test("read strictly, what is lost is an error again", async (t) => {
  const s = new RescueSource(new Failing(over(1024, 1025)), { sectorSize: 512 });
  const { strict } = s;
  t.is(await strict.read(new Uint8Array(512), 512), 512);
  await t.throwsAsync(async () => strict.read(new Uint8Array(1024), 512), { code: "EIO" });
  t.is(await strict.read(new Uint8Array(512), 1536), 512);
});
