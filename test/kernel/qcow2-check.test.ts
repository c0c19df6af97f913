import test from "ava";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";

const kernel = Kernel.get();
const { raw } = kernel;

/** Reads refcount `i` of 2^order bits, the slow way. */
function refcount(block: Uint8Array, i: number, order: number): bigint {
  if (order < 3) {
    const width = 1 << order;
    let value = 0n;
    for (let b = 0; b < width; b++) {
      const bit = i * width + b;
      if (block[bit >>> 3] & (1 << (bit & 7))) value |= 1n << BigInt(b);
    }
    return value;
  }
  let value = 0n;
  const bytes = 1 << (order - 3);
  for (let b = 0; b < bytes; b++) value = (value << 8n) | BigInt(block[i * bytes + b]);
  return value;
}

const counterArray = (bytes: Uint8Array, width: number) =>
  width === 1
    ? bytes
    : width === 2
      ? new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 1)
      : new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);

test("refcounts of every width: stored, loaded, compared", (t) => {
  const random = new Random(11);
  kernel.borrow(4096, (block) =>
    kernel.borrow(4096, (slot) => {
      for (let order = 0; order <= 6; order++)
        for (const width of [1, 2, 4])
          for (let round = 0; round < 8; round++) {
            const most = Math.min(2 ** (2 ** order), 2 ** (8 * width), 300);
            const counters = counterArray(slot.bytes, width);
            const total = Math.min((4096 * 8) >>> order, counters.length);
            const entry = random.below(Math.max(1, total - 40));
            const count = 1 + random.below(total - entry);
            random.fill(block.bytes);
            const before = block.bytes.slice();
            for (let i = 0; i < count; i++) counters[i] = random.below(most);
            raw.storeRefcounts(block.at, entry, count, order, slot.at, width);
            for (let i = 0; i < total; i++) {
              const want =
                i >= entry && i < entry + count ? BigInt(counters[i - entry]) : refcount(before, i, order);
              if (refcount(block.bytes, i, order) !== want) t.fail(`order ${order}, entry ${i}`);
            }
            t.is(raw.compareRefcounts(block.at, entry, 0, count, order, slot.at, width) >>> 0, count);
            const odd = random.below(count);
            counters[odd] = (counters[odd] + 1) % most;
            const first = raw.compareRefcounts(block.at, entry, 0, count, order, slot.at, width) >>> 0;
            t.is(first, odd, `order ${order}, width ${width}`);
            t.is(raw.compareRefcounts(block.at, entry, odd + 1, count, order, slot.at, width) >>> 0, count);
            raw.loadRefcounts(block.at, entry, count, order, slot.at, width, 3);
            for (let i = 0; i < count; i++) {
              const want = refcount(block.bytes, entry + i, order);
              if (BigInt(counters[i]) !== (want > 3n ? 3n : want)) t.fail(`load, order ${order}, entry ${i}`);
            }
          }
    }),
  );
  t.pass();
});

test("last counter and first free one", (t) => {
  const random = new Random(4);
  kernel.borrow(4096, (slot) => {
    for (const width of [1, 2, 4])
      for (let round = 0; round < 60; round++) {
        const counters = counterArray(slot.bytes, width);
        const count = random.below(300);
        counters.fill(0);
        for (let i = random.below(5); i > 0; i--) counters[random.below(count + 1)] = 1 + random.below(200);
        const used = [...counters.subarray(0, count)];
        t.is(
          raw.lastCounter(slot.at, count, width) | 0,
          used.findLastIndex((n) => n !== 0),
        );
        const from = random.below(count + 1);
        const free = used.findIndex((n, i) => i >= from && n === 0);
        t.is(raw.freeCounter(slot.at, from, count, width) >>> 0, free < 0 ? count : free);
      }
  });
});

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

