import test from "ava";
import { BlockSet } from "../../../src/bytes/block-set.ts";
import { Random } from "../../support/random.ts";

test("first members, first gaps and bits of a set, against a plain array", (t) => {
  const random = new Random(12);
  for (let round = 0; round < 12; round++) {
    const limit = 150_000 + random.below(60_000);
    // Few live pages, so that packed and full ones are met too.
    const set = new BlockSet(limit, 1 + random.below(3));
    const plain = new Uint8Array(limit);
    for (let i = 0; i < 25; i++) {
      const from = random.below(limit);
      const to = Math.min(limit, from + 1 + random.below([3, 300, 90_000][random.below(3)]));
      const add = random.below(3) > 0;
      if (add) set.add(from, to);
      else set.remove(from, to);
      plain.fill(add ? 1 : 0, from, to);
    }
    for (let i = 0; i < 200; i++) {
      const from = random.below(limit);
      const to = Math.min(limit, from + random.below([2, 1000, 120_000][random.below(3)]));
      const member = plain.subarray(from, to).indexOf(1);
      t.is(set.firstMember(from, to), member < 0 ? to : from + member);
      const gap = plain.subarray(from, to).indexOf(0);
      t.is(set.firstMissing(from, to), gap < 0 ? to : from + gap);
    }
    const bits = new Uint8Array(1 + random.below(9000));
    const base = random.below(limit >> 3) * 8;
    set.bits(base, bits);
    for (let i = 0; i < bits.length * 8; i += 1 + random.below(5))
      if (((bits[i >> 3] >> (i & 7)) & 1) !== (plain[base + i] ?? 0)) t.fail(`bit ${base + i}`);
    t.is(set.firstMember(limit, limit + 5), limit + 5);
  }
});
