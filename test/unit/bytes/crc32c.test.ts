import test from "ava";
import { crc32c } from "../../../src/bytes/crc32c.ts";
import { Kernel } from "../../../src/kernel/kernel.ts";

test("the plain CRC-32C gives the published check value", (t) => {
  const text = new TextEncoder().encode("123456789");
  t.is(~crc32c(0xffffffff, text) >>> 0, 0xe3069283);
});

test("the plain CRC-32C and the kernel agree", (t) => {
  const bytes = Uint8Array.from({ length: 1021 }, (_, i) => (i * 37 + (i >>> 3)) & 255);
  for (const n of [0, 1, 3, 16, 255, 1020, 1021])
    t.is(crc32c(7, bytes.subarray(0, n)), Kernel.get().crc32cOf(7, bytes.subarray(0, n)), `${n} bytes`);
});