test("L2 tables are counted as entry by entry, whatever their clusters are like", (t) => {
  const random = new Random(9);
  const clusterBits = 12;
  const clusters = 200;
  const fileSize = clusters * 4096;
  kernel.borrow(4096, (table) =>
    kernel.borrow(72, (walkSlot) =>
      kernel.borrow(4096, (slot) => {
        const walk = new Float64Array(walkSlot.bytes.buffer, walkSlot.bytes.byteOffset, 9);
        for (let round = 0; round < 400; round++) {
          const width = [1, 2, 4][round % 3];
          const counters = counterArray(slot.bytes, width);
          const view = new DataView(table.bytes.buffer, table.bytes.byteOffset, 4096);
          const first = random.below(3) * 20;
          const number = clusters - first;
          const want = new Array<number>(number).fill(0);
          counters.fill(0);
          walk.fill(0);
          walk[0] = first;
          walk[1] = number;
          walk[2] = fileSize;
          let follows = 0;
          let allocated = 0;
          let fragmented = 0;
          let compressed = 0;
          let next = random.below(clusters);
          for (let i = 0; i < 512; i++) {
            let entry = 0n;
            const kind = random.below(round % 2 === 0 ? 40 : 6);
            if (kind === 0) entry = 0n;
            else if (kind === 1) entry = 1n;
            else if (kind === 2) {
              const at = random.below(fileSize - 8192);
              const sectors = random.below(8);
              entry = COMPRESSED | (BigInt(sectors) << 58n) | BigInt(at);
              const length = (sectors + 1) * 512 - (at % 512);
              for (let k = Math.floor(at / 4096); k <= Math.floor((at + length - 1) / 4096); k++)
                if (k >= first) want[k - first]++;
              allocated++;
              fragmented++;
              compressed++;
            } else {
              if (kind === 3) next = random.below(clusters);
              const at = (next % clusters) * 4096;
              next++;
              if (at === 0) entry = 0n;
              else {
                entry = BigInt(at) | (kind === 4 ? 0n : COPIED) | (kind === 5 ? 1n : 0n);
                if (at / 4096 >= first) want[at / 4096 - first]++;
                allocated++;
                if (follows !== 0 && follows !== at) fragmented++;
                follows = at + 4096;
              }
            }
            view.setBigUint64(i * 8, entry);
          }
          const got =
            raw.countL2(
              table.at,
              0,
              512,
              clusterBits,
              0,
              walkSlot.at,
              slot.at,
              width,
              2 ** (8 * width) - 1,
            ) >>> 0;
          t.is(got, 512);
          t.deepEqual([...counters.subarray(0, number)], want);
          t.deepEqual([...walk.subarray(3, 7)], [follows, allocated, fragmented, compressed]);
        }
      }),
    ),
  );
});

test("L2 tables: the count stops before an entry that is not in order", (t) => {
  const bad: [entry: bigint, bits: bigint, flags: number][] = [
    [1n << 56n, 0n, 0],
    [0x2n | 4096n, 0n, 0],
    [4096n | 0x200n, 0n, 0],
    [200n * 4096n, 0n, 0],
    [COMPRESSED | COPIED | 4096n, 0n, 0],
    [COMPRESSED | (200n * 4096n + 4096n), 0n, 0],
    [COMPRESSED | 4096n, 0n, 2],
    [COMPRESSED | 4096n, 1n, 1],
    [0n, 1n, 1],
    [4096n, (1n << 32n) | 1n, 1],
  ];
  kernel.borrow(4096, (table) =>
    kernel.borrow(72, (walkSlot) =>
      kernel.borrow(4096, (slot) => {
        const walk = new Float64Array(walkSlot.bytes.buffer, walkSlot.bytes.byteOffset, 9);
        const view = new DataView(table.bytes.buffer, table.bytes.byteOffset, 4096);
        for (const [entry, bits, flags] of bad)
          for (const i of [0, 1, 17, 100]) {
            const step = flags & 1 ? 16 : 8;
            table.bytes.fill(0);
            slot.bytes.fill(0);
            walk.fill(0);
            walk[1] = 200;
            walk[2] = 200 * 4096;
            view.setBigUint64(i * step, entry);
            if (flags & 1) view.setBigUint64(i * step + 8, bits);
            const n = 4096 / step;
            t.is(raw.countL2(table.at, 0, n, 12, flags, walkSlot.at, slot.at, 1, 255) >>> 0, i, `${entry}`);
            t.true(slot.bytes.every((b) => b === 0));
            // And a counter that is full.
            view.setBigUint64(i * step, 4096n);
            if (flags & 1) view.setBigUint64(i * step + 8, 0n);
            slot.bytes[1] = 7;
            const at = raw.countL2(table.at, 0, n, 12, flags & 1, walkSlot.at, slot.at, 1, 7) >>> 0;
            t.is(at, i);
          }
      }),
    ),
  );
});
