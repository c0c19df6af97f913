// Damaged and lying QCOW2 images: a typed error or the right bytes, soon and in little memory.
import { deflateRawSync } from "node:zlib";
import test, { type ExecutionContext } from "ava";
import { nodeCodecs } from "../../../src/codec/node/codecs.ts";
import { portableCodecs } from "../../../src/codec/portable.ts";
import { ImprintError, RefusedError } from "../../../src/errors.ts";
import { createPacker } from "../../../src/image/qcow2/packer.ts";
import { openQcow2 } from "../../../src/image/qcow2/reader.ts";
import type { Gate } from "../../../src/io/gate.ts";
import { MemorySource } from "../../../src/io/memory.ts";
import { nonzeroClusters, packToMemory } from "../../support/pack.ts";
import { mapAll, patchwork } from "../../support/qcow2.ts";
import { Random } from "../../support/random.ts";

const CLUSTER = 4096;
const guest = patchwork(new Random(11), 3_000_320, CLUSTER, 0.6);
const HEADER_END = 112;

function image(version: 2 | 3 = 3, clusterSize = CLUSTER): Uint8Array {
  return packToMemory(
    createPacker({
      kind: "qemu",
      clusterSize,
      guestSize: guest.length,
      version,
      refcountOrder: 4,
      backingFile: null,
      backingFormat: null,
    }),
    guest,
    () => 512,
  );
}

const view = (b: Uint8Array) => new DataView(b.buffer, b.byteOffset, b.length);
const u64 = (b: Uint8Array, at: number) => Number(view(b).getBigUint64(at));
const put32 = (b: Uint8Array, at: number, v: number) => view(b).setUint32(at, v);
const put64 = (b: Uint8Array, at: number, v: bigint) => view(b).setBigUint64(at, v);
const l1At = (b: Uint8Array) => u64(b, 40);
const l2At = (b: Uint8Array, i = 0) => u64(b, l1At(b) + 8 * i) % 2 ** 56;
/** Offset of the L2 entry of guest cluster `n`. */
const entryAt = (b: Uint8Array, n: number) => l2At(b, Math.floor(n / 512)) + (n % 512) * 8;
const used = nonzeroClusters(guest, CLUSTER);
const stored = used.indexOf(1);

const refuse: Gate = async (r) => {
  throw new RefusedError("EGATE", `${r.name} refused`);
};

type Outcome = "right" | "wrong" | string;

/** Opens, maps and reads everything; the error's code, or whether the bytes are the guest's. */
async function outcome(t: ExecutionContext, bytes: Uint8Array, gate: Gate = refuse): Promise<Outcome> {
  const start = performance.now();
  let result: Outcome;
  try {
    const disk = await openQcow2(new MemorySource(bytes, "hostile"), gate, { codecs: nodeCodecs });
    disk.info();
    let failed: unknown = null;
    try {
      await mapAll(disk, () => {});
    } catch (e) {
      failed = e;
    }
    let right = disk.size === guest.length;
    const into = new Uint8Array(262144);
    for (let at = 0; at < Math.min(disk.size, 2 ** 26); at += into.length) {
      const n = await disk.read(into, at);
      right &&= Buffer.compare(into.subarray(0, n), guest.subarray(at, at + n)) === 0;
    }
    if (failed !== null) throw failed;
    result = right ? "right" : "wrong";
  } catch (e) {
    if (!(e instanceof ImprintError)) throw e;
    t.true(e.message.length > 5 && e.message.length < 400, e.message);
    result = e.code;
  }
  t.true(performance.now() - start < 5000, "takes too long");
  return result;
}

/**
 * Mutations and what they must lead to: an error code, right bytes, or (where the change is undetectable)
 * other bytes.
 */
