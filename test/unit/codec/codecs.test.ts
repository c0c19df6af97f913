import { deflateRawSync, inflateRawSync } from "node:zlib";
import test from "ava";
import type { Codecs } from "../../../src/codec/codecs.ts";
import { nodeCodecs } from "../../../src/codec/node/codecs.ts";
import { portableCodecs } from "../../../src/codec/portable.ts";
import { zstdFrame } from "../../../src/codec/zstd-frame.ts";
import { must } from "../../support/native.ts";
import { difference, squeezable } from "../../support/qcow2.ts";
import { Random } from "../../support/random.ts";

const QEMU = { level: 6, windowBits: 12, memLevel: 9 };
const both: [string, Codecs][] = [
  ["node", nodeCodecs],
  ["portable", portableCodecs],
];

/** `bytes` with rubbish behind, as in an image. */
function padded(bytes: Uint8Array, more = 300): Uint8Array {
  const b = new Uint8Array(bytes.length + more).fill(0x5a);
  b.set(bytes);
  return b;
}

async function zstd(bytes: Uint8Array, ...options: string[]): Promise<Uint8Array> {
  return (await must("zstd", ["-q", "-c", ...options], { input: bytes })).stdout;
}

for (const [name, codecs] of both) {
  test(`${name}: inflates what deflate made, whatever follows`, async (t) => {
    const random = new Random(3);
    for (const size of [512, 4096, 65536, 2097152]) {
      const data = squeezable(random, size);
      for (const windowBits of [9, 12, 15]) {
        const stream = deflateRawSync(data, { windowBits });
        t.is(difference(await codecs.inflateRaw(stream, size), data), null);
        t.is(difference(await codecs.inflateRaw(padded(stream), size), data), null);
      }
      const ours = await codecs.deflateRaw(data, QEMU);
      t.is(difference(inflateRawSync(ours), data), null);
    }
  });

  test(`${name}: a stream that is longer than asked for gives its beginning`, async (t) => {
    const data = squeezable(new Random(4), 300_000);
    const stream = deflateRawSync(data);
    t.is(difference(await codecs.inflateRaw(stream, 65536), data.subarray(0, 65536)), null);
    // Cut behind what is needed: no end of stream, but enough bytes.
    t.is(
      difference(
        await codecs.inflateRaw(stream.subarray(0, stream.length - 100), 65536),
        data.subarray(0, 65536),
      ),
      null,
    );
  });

  test(`${name}: short, cut and damaged streams are errors`, async (t) => {
    const data = squeezable(new Random(5), 65536);
    const stream = deflateRawSync(data);
    for (const bad of [
      deflateRawSync(data.subarray(0, 65535)),
      stream.subarray(0, stream.length >> 1),
      new Uint8Array(0),
      new Uint8Array(100).fill(0xff),
    ])
      await t.throwsAsync(async () => codecs.inflateRaw(bad, 65536), { code: "EFORMAT" });
  });

  test(`${name}: zstd frames, one and several, with and without a size, whatever follows`, async (t) => {
    const random = new Random(6);
    for (const size of [512, 4096, 65536, 2097152]) {
      const data = squeezable(random, size);
      for (const options of [
        [],
        ["--no-content-size"],
        ["--check"],
        ["-19"],
        ["--ultra", "-22", "--long=27"],
      ]) {
        const frame = await zstd(data, ...options);
        t.is(difference(await codecs.zstd(padded(frame), size), data), null, `${size} ${options}`);
      }
      const half = size / 2;
      const first = await zstd(data.subarray(0, half), `--stream-size=${half}`);
      const unsized = await zstd(data.subarray(0, half));
      const second = await zstd(data.subarray(half), "--no-content-size");
      const skip = new Uint8Array([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
      for (const frames of [
        [first, skip, second],
        [skip, unsized, first.subarray(0, 0), second],
      ])
        t.is(difference(await codecs.zstd(padded(Buffer.concat(frames)), size), data), null);
    }
    const noise = random.fill(new Uint8Array(65536));
    t.is(difference(await codecs.zstd(await zstd(noise), 65536), noise), null);
  });

  test(`${name}: damaged, cut, long and short zstd frames are errors`, async (t) => {
    const data = squeezable(new Random(7), 65536);
    const frame = await zstd(data, "--check");
    const bare = await zstd(data, "--no-content-size", "--no-check");
    const broken = Uint8Array.from(frame);
    broken[frame.length - 30] ^= 0x55;
    const words: [string, Uint8Array, number][] = [
      ["cut", frame.subarray(0, frame.length - 60), 65536],
      ["cut in the header", frame.subarray(0, 4), 65536],
      ["empty", new Uint8Array(0), 65536],
      ["damaged", broken, 65536],
      ["magic", padded(frame).fill(0, 0, 1), 65536],
      ["more than asked for", frame, 4096],
      ["less than asked for", frame, 131072],
      ["without a size, more than asked for", bare, 4096],
      ["without a size, less than asked for", bare, 131072],
    ];
    for (const [what, bytes, size] of words)
      await t.throwsAsync(async () => codecs.zstd(bytes, size), { code: "EFORMAT" }, what);
  });

  test(`${name}: zstd bombs and lies are refused before they are unpacked`, async (t) => {
    // One frame, no content size, a window of 2 MiB, thousands of RLE blocks of 128 KiB.
    const blocks = 4000;
    const bomb = new Uint8Array(6 + blocks * 4);
    bomb.set([0x28, 0xb5, 0x2f, 0xfd, 0, 0x58]);
    for (let i = 0; i < blocks; i++) {
      const header = (131072 << 3) | (1 << 1) | (i === blocks - 1 ? 1 : 0);
      bomb.set([header & 255, (header >> 8) & 255, header >> 16, 7], 6 + 4 * i);
    }
    t.is(zstdFrame(bomb, 0).most, blocks * 131072);
    await t.throwsAsync(async () => codecs.zstd(bomb, 65536), { code: "EFORMAT" });
    // A content size of 2^40 in the header.
    const lie = new Uint8Array([0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0]);
    await t.throwsAsync(async () => codecs.zstd(lie, 65536), { code: "EFORMAT" });
    // A window of 2^41, and a dictionary.
    const window = new Uint8Array([0x28, 0xb5, 0x2f, 0xfd, 0, 0xf8, 1, 0, 0]);
    await t.throwsAsync(async () => codecs.zstd(window, 65536), { code: "EFORMAT" });
    const dictionary = new Uint8Array([0x28, 0xb5, 0x2f, 0xfd, 1, 0x58, 9, 1, 0, 0]);
    await t.throwsAsync(async () => codecs.zstd(dictionary, 65536), { code: "EUNSUPPORTED" });
  });

  test(`${name}: random damage never does worse than a typed error`, async (t) => {
    const random = new Random(8);
    const data = squeezable(random, 65536);
    for (const [kind, stream] of [
      ["zstd", await zstd(data, "--check")],
      ["inflateRaw", deflateRawSync(data)],
    ] as const)
      for (let i = 0; i < 100; i++) {
        const bad = Uint8Array.from(stream);
        for (let k = 0; k < 3; k++) bad[random.below(i % 2 === 0 ? 32 : bad.length)] = random.below(256);
        try {
          t.is((await codecs[kind](bad, 65536)).length, 65536);
        } catch (e) {
          t.true(["EFORMAT", "EUNSUPPORTED"].includes((e as { code: string }).code), String(e));
        }
      }
  });
}
