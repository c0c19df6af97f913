import test from "ava";
import { unpackLznt1 } from "../../../../src/fs/ntfs/lznt1.ts";
import { Random } from "../../../support/random.ts";

/** A plain packer: the longest match found by looking everywhere. */
function pack(data: Uint8Array): Uint8Array {
  const out: number[] = [];
  for (let base = 0; base < data.length; base += 4096) {
    const end = Math.min(base + 4096, data.length);
    const body: number[] = [];
    for (let at = base; at < end; ) {
      const flagsAt = body.push(0) - 1;
      for (let i = 0; i < 8 && at < end; i++) {
        let lengthBits = 12;
        for (let reach = at - base - 1; reach >= 16; reach >>= 1) lengthBits--;
        const most = Math.min((1 << lengthBits) + 2, end - at);
        let best = 0;
        let back = 0;
        for (let from = Math.max(base, at - (1 << (16 - lengthBits))); from < at; from++) {
          let n = 0;
          while (n < most && data[from + n] === data[at + n]) n++;
          if (n > best) [best, back] = [n, at - from];
        }
        if (best < 3) {
          body.push(data[at++]);
          continue;
        }
        body[flagsAt] |= 1 << i;
        const token = ((back - 1) << lengthBits) | (best - 3);
        body.push(token & 255, token >> 8);
        at += best;
      }
    }
    const plain = body.length >= end - base;
    const stored = plain ? [...data.subarray(base, end)] : body;
    const header = (plain ? 0x3000 : 0xb000) | (stored.length - 1);
    out.push(header & 255, header >> 8, ...stored);
  }
  return Uint8Array.from(out);
}

test("what a plain packer packs comes back", (t) => {
  const random = new Random(3);
  for (const length of [1, 2, 15, 16, 17, 100, 4095, 4096, 4097, 9000]) {
    const kinds = [
      random.fill(new Uint8Array(length)),
      new Uint8Array(length).fill(7),
      Uint8Array.from({ length }, (_, i) => (i * i) & 15),
      Uint8Array.from({ length }, () => random.below(3)),
    ];
    for (const data of kinds) {
      const into = new Uint8Array(length + 50).fill(9);
      t.truthy(unpackLznt1(pack(data), into.subarray(0, length)));
      t.deepEqual(into.subarray(0, length), data);
      t.deepEqual([...new Set(into.subarray(length))], [9]);
    }
  }
});

test("an end, a short chunk and a full target", (t) => {
  const one = pack(new Uint8Array(4096).fill(5));
  const two = new Uint8Array(one.length + 2 + 20);
  two.set(one);
  t.deepEqual(
    unpackLznt1(two, new Uint8Array(8192))!.subarray(4090, 4100),
    Uint8Array.of(5, 5, 5, 5, 5, 5, 0, 0, 0, 0),
  );
  t.is(unpackLznt1(one, new Uint8Array(10))!.filter((v) => v === 5).length, 10);
  t.deepEqual(unpackLznt1(new Uint8Array(0), new Uint8Array(3)), new Uint8Array(3));
});

test("corrupt input is refused or fills the target, never more", (t) => {
  t.is(unpackLznt1(Uint8Array.of(0xff, 0xbf, 0), new Uint8Array(4096)), null, "a chunk past the end");
  t.is(unpackLznt1(Uint8Array.of(2, 0xb0, 1, 0, 0), new Uint8Array(4096)), null, "a copy of nothing");
  t.is(
    unpackLznt1(Uint8Array.of(3, 0xb0, 2, 65, 0, 0x20), new Uint8Array(4096)),
    null,
    "a copy from before the chunk",
  );
  const random = new Random(8);
  for (let round = 0; round < 3000; round++) {
    const packed = random.fill(new Uint8Array(random.below(300)));
    if (packed.length > 2) packed[1] = 0xb0;
    const into = new Uint8Array(5000).fill(1);
    unpackLznt1(packed, into.subarray(0, 4500));
    t.deepEqual([...new Set(into.subarray(4500))], [1]);
  }
});
