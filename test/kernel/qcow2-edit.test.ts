import test from "ava";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";

const kernel = Kernel.get();
const { raw, out } = kernel;

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const OFFSET = 0x00fffffffffffe00n;

interface Run {
  readonly first: bigint;
  readonly n: number;
  readonly tag: number;
}

/** The runs of a table, entry by entry; ends where an entry is not in order. */
function plainRuns(entries: readonly bigint[], clusterBits: number): { runs: Run[]; end: number } {
  const bits = BigInt(clusterBits);
  const cs = 1n << bits;
  const runs: Run[] = [];
  let next = -1n;
  let end = 0;
  for (; end < entries.length; end++) {
    const e = entries[end];
    const going = e === next;
    next = -1n;
    if (e === 0n) continue;
    if (e & COMPRESSED) {
      const offsetBits = 70n - bits;
      const at = e & ((1n << offsetBits) - 1n);
      const sectors = ((e & (COMPRESSED - 1n)) >> offsetBits) + 1n;
      const last = at + sectors * 512n - (at % 512n) - 1n;
      runs.push({ first: at >> bits, n: Number((last >> bits) - (at >> bits)) + 1, tag: 4 * end + 2 });
      continue;
    }
    const at = e & OFFSET;
    if (at === 0n && !(e & COPIED)) continue;
    if (at % cs !== 0n || at >= 1n << 53n) break;
    if (going) {
      const last = runs.pop()!;
      runs.push({ ...last, n: last.n + 1 });
    } else runs.push({ first: at >> bits, n: 1, tag: 4 * end + (e & COPIED ? 1 : 0) });
    if (at !== 0n) next = e + cs;
  }
  return { runs, end };
}

function randomEntries(random: Random, count: number, clusterBits: number, damaged: boolean): bigint[] {
  const cs = 1n << BigInt(clusterBits);
  const entries: bigint[] = [];
  let at = cs;
  while (entries.length < count) {
    const kind = random.below(12);
    const flag = random.below(3) === 0 ? 0n : COPIED;
    if (kind === 0) entries.push(0n);
    else if (kind === 1) entries.push(1n);
    else if (kind === 2) entries.push(COPIED);
    else if (kind === 3)
      entries.push(
        COMPRESSED |
          (BigInt(random.below(4)) << BigInt(70 - clusterBits)) |
          (at + BigInt(random.below(4000))),
      );
    else if (kind === 4)
      at = BigInt(random.below(2 ** 30)) * cs + (random.below(8) === 0 ? 0x100000000n - cs : 0n);
    else if (kind === 5 && damaged && random.below(20) === 0)
      entries.push(random.below(2) === 0 ? at | 512n : (1n << 53n) | COPIED);
    else
      for (let n = random.below(30); n >= 0; n--) {
        entries.push((at + (at === 0n ? cs : 0n)) | flag | (kind === 6 ? 1n : 0n));
        at += cs;
      }
  }
  return entries.slice(0, count);
}

test("runs of an L2 table's references, and the COPIED flags", (t) => {
  const random = new Random(31);
  for (let round = 0; round < 400; round++) {
    const clusterBits = [10, 12, 16, 21][random.below(4)];
    const extended = random.below(2);
    const count = 1 + random.below(512);
    const entries = randomEntries(random, count, clusterBits, random.below(2) === 0);
    const width = extended ? 16 : 8;
    kernel.borrow(count * width, (slot) => {
      slot.bytes.fill(0xff);
      const view = new DataView(slot.bytes.buffer, slot.bytes.byteOffset, slot.bytes.length);
      for (let i = 0; i < count; i++) view.setBigUint64(i * width, entries[i]);
      const expected = plainRuns(entries, clusterBits);
      const end = raw.l2Runs(slot.at, 0, count, clusterBits, extended) >>> 0;
      const got: Run[] = [];
      for (let r = 0; r < out[0]; r++) {
        const [low, high, n, tag] = out.subarray(4 + 4 * r, 8 + 4 * r);
        got.push({ first: (BigInt(high) << 32n) | BigInt(low), n, tag });
      }
      t.is(end, expected.end);
      t.deepEqual(got, expected.runs);

      const from = random.below(count);
      const to = from + random.below(count - from + 1);
      for (const copied of [1, 0]) {
        raw.setCopied(slot.at, from, to, extended, copied);
        for (let i = 0; i < count; i++) {
          const want = i < from || i >= to ? entries[i] : copied ? entries[i] | COPIED : entries[i] & ~COPIED;
          if (view.getBigUint64(i * width) !== want) t.fail(`entry ${i} of [${from}, ${to})`);
        }
        for (let i = from; i < to; i++) view.setBigUint64(i * width, entries[i]);
      }
      const any = entries.some((e) => (e & (COPIED | COMPRESSED)) === COPIED);
      t.is(raw.clearCopied(slot.at, count, extended), Number(any));
      for (let i = 0; i < count; i++) {
        const e = entries[i];
        if (view.getBigUint64(i * width) !== (e & COMPRESSED ? e : e & ~COPIED)) t.fail(`cleared ${i}`);
      }
    });
  }
});