const mutations: [string, Outcome | readonly Outcome[], (b: Uint8Array) => Uint8Array | undefined][] = [
  ["magic", "EFORMAT", (b) => void put32(b, 0, 0x514649fc)],
  ["version 0", "EUNSUPPORTED", (b) => void put32(b, 4, 0)],
  ["version 1", "EUNSUPPORTED", (b) => void put32(b, 4, 1)],
  ["version 4", "EUNSUPPORTED", (b) => void put32(b, 4, 4)],
  ["backing name beyond the cluster", "EFORMAT", (b) => void put64(b, 8, 0x10000000n)],
  [
    "backing name too long",
    "EFORMAT",
    (b) => {
      put64(b, 8, 512n);
      put32(b, 16, 1024);
    },
  ],
  [
    "backing name over the cluster's end",
    "EFORMAT",
    (b) => {
      put64(b, 8, BigInt(CLUSTER - 10));
      put32(b, 16, 11);
    },
  ],
  [
    "backing name inside the header",
    // It starts with a zero byte: no name.
    "right",
    (b) => {
      put64(b, 8, 8n);
      put32(b, 16, 20);
    },
  ],
  ["backing name at 2^63", "EFORMAT", (b) => void put64(b, 8, 2n ** 63n)],
  ["cluster bits 8", "EFORMAT", (b) => void put32(b, 20, 8)],
  ["cluster bits 22", "EFORMAT", (b) => void put32(b, 20, 22)],
  ["cluster bits 2^31", "EFORMAT", (b) => void put32(b, 20, 0x80000000)],
  ["cluster bits smaller than they are", "EFORMAT", (b) => void put32(b, 20, 9)],
  ["cluster bits larger than they are", "EFORMAT", (b) => void put32(b, 20, 16)],
  ["size 0", "wrong", (b) => void put64(b, 24, 0n)],
  ["size beyond the L1 table", "EFORMAT", (b) => void put64(b, 24, 2n ** 40n)],
  ["size 2^53", "EFORMAT", (b) => void put64(b, 24, 2n ** 53n)],
  ["size 2^63 - 1", "EFORMAT", (b) => void put64(b, 24, 2n ** 63n - 1n)],
  ["size 2^64 - 1", "EFORMAT", (b) => void put64(b, 24, 2n ** 64n - 1n)],
  ["encryption method 3", "EUNSUPPORTED", (b) => void put32(b, 32, 3)],
  ["AES", "EUNSUPPORTED", (b) => void put32(b, 32, 1)],
  ["LUKS without its header", "EFORMAT", (b) => void put32(b, 32, 2)],
  ["no L1 entries", "EFORMAT", (b) => void put32(b, 36, 0)],
  ["L1 entries 2^31 - 1", "EFORMAT", (b) => void put32(b, 36, 0x7fffffff)],
  ["L1 entries 4M", ["right", "EFORMAT"], (b) => void put32(b, 36, 4194304)],
  ["L1 offset unaligned", "EFORMAT", (b) => void put64(b, 40, BigInt(l1At(b) + 8))],
  ["L1 offset beyond the end", "EFORMAT", (b) => void put64(b, 40, BigInt(CLUSTER) * 100000n)],
  ["L1 offset 2^63", "EFORMAT", (b) => void put64(b, 40, 2n ** 63n)],
  ["L1 table is the header", "EFORMAT", (b) => void put64(b, 40, 0n)],
  ["refcount table unaligned", "EFORMAT", (b) => void put64(b, 48, 100n)],
  ["refcount table at 2^60", "EFORMAT", (b) => void put64(b, 48, 2n ** 60n)],
  ["refcount table beyond the end", "right", (b) => void put64(b, 48, BigInt(CLUSTER) * 100000n)],
  ["no refcount table", "EFORMAT", (b) => void put32(b, 56, 0)],
  ["refcount table of 2^32 - 1 clusters", "EFORMAT", (b) => void put32(b, 56, 0xffffffff)],
  ["65537 snapshots", "EFORMAT", (b) => void put32(b, 60, 65537)],
  [
    "65536 snapshots in zeros",
    "right",
    (b) => {
      put32(b, 60, 65536);
      put64(b, 64, BigInt(CLUSTER));
    },
  ],
  [
    "snapshots beyond the end",
    "right",
    (b) => {
      put32(b, 60, 3);
      put64(b, 64, BigInt(CLUSTER) * 100000n);
    },
  ],
  [
    "snapshot table unaligned",
    "EFORMAT",
    (b) => {
      put32(b, 60, 1);
      put64(b, 64, 77n);
    },
  ],
  ["unknown incompatible bit 5", "EUNSUPPORTED", (b) => void (b[79] |= 0x20)],
  ["unknown incompatible bit 63", "EUNSUPPORTED", (b) => void (b[72] |= 0x80)],
  ["dirty", "right", (b) => void (b[79] |= 1)],
  ["corrupt", "right", (b) => void (b[79] |= 2)],
  ["data file without a name", "EFORMAT", (b) => void (b[79] |= 4)],
  ["compression bit without a type", "EFORMAT", (b) => void (b[79] |= 8)],
  ["compression type without its bit", "EFORMAT", (b) => void (b[104] = 1)],
  ["compression type 9", "EUNSUPPORTED", (b) => void (b[104] = 9)],
  ["extended L2 with small clusters", "EFORMAT", (b) => void (b[79] |= 16)],
  ["unknown compatible and autoclear bits", "right", (b) => void b.fill(0xff, 80, 95)],
  ["refcount order 7", "EFORMAT", (b) => void put32(b, 96, 7)],
  ["header length 100", "EFORMAT", (b) => void put32(b, 100, 100)],
  ["header length 104", "right", (b) => void put32(b, 100, 104)],
  ["header length over the cluster", "EFORMAT", (b) => void put32(b, 100, CLUSTER + 8)],
  ["header length 2^32 - 1", "EFORMAT", (b) => void put32(b, 100, 0xffffffff)],
  [
    "unknown extension",
    "right",
    (b) => {
      put32(b, HEADER_END, 0x12345678);
      put32(b, HEADER_END + 4, 13);
    },
  ],
  [
    "extension longer than the cluster",
    "EFORMAT",
    (b) => {
      put32(b, HEADER_END, 0x12345678);
      put32(b, HEADER_END + 4, CLUSTER);
    },
  ],
  [
    "extension of 2^32 - 1 bytes",
    "EFORMAT",
    (b) => {
      put32(b, HEADER_END, 0x12345678);
      put32(b, HEADER_END + 4, 0xffffffff);
    },
  ],
  [
    "endless extensions",
    "right",
    (b) => {
      for (let p = HEADER_END; p < CLUSTER; p += 8) put32(b, p, 0x12345678);
    },
  ],
  [
    "backing format too long",
    "EFORMAT",
    (b) => {
      put32(b, HEADER_END, 0xe2792aca);
      put32(b, HEADER_END + 4, 16);
    },
  ],
  [
    "bitmaps extension too short",
    "EFORMAT",
    (b) => {
      put32(b, HEADER_END, 0x23852875);
      put32(b, HEADER_END + 4, 8);
    },
  ],
  ["L1 entry: reserved low bit", "EFORMAT", (b) => void (b[l1At(b) + 7] |= 1)],
  ["L1 entry: reserved high bit", "EFORMAT", (b) => void (b[l1At(b)] |= 1)],
  ["L1 entry: unaligned", "EFORMAT", (b) => void (b[l1At(b) + 6] |= 2)],
  ["L1 entry: beyond the end", "EFORMAT", (b) => void put64(b, l1At(b), 2n ** 40n)],
  ["L1 entry: 2^56 - 512", "EFORMAT", (b) => void put64(b, l1At(b), 2n ** 56n - 512n)],
  ["L1 entry: the header", ["EFORMAT", "wrong"], (b) => void put64(b, l1At(b), 2n ** 63n)],
  ["L1 entry: the L1 table", ["EFORMAT", "wrong"], (b) => void put64(b, l1At(b), BigInt(l1At(b)))],
  [
    "L2 table that points to itself",
    "wrong",
    (b) => {
      const l2 = l2At(b);
      for (let i = 0; i < 512; i++) put64(b, l2 + 8 * i, BigInt(l2) | (1n << 63n));
    },
  ],
  ["L2 entry: reserved low bit", "EFORMAT", (b) => void (b[entryAt(b, stored) + 7] |= 2)],
  ["L2 entry: reserved high bit", "EFORMAT", (b) => void (b[entryAt(b, stored)] |= 1)],
  ["L2 entry: unaligned", "EFORMAT", (b) => void (b[entryAt(b, stored) + 6] |= 2)],
  ["L2 entry: beyond the end", "EFORMAT", (b) => void put64(b, entryAt(b, stored), 2n ** 40n)],
  ["L2 entry: just beyond the end", "EFORMAT", (b) => void put64(b, entryAt(b, stored), BigInt(b.length))],
  [
    "L2 entry: compressed, beyond the end",
    "EFORMAT",
    (b) => void put64(b, entryAt(b, stored), 2n ** 62n + 2n ** 50n),
  ],
  [
    "L2 entry: compressed, of plain data",
    "EFORMAT",
    (b) => void put64(b, entryAt(b, stored), 2n ** 62n + 4096n),
  ],
  ["L2 entry: all ones", "EFORMAT", (b) => void put64(b, entryAt(b, stored), 2n ** 64n - 1n)],
  ["L2 entry: zero cluster", "wrong", (b) => void put64(b, entryAt(b, stored), 1n)],
  ["L2 entry: copied flag missing", "right", (b) => void (b[entryAt(b, stored)] &= 0x7f)],
  ["cut to nothing", "EFORMAT", (b) => b.subarray(0, 0)],
  ["cut within the header", "EFORMAT", (b) => b.subarray(0, 60)],
  ["cut within the version 3 fields", "EFORMAT", (b) => b.subarray(0, 90)],
  ["cut after the header", "EFORMAT", (b) => b.subarray(0, HEADER_END)],
  ["cut before the refcount table", "EFORMAT", (b) => b.subarray(0, CLUSTER)],
  ["cut within the L1 table", "EFORMAT", (b) => b.subarray(0, l1At(b) + 4)],
  ["cut before the first L2 table", "EFORMAT", (b) => b.subarray(0, l2At(b))],
  ["cut within the first L2 table", "EFORMAT", (b) => b.subarray(0, l2At(b) + 2048)],
  ["cut after the first L2 table", "EFORMAT", (b) => b.subarray(0, l2At(b) + CLUSTER)],
  ["cut within the data", "EFORMAT", (b) => b.subarray(0, Math.floor(b.length / 2))],
  ["cut by a cluster", "EFORMAT", (b) => b.subarray(0, b.length - CLUSTER)],
];

