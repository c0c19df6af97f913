import test from "ava";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";

const kernel = Kernel.get();

test("fillBe64 writes progressions with flags, and nothing beside them", (t) => {
  const cases: [value: number, step: number, flags: number][] = [
    [0, 0, 0],
    [0x12345678000, 65536, 0x80000000],
    [2 ** 52, 512, 0xc0000000],
    [2 ** 53 - 2 ** 30, 1, 0x80000000],
    [0xfffff000, 4096, 0],
    [1 << 20, -4096, 0x40000000],
    [1, 0, 0],
  ];
  kernel.borrow(4096, (slot) => {
    const view = new DataView(slot.bytes.buffer, slot.bytes.byteOffset);
    for (const [value, step, flags] of cases)
      for (const offset of [64, 65, 71, 72, 80])
        for (const count of [0, 1, 2, 3, 4, 5, 7, 8, 31, 128, 255]) {
          slot.bytes.fill(0xa5);
          kernel.fillBe64(slot.at + offset, count, value, step, flags);
          for (let i = 0; i < count; i++) {
            const entry = BigInt(value) + BigInt(i) * BigInt(step);
            const expected = entry | (BigInt(flags) << 32n);
            if (view.getBigUint64(offset + 8 * i) !== expected)
              t.fail(`entry ${i} of ${count}: ${value}, ${step}, ${flags}`);
          }
          const rest = [slot.bytes.subarray(0, offset), slot.bytes.subarray(offset + 8 * count)];
          if (!rest.every((part) => part.every((b) => b === 0xa5))) t.fail(`beside ${count} at ${offset}`);
        }
  });
  t.pass();
});

/** One refcount at a time. */
function put(bytes: Uint8Array, index: number, order: number, value: number): void {
  const width = 1 << order;
  if (width < 8) {
    const shift = (index * width) % 8;
    const mask = ((1 << width) - 1) << shift;
    const at = Math.floor((index * width) / 8);
    bytes[at] = (bytes[at] & ~mask) | ((value << shift) & mask);
    return;
  }
  const wide = BigInt(value);
  for (let i = 0; i < width / 8; i++)
    bytes[index * (width / 8) + i] = Number((wide >> BigInt(width - 8 - 8 * i)) & 255n);
}

test("fillRefcounts of every width, from any entry", (t) => {
  const random = new Random(29);
  kernel.borrow(4096, (slot) => {
    for (let order = 0; order <= 6; order++) {
      const highest = order === 6 ? 2 ** 53 - 1 : 2 ** (1 << order) - 1;
      for (let round = 0; round < 400; round++) {
        const noise = round % 3 === 0 ? 0 : round % 3 === 1 ? 0xff : 0xa5;
        const entries = Math.floor((4000 * 8) / (1 << order));
        const first = random.below(round & 1 ? 40 : entries);
        const count = random.below(round & 2 ? Math.min(70, entries - first) : entries - first);
        const value = [0, 1, highest, random.below(highest + 1)][random.below(4)];
        const expected = new Uint8Array(4096).fill(noise);
        for (let i = 0; i < count; i++) put(expected, first + i, order, value);
        slot.bytes.fill(noise);
        kernel.fillRefcounts(slot.at, first, count, order, value);
        if (Buffer.compare(slot.bytes, expected) !== 0)
          t.fail(`order ${order}: ${count} from ${first}, ${value}`);
      }
    }
  });
  t.pass();
});
