// Packers and the one-pass writer against the bytes that qemu-img and e2image write.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { BlockSet } from "../../src/bytes/block-set.ts";
import type { PackerSpec } from "../../src/image/packer.ts";
import { createPacker } from "../../src/image/qcow2/packer.ts";
import { planQcow2, streamQcow2 } from "../../src/image/qcow2/stream.ts";
import { MemorySource } from "../../src/io/memory.ts";
import { inScratch, must, run } from "../support/native.ts";
import { nonzeroClusters, packToMemory } from "../support/pack.ts";
import { difference, patchwork, qemuImg, readBytes, writeBytes } from "../support/qcow2.ts";
import { Random } from "../support/random.ts";

/** A target that takes ascending writes only. */
function pipe(size: number) {
  const bytes = new Uint8Array(size);
  let end = 0;
  return {
    bytes,
    target: {
      label: "pipe",
      seekable: false,
      fresh: true,
      capacity: Number.POSITIVE_INFINITY,
      write(b: Uint8Array, at: number) {
        if (at < end) throw new Error(`write at ${at} after ${end}`);
        bytes.set(b, at);
        end = at + b.length;
      },
      zero() {},
      commit() {},
      abort() {},
    },
  };
}

/**
 * Packs in one go, in chunks of varied sizes by several packers in turn, and in one pass: all must give
 * `want`.
 */
async function gives(
  t: ExecutionContext,
  spec: PackerSpec,
  guest: Uint8Array,
  want: Uint8Array,
): Promise<void> {
  const used = nonzeroClusters(guest, spec.clusterSize, createPacker(spec).zeroUnit);
  const whole = packToMemory(createPacker(spec), guest, () => Number.POSITIVE_INFINITY, undefined, used);
  t.is(difference(whole, want), null, "in one go");
  const random = new Random(guest.length);
  const packer = createPacker(spec);
  const unit = (packer.chunkUnit ?? spec.clusterSize) / spec.clusterSize;
  const turns = packToMemory(
    packer,
    guest,
    () => unit * (1 + random.below(random.below(2) === 0 ? 3 : 100)),
    () => createPacker(spec),
    used,
  );
  t.is(difference(turns, want), null, "in turns");
  const clusters = new BlockSet(used.length);
  for (let i = 0; i < used.length; i++) if (used[i] !== 0) clusters.add(i);
  t.is(planQcow2(spec, clusters).size, want.length);
  const { target, bytes } = pipe(want.length);
  t.is(await streamQcow2({ spec, clusters, source: new MemorySource(guest, "guest"), target }), want.length);
  t.is(difference(bytes, want), null, "in one pass");
}

