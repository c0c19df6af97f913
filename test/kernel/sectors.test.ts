// storedSectors against a plain statement of the rule.
import test from "ava";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";

/** One stretch of like sectors from `i`, cut to the alignment: [data, length]. */
function stretch(zero: boolean[], i: number, sector: number, alignment: number): [boolean, number] {
  let end = i + 1;
  while (end < zero.length && zero[end] === zero[i]) end++;
  const n = end - i;
  if (end === zero.length) return [!zero[i], n];
  const over = (sector + end) % alignment;
  if (over === 0) return [!zero[i], n];
  if (zero[i] && n > over) return [false, n - over];
  return [true, Math.min(n + alignment - over, zero.length - i)];
}

function oracle(zero: boolean[], sector: number, least: number, alignment: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < zero.length; ) {
    const enough = Math.min(least, zero.length - i);
    const [data, n] = stretch(zero, i, sector, alignment);
    if (!data) {
      i += n;
      continue;
    }
    let used = n;
    for (let at = i + n; at < zero.length; ) {
      const [more, m] = stretch(zero, at, sector, alignment);
      at += m;
      if (more) used = at - i;
      else if (m >= enough) break;
    }
    out.push(i, used);
    i += used;
  }
  return out;
}

test("storedSectors leaves out what the rule leaves out, at any alignment", (t) => {
  const kernel = Kernel.get();
  const random = new Random(11);
  kernel.borrow(256 * 512, (slot) => {
    for (let round = 0; round < 600; round++) {
      const n = 1 + random.below(256);
      const zero: boolean[] = [];
      while (zero.length < n) {
        const z = random.below(2) === 0;
        for (let k = 1 + random.below(30); k > 0 && zero.length < n; k--) zero.push(z);
      }
      slot.bytes.fill(0);
      zero.forEach((z, i) => {
        if (!z) slot.bytes[i * 512 + random.below(512)] = 1;
      });
      const least = 1 + random.below(40);
      const alignment = 2 ** random.below(8);
      const sector = random.below(2 ** 31) + random.below(2 ** 31);
      const pairs = kernel.storedSectors(slot.at, n, sector, least, alignment);
      t.deepEqual([...kernel.out.subarray(0, 2 * pairs)], oracle(zero, sector, least, alignment));
    }
  });
});
