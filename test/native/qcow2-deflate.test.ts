import { join } from "node:path";
import test from "ava";
import { portableCodecs } from "../../src/codec/portable.ts";
import { inScratch } from "../support/native.ts";
import { difference, qemuImg, readBytes, squeezable, writeBytes } from "../support/qcow2.ts";
import { Random } from "../support/random.ts";

test("the portable deflate gives the very bytes of qemu-img -c", (t) =>
  inScratch("deflate", async (dir) => {
    const guest = squeezable(new Random(1), 2 ** 21);
    const q = join(dir, "a.qcow2");
    await qemuImg("convert", "-f", "raw", "-O", "qcow2", "-c", writeBytes(join(dir, "a.raw"), guest), q);
    const image = readBytes(q);
    const v = new DataView(image.buffer, image.byteOffset, image.length);
    const l2 = Number(v.getBigUint64(Number(v.getBigUint64(40))) & 0xfffffffffffe00n);
    for (let i = 0; i < 32; i++) {
      const entry = v.getBigUint64(l2 + 8 * i);
      t.is(entry >> 62n, 1n);
      const at = Number(entry & ((1n << 54n) - 1n));
      const cluster = guest.subarray(i * 65536, (i + 1) * 65536);
      const ours = await portableCodecs.deflateRaw(cluster, { level: 6, windowBits: 12, memLevel: 9 });
      t.is(difference(image.subarray(at, at + ours.length), ours), null);
    }
  }));
