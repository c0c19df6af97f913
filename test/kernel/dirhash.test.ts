import test from "ava";
import { Kernel } from "../../src/kernel/kernel.ts";
import { dirhashOf } from "../support/dirhash.ts";
import { run } from "../support/native.ts";
import { Random } from "../support/random.ts";

const kernel = Kernel.get();
const SEED = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
const UUID_SEED = "01234567-89ab-cdef-fedc-ba9876543210";

function hash(name: Uint8Array, version: number, seed: readonly number[]): number {
  return kernel.borrow(512, (slot) => {
    new Uint32Array(slot.bytes.buffer, slot.bytes.byteOffset, 4).set(seed);
    slot.bytes.set(name, 16);
    return kernel.raw.dirhash(slot.at + 16, name.length, version, slot.at) >>> 0;
  });
}

test("every length, signed and unsigned characters, against the oracle", (t) => {
  const random = new Random(5);
  for (let length = 1; length <= 255; length++)
    for (let version = 0; version < 6; version++) {
      const seed = [random.word(), random.word(), random.word(), random.word()];
      const name = random.fill(new Uint8Array(length));
      if (hash(name, version, seed) !== dirhashOf(name, version, seed)) t.fail(`${length}, ${version}`);
    }
  t.pass();
});

test("the same as debugfs computes", async (t) => {
  const names = [
    "a",
    "passwd",
    "a name of some length, number 17",
    "x".repeat(33),
    "n".repeat(200),
    "Straße",
  ];
  const bytes = [...UUID_SEED.replaceAll("-", "").matchAll(/../g)].map((m) => Number.parseInt(m[0], 16));
  const seed = [0, 4, 8, 12].map(
    (i) => (bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24)) >>> 0,
  );
  for (const [version, algorithm] of ["legacy", "half_md4", "tea"].entries())
    for (const name of names) {
      const r = await run("debugfs", ["-R", `dx_hash -h ${algorithm} -s ${UUID_SEED} "${name}"`]);
      const m = /is 0x([0-9a-f]+) /.exec(r.stdout.toString("latin1"));
      const mine = hash(new TextEncoder().encode(name), version, version === 0 ? SEED : seed);
      t.is(mine.toString(16), Number.parseInt(m?.[1] ?? "", 16).toString(16), `${algorithm} ${name}`);
    }
});
