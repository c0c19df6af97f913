import test from "ava";
import { Kernel } from "../../src/kernel/kernel.ts";
import { Random } from "../support/random.ts";
import { LENGTHS, OFFSETS } from "./shapes.ts";

const kernel = Kernel.get();

test("firstDifference at every length and pair of addresses", (t) => {
  const random = new Random(5);
  kernel.borrow(8192, (a) =>
    kernel.borrow(8192, (b) => {
      for (const length of LENGTHS)
        for (const i of OFFSETS)
          for (const k of [0, 1, 8, 15]) {
            random.fill(b.bytes.subarray(k, k + length));
            random.fill(a.bytes.subarray(0, i));
            a.bytes.set(b.bytes.subarray(k, k + length), i);
            a.bytes[i + length] = b.bytes[k + length] ^ 1;
            if (kernel.firstDifference(a.at + i, b.at + k, length) !== -1)
              t.fail(`equal: ${length} at ${i}, ${k}`);
            if (length === 0) continue;
            const at = random.below(length);
            a.bytes[i + at] ^= 1 << random.below(8);
            const later = at + random.below(length - at);
            if (later > at) a.bytes[i + later] ^= 0xff;
            const found = kernel.firstDifference(a.at + i, b.at + k, length);
            if (found !== at) t.fail(`byte ${at} of ${length} at ${i}, ${k}: ${found}`);
          }
    }),
  );
  t.pass();
});

test("firstDifference sees every position", (t) => {
  kernel.borrow(1024, (a) =>
    kernel.borrow(1024, (b) => {
      a.bytes.fill(0xa5);
      b.bytes.fill(0xa5);
      for (let i = 0; i < 1024; i++) {
        b.bytes[i] ^= 0x80;
        if (kernel.firstDifference(a.at, b.at, 1024) !== i) t.fail(`${i}`);
        b.bytes[i] ^= 0x80;
      }
    }),
  );
  t.pass();
});