test("a list of runs that is full is gone on with", (t) => {
  const count = 70_000;
  kernel.borrow(count * 8, (slot) => {
    const view = new DataView(slot.bytes.buffer, slot.bytes.byteOffset, slot.bytes.length);
    for (let i = 0; i < count; i++) view.setBigUint64(i * 8, BigInt(i + 1) * 131072n);
    let runs = 0;
    let rounds = 0;
    for (let from = 0; from < count; rounds++) {
      from = raw.l2Runs(slot.at, from, count, 16, 0) >>> 0;
      for (let r = 0; r < out[0]; r++) if (out[4 + 4 * r] !== 2 * (runs + r + 1)) t.fail(`run ${runs + r}`);
      runs += out[0];
    }
    t.is(runs, count);
    t.is(rounds, 2);
  });
});

/** Refcount `i` of 2^order bits: entries narrower than a byte from its low bits up, wider ones big-endian. */
function getCount(bytes: Uint8Array, i: number, order: number): bigint {
  if (order < 3) {
    const bit = i << order;
    return BigInt((bytes[bit >> 3] >> (bit & 7)) & (2 ** (1 << order) - 1));
  }
  let v = 0n;
  for (let b = 0; b < 1 << (order - 3); b++) v = (v << 8n) | BigInt(bytes[(i << (order - 3)) + b]);
  return v;
}

test("references are added and taken in a block of refcounts of every width", (t) => {
  const random = new Random(8);
  kernel.borrow(4096, (slot) => {
    for (let order = 0; order <= 6; order++)
      for (let round = 0; round < 60; round++) {
        const total = (512 * 8) >>> order;
        const most = order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (1 << order) - 1;
        slot.bytes.fill(0);
        raw.fillRefcounts(slot.at, 0, total, order, Math.min(most, 1 + random.below(3)));
        for (let n = random.below(3); n > 0; n--)
          raw.fillRefcounts(slot.at, random.below(total), 1, order, [0, 1, most][random.below(3)]);
        const before = Array.from({ length: total }, (_, i) => getCount(slot.bytes, i, order));
        const first = random.below(total);
        const count = random.below(total - first + 1);
        const delta = random.below(2) === 0 ? 1 : -1;
        let stop = 0;
        for (; stop < count; stop++) {
          const v = before[first + stop];
          if (v === 0n || (delta > 0 && v >= BigInt(most))) break;
        }
        t.is(raw.addRefcounts(slot.at, first, count, order, delta, most) >>> 0, stop);
        for (let i = 0; i < total; i++) {
          const want = i >= first && i < first + stop ? before[i] + BigInt(delta) : before[i];
          if (getCount(slot.bytes, i, order) !== want) t.fail(`order ${order}, entry ${i}`);
        }
        for (const value of [0, 1])
          for (const equal of [0, 1]) {
            let want = first;
            while (want < total && (getCount(slot.bytes, want, order) === BigInt(value)) !== (equal === 1))
              want++;
            t.is(raw.nextRefcount(slot.at, first, total, order, value, equal) >>> 0, want);
          }
      }
  });
});

test("entries that go on with a progression are counted", (t) => {
  const random = new Random(5);
  kernel.borrow(2048, (slot) => {
    const words = new Uint32Array(slot.bytes.buffer, slot.at, 512);
    for (let round = 0; round < 200; round++) {
      const step = 2 ** (9 + random.below(13));
      const start =
        (BigInt(random.below(2 ** 21)) << 32n) + (random.below(2) === 0 ? 0xffff0000n : 0n) + COPIED;
      const count = 1 + random.below(256);
      const broken = random.below(300);
      for (let i = 0; i < count; i++) {
        const e = start + BigInt(i) * BigInt(step) + (i === broken ? 1n : 0n);
        words[2 * i] = Number(e >> 32n);
        words[2 * i + 1] = Number(e & 0xffffffffn);
      }
      const high = Number(start >> 32n);
      const low = Number(start & 0xffffffffn);
      t.is(raw.countProgression(slot.at, count, high, low, step) >>> 0, Math.min(count, broken));
    }
  });
});