for (const [name, expected, mutate] of mutations)
  test(name, async (t) => {
    const b = image();
    const got = await outcome(t, mutate(b) ?? b);
    t.true(([] as Outcome[]).concat(expected).includes(got), `${got}, ${expected} expected`);
  });

test("the image without a mutation", async (t) => {
  t.is(await outcome(t, image()), "right");
  t.is(await outcome(t, image(2)), "right");
  t.is(await outcome(t, image(3, 65536)), "right");
});

test("a zero cluster in version 2", async (t) => {
  const b = image(2);
  b[entryAt(b, stored) + 7] |= 1;
  t.is(await outcome(t, b), "EFORMAT");
});

test("unknown features are named from the image's table", async (t) => {
  const b = image(3, 65536);
  b[79] |= 0x20;
  // Row 0 of the feature table becomes incompatible bit 5.
  b[HEADER_END + 8 + 1] = 5;
  await t.throwsAsync(openQcow2(new MemorySource(b, "x"), refuse), { message: /"dirty bit"/ });
});

test("a last cluster without its padding reads as if it had it", async (t) => {
  const b = image();
  let last = 0;
  for (let i = 0; i < used.length; i++) if (used[i]) last = i;
  const at = u64(b, entryAt(b, last)) % 2 ** 56;
  // Make the end of that cluster zero in image and guest alike, then cut it off.
  const tail = 1000;
  const cut = b.slice(0, at + CLUSTER - tail);
  const disk = await openQcow2(new MemorySource(cut, "short"), refuse);
  const into = new Uint8Array(CLUSTER).fill(7);
  const n = Math.min(CLUSTER, guest.length - last * CLUSTER);
  t.is(await disk.read(into, last * CLUSTER), n);
  const want = b.slice(at, at + n);
  want.fill(0, CLUSTER - tail);
  t.deepEqual(into.subarray(0, n), want);
});