async function asQemuImg(
  t: ExecutionContext,
  guest: Uint8Array,
  clusterSize: number,
  version: 2 | 3,
  refcountOrder: number,
): Promise<void> {
  await inScratch("pack", async (dir) => {
    const raw = writeBytes(join(dir, "a.raw"), guest);
    const q = join(dir, "a.qcow2");
    const compat = version === 2 ? "0.10" : "1.1";
    const options = `cluster_size=${clusterSize},compat=${compat},refcount_bits=${2 ** refcountOrder}`;
    await qemuImg("convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, q);
    const spec: PackerSpec = {
      kind: "qemu",
      clusterSize,
      guestSize: guest.length,
      version,
      refcountOrder,
      backingFile: null,
      backingFormat: null,
    };
    await gives(t, spec, guest, readBytes(q));
  });
}

for (const clusterSize of [4096, 8192, 16384, 32768, 65536, 131072, 524288, 1048576, 2097152])
  test(`as qemu-img: clusters of ${clusterSize}`, async (t) => {
    const random = new Random(clusterSize);
    for (const [version, order] of [
      [3, 4],
      [2, 4],
      [3, 0],
      [3, 6],
    ] as const) {
      const size = 6_000_000 + random.below(3_000_000);
      const density = 0.2 + 0.2 * order;
      await asQemuImg(
        t,
        patchwork(random, size, order === 4 ? 512 : 4096, density),
        clusterSize,
        version,
        order,
      );
    }
  });

for (const clusterSize of [512, 1024, 2048])
  for (const order of [0, 1, 2, 3, 4, 5, 6])
    test(`as qemu-img: clusters of ${clusterSize}, refcounts of ${2 ** order} bits`, async (t) => {
      const random = new Random(clusterSize + order);
      const unit = [512, 4096, 65536][order % 3];
      await asQemuImg(t, patchwork(random, 20_000_123, unit, 0.5 + 0.07 * order, 60), clusterSize, 3, order);
      await asQemuImg(t, patchwork(random, 3_000_000, 512, 0.1), clusterSize, 3, order);
    });

test("as qemu-img: the refcount table moves more than once", async (t) => {
  const random = new Random(99);
  await asQemuImg(t, patchwork(random, 48_000_000, 4096, 0.9, 300), 512, 3, 6);
  await asQemuImg(t, patchwork(random, 40_000_000, 512, 0.6, 7), 512, 3, 5);
  await asQemuImg(t, patchwork(random, 70_000_000, 4096, 0.97, 500), 1024, 3, 6);
});

test("as qemu-img: nothing, all, and next to nothing", async (t) => {
  for (const clusterSize of [512, 65536, 2097152]) {
    await asQemuImg(t, new Uint8Array(5_000_192), clusterSize, 3, 4);
    await asQemuImg(t, new Uint8Array(5_000_192).fill(1), clusterSize, 3, 4);
    const last = new Uint8Array(5_000_192);
    last[last.length - 1] = 1;
    await asQemuImg(t, last, clusterSize, 2, 4);
    await asQemuImg(t, new Uint8Array(512).fill(1), clusterSize, 3, 4);
  }
});

test("qemu-img finds no errors and no leaks, with a backing file too", (t) =>
  inScratch("pack", async (dir) => {
    const random = new Random(4);
    const guest = patchwork(random, 9_000_448, 4096, 0.5);
    writeBytes(join(dir, "base.raw"), new Uint8Array(9_000_448));
    for (const clusterSize of [512, 4096, 65536])
      for (const version of [2, 3] as const) {
        const spec: PackerSpec = {
          kind: "qemu",
          clusterSize,
          guestSize: guest.length,
          version,
          refcountOrder: 4,
          backingFile: "base.raw",
          backingFormat: "raw",
        };
        const q = writeBytes(
          join(dir, "a.qcow2"),
          packToMemory(createPacker(spec), guest, () => 512),
        );
        await qemuImg("check", "-q", q);
        await qemuImg("compare", "-q", q, writeBytes(join(dir, "a.raw"), guest));
        const info = JSON.parse((await qemuImg("info", "--output=json", q)).stdout.toString());
        t.is(info["backing-filename"], "base.raw");
        t.is(info["backing-filename-format"], "raw");
      }
  }));

/** Number of marks that gives the refcount table of a native image: any of those that round to it. */
function marksOf(image: Uint8Array, blockSize: number): number {
  const v = new DataView(image.buffer, image.byteOffset);
  const clusters = v.getUint32(56);
  const at = Number(v.getBigUint64(48));
  return clusters === 1 ? 0 : clusters * blockSize * 32 - at / blockSize;
}

for (const [blockSize, size, options] of [
  [1024, "40M", []],
  [1024, "200M", ["-O", "^has_journal"]],
  [1024, "30M", ["-t", "ext2"]],
  [2048, "60M", []],
  [4096, "60M", ["-t", "ext3"]],
  [4096, "300M", []],
  [16384, "150M", []],
  [65536, "300M", []],
] as const)
  test.serial(`as e2image: blocks of ${blockSize}, ${size} ${options.join(" ")}`, (t) =>
    inScratch("pack", async (dir) => {
      const random = new Random(blockSize);
      const tree = join(dir, "tree");
      for (let i = 0; i < 150; i++) {
        mkdirSync(join(tree, `d${i % 7}`), { recursive: true });
        writeFileSync(join(tree, `d${i % 7}`, `f${i}`), random.fill(new Uint8Array(random.below(100_000))));
      }
      const volume = join(dir, "v.img");
      const type = (options as readonly string[]).includes("-t") ? [] : ["-t", "ext4"];
      await must("mke2fs", ["-q", "-F", "-b", `${blockSize}`, ...type, ...options, "-d", tree, volume, size]);
      for (const mode of ["", "a"]) {
        const raw = join(dir, "raw");
        const q = join(dir, "q");
        for (const f of [raw, q]) rmSync(f, { force: true });
        await must("e2image", [`-r${mode}`, volume, raw]);
        await must("e2image", [`-Q${mode}`, volume, q]);
        const guest = readBytes(raw);
        const want = readBytes(q);
        const spec: PackerSpec = {
          kind: "e2image",
          clusterSize: blockSize,
          guestSize: guest.length,
          marks: marksOf(want, blockSize),
        };
        await gives(t, spec, guest, want);
        // Two leaked clusters are part of this layout.
        t.true([0, 3].includes((await run("qemu-img", ["check", "-q", q])).code ?? -1));
      }
    }),
  );

test("any cut of the guest gives a valid image", (t) =>
  inScratch("pack", async (dir) => {
    const random = new Random(77);
    for (const [clusterSize, refcountOrder] of [
      [512, 6],
      [512, 4],
      [1024, 6],
      [4096, 6],
      [65536, 4],
    ]) {
      const guest = patchwork(random, 25_000_448, clusterSize, 0.8, 200);
      const raw = writeBytes(join(dir, "a.raw"), guest);
      const spec: PackerSpec = {
        kind: "qemu",
        clusterSize,
        guestSize: guest.length,
        version: 3,
        refcountOrder,
        backingFile: null,
        backingFormat: null,
      };
      const used = nonzeroClusters(guest, clusterSize);
      const next = () => 1 + random.below(random.below(4) === 0 ? 2000 : 50);
      const turns = packToMemory(createPacker(spec), guest, next, () => createPacker(spec), used);
      const q = writeBytes(join(dir, "a.qcow2"), turns);
      await qemuImg("check", "-q", q);
      await qemuImg("compare", "-q", q, raw);
    }
    t.pass();
  }));
