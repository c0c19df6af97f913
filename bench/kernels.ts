// Prints how fast each kernel goes through cached memory. Run: node build/bench/kernels.js
import { Kernel } from "../src/kernel/kernel.ts";

const LENGTH = 1 << 20;
const ROUND_MS = 60;
const ROUNDS = 5;

const kernel = Kernel.get();
const a = kernel.take(LENGTH);
const b = kernel.take(LENGTH);

/** Best of a few rounds, in GB (10^9 bytes) a second. */
function speed(bytes: number, run: () => unknown): number {
  let best = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    let times = 0;
    do {
      run();
      times++;
    } while (performance.now() - start < ROUND_MS);
    best = Math.max(best, (bytes * times) / (performance.now() - start) / 1e6);
  }
  return best;
}

function row(name: string, bytes: number, run: () => unknown): void {
  console.log(`${name.padEnd(34)}${speed(bytes, run).toFixed(2).padStart(8)} GB/s`);
}

/** A block bitmap as a used volume has it: runs of some hundred bits with gaps, and single bits. */
function realisticBitmap(bytes: Uint8Array): void {
  bytes.fill(0);
  let state = 1;
  const next = (end: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % end;
  };
  for (let bit = 0; bit < bytes.length * 8; ) {
    const run = next(4) === 0 ? 1 + next(8) : 64 + next(4000);
    const end = Math.min(bit + run, bytes.length * 8);
    for (; bit < end; bit++) bytes[bit >>> 3] |= 1 << (bit & 7);
    bit += next(3) === 0 ? 1 + next(16) : next(3000);
  }
}

function fillWithNoise(bytes: Uint8Array): void {
  let state = 12345;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[i] = state >>> 16;
  }
}

row("isZero, all zero", LENGTH, () => kernel.isZero(a.at, LENGTH));
row("nonzeroRuns 4 KiB, all zero", LENGTH, () => kernel.nonzeroRuns(a.at, 4096, LENGTH / 4096));
row("firstDifference, equal", LENGTH, () => kernel.firstDifference(a.at, b.at, LENGTH));
row("nextSet, all clear", LENGTH, () => kernel.nextSet(a.at, 0, LENGTH * 8));
fillWithNoise(a.bytes);
row("nonzeroRuns 4 KiB, all data", LENGTH, () => kernel.nonzeroRuns(a.at, 4096, LENGTH / 4096));
row("popcount", LENGTH, () => kernel.popcount(a.at, LENGTH));
row("crc32c, 1 MiB", LENGTH, () => kernel.crc32c(0xffffffff, a.at, LENGTH));
for (const n of [64, 256, 511, 512, 1024, 2047, 2048, 4096, 16384])
  row(`crc32c, ${n} bytes`, n, () => kernel.crc32c(0xffffffff, a.at, n));
row("crc32cOf, 1 MiB", LENGTH, () => kernel.crc32cOf(0xffffffff, b.bytes));
row("crc16", LENGTH, () => kernel.crc16(0xffff, a.at, LENGTH));
row("setRuns, noise, 32 KiB", 32768, () => kernel.setRuns(a.at, 0, 32768 * 8));
realisticBitmap(a.bytes);
row("setRuns, realistic", LENGTH, () => kernel.setRuns(a.at, 0, LENGTH * 8));
row("fillBe64, 64 KiB", 65536, () => kernel.fillBe64(b.at, 8192, 1 << 20, 65536, 0x80000000));
row("fillRefcounts 16 bit, 64 KiB", 65536, () => kernel.fillRefcounts(b.at, 0, 32768, 4, 1));
row("fillRefcounts 1 bit, 64 KiB", 65536, () => kernel.fillRefcounts(b.at, 3, 524000, 0, 1));