test("an image that is its own backing file ends at the gate", async (t) => {
  const b = image();
  const name = new TextEncoder().encode("self.qcow2");
  b.set(name, 1024);
  put64(b, 8, 1024n);
  put32(b, 16, name.length);
  let depth = 0;
  const self: Gate = async (r) => {
    depth = r.depth;
    if (r.depth > 20) throw new RefusedError("EDEPTH", `${r.name}: too deep`);
    return new MemorySource(b, "self.qcow2");
  };
  t.is(await outcome(t, b, self), "EDEPTH");
  t.is(depth, 21);
  // A gate that does not care: the reader's own limit.
  const endless: Gate = async () => new MemorySource(b, "self.qcow2");
  t.is(await outcome(t, b, endless), "EDEPTH");
});

test("an unknown backing format is refused before the file is asked for", async (t) => {
  const b = image();
  const text = new TextEncoder();
  put32(b, HEADER_END, 0xe2792aca);
  put32(b, HEADER_END + 4, 4);
  b.set(text.encode("vmdk"), HEADER_END + 8);
  b.set(text.encode("base"), 1024);
  put64(b, 8, 1024n);
  put32(b, 16, 4);
  const gate: Gate = () => {
    throw new Error("asked");
  };
  t.is(await outcome(t, b, gate), "EUNSUPPORTED");
});

