import test from "ava";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";
import { everywhere } from "./shapes.ts";

const kernel = Kernel.get();

test("isZero at every length and address, whatever lies around", (t) => {
  everywhere(0xff, (at, bytes) => {
    bytes.fill(0);
    if (!kernel.isZero(at, bytes.length)) t.fail(`zeros: ${bytes.length} at ${at}`);
  });
  t.pass();
});

test("isZero sees every single byte, at any position", (t) => {
  everywhere(0, (at, bytes, slot) => {
    for (let i = 0; i < bytes.length; i += bytes.length > 600 ? 61 : 1) {
      bytes[i] = 1 << (i & 7);
      if (kernel.isZero(at, bytes.length)) t.fail(`byte ${i} of ${bytes.length} at ${at}`);
      bytes[i] = 0;
    }
    const before = at - slot.at - 1;
    slot.bytes[before] = slot.bytes[before + 1 + bytes.length] = 9;
    if (!kernel.isZero(at, bytes.length)) t.fail(`neighbours of ${bytes.length} at ${at}`);
  });
  t.pass();
});

test("nonzeroRuns against a plain scan", (t) => {
  const random = new Random(3);
  kernel.borrow(1 << 20, (slot) => {
    for (const blockSize of [1, 3, 16, 100, 512, 4096, 65536])
      for (let round = 0; round < 12; round++) {
        const blocks = random.below(Math.min(Math.floor((slot.bytes.length - 17) / blockSize), 400) + 1);
        const offset = random.below(17);
        const area = slot.bytes.subarray(offset, offset + blocks * blockSize).fill(0);
        const holds = Array.from(
          { length: blocks },
          () => (round === 0 ? 0 : round === 1 ? 1 : random.below(3)) > 0,
        );
        holds.forEach((held, i) => {
          if (held) area[i * blockSize + random.below(blockSize)] = 1 + random.below(255);
        });
        const expected: number[] = [];
        holds.forEach((held, i) => {
          if (held && i > 0 && holds[i - 1]) expected[expected.length - 1]++;
          else if (held) expected.push(i, 1);
        });
        const pairs = kernel.nonzeroRuns(slot.at + offset, blockSize, blocks);
        t.deepEqual([...kernel.out.subarray(0, pairs * 2)], expected);
      }
  });
});

test("nonzeroRuns fills the out area to its last pair and no further", (t) => {
  const blocks = kernel.out.length + 64;
  kernel.borrow(blocks, (slot) => {
    for (let i = 0; i < blocks; i++) slot.bytes[i] = (i & 1) ^ 1;
    const guard = kernel.raw.arenaAddress();
    const first = new Uint8Array(kernel.raw.memory.buffer, guard, 16).slice();
    t.is(kernel.nonzeroRuns(slot.at, 1, blocks), kernel.out.length / 2);
    t.deepEqual([...kernel.out.subarray(-2)], [kernel.out.length - 2, 1]);
    t.deepEqual(new Uint8Array(kernel.raw.memory.buffer, guard, 16), first);
  });
});