/** The image with its first stored cluster replaced by a compressed stream at the file's end. */
function compressed(stream: Uint8Array, sectors: number): Uint8Array {
  const b = image();
  const at = Math.ceil(b.length / CLUSTER) * CLUSTER;
  const wider = new Uint8Array(at + Math.max(stream.length, 512));
  wider.set(b);
  wider.set(stream, at);
  const x = 62n - 4n;
  put64(wider, entryAt(wider, stored), (1n << 62n) | (BigInt(sectors - 1) << x) | BigInt(at));
  return wider;
}

test("compressed streams: right, too long, too short, damaged, bombs", async (t) => {
  const cluster = guest.slice(stored * CLUSTER, (stored + 1) * CLUSTER);
  const good = deflateRawSync(cluster);
  const sectors = Math.ceil(good.length / 512);
  t.is(await outcome(t, compressed(good, sectors)), "right");
  t.is(await outcome(t, compressed(good, 16)), "right");
  t.is(await outcome(t, compressed(deflateRawSync(Buffer.concat([cluster, cluster])), 16)), "right");
  t.is(await outcome(t, compressed(deflateRawSync(cluster.subarray(0, 4000)), 16)), "EFORMAT");
  t.is(await outcome(t, compressed(good.subarray(0, good.length - 1000), 2)), "EFORMAT");
  t.is(await outcome(t, compressed(new Uint8Array(512).fill(0xff), 1)), "EFORMAT");
  const bomb = deflateRawSync(new Uint8Array(2 ** 23));
  t.true(bomb.length < 8192 + 512);
  t.is(await outcome(t, compressed(bomb, 16)), "wrong");
  for (const codecs of [nodeCodecs, portableCodecs]) {
    const disk = await openQcow2(new MemorySource(compressed(bomb, 16), "bomb"), refuse, { codecs });
    const into = new Uint8Array(CLUSTER).fill(9);
    t.is(await disk.read(into, stored * CLUSTER), CLUSTER);
    t.true(into.every((v) => v === 0));
  }
});

test("random damage to metadata never does worse than a typed error", async (t) => {
  const random = new Random(2024);
  const clean = image();
  const meta: number[] = [];
  for (let i = 0; i < HEADER_END + 64; i++) meta.push(i);
  for (let i = 0; i < 16; i++) meta.push(l1At(clean) + i);
  for (let i = 0; i < 4096; i++) meta.push(l2At(clean) + i);
  for (let round = 0; round < 300; round++) {
    const b = clean.slice();
    for (let k = random.below(4); k >= 0; k--) {
      const at = meta[random.below(round % 2 === 0 ? HEADER_END + 64 + 16 : meta.length)];
      b[at] = random.below(3) === 0 ? b[at] ^ (1 << random.below(8)) : random.below(256);
    }
    await outcome(t, b);
  }
});

test("1 PiB of nothing maps in one step", async (t) => {
  const clusterSize = 2097152;
  const guestSize = 2 ** 50;
  const spec = {
    kind: "qemu",
    clusterSize,
    guestSize,
    version: 3,
    refcountOrder: 4,
    backingFile: null,
    backingFormat: null,
  } as const;
  const parts: [number, Uint8Array][] = [];
  const packer = createPacker(spec);
  const size = packer.finish({ data() {}, meta: (at, bytes) => parts.push([at, bytes.slice()]) });
  const b = new Uint8Array(size);
  for (const [at, bytes] of parts) b.set(bytes, at);
  const disk = await openQcow2(new MemorySource(b, "petabyte"), refuse);
  let runs = 0;
  await mapAll(disk, (r, i) => {
    runs++;
    t.is(r.length[i], guestSize);
  });
  t.is(runs, 1);
});
