import test, { type ExecutionContext } from "ava";
import { putU32le } from "../../../src/bytes/endian.ts";
import { DATA, HOLE } from "../../../src/bytes/runs.ts";
import { refuseGate } from "../../../src/engine/open.ts";
import { AbortError, ImprintError } from "../../../src/errors.ts";
import { readSuperblock } from "../../../src/fs/ext/superblock.ts";
import { setBits } from "../../../src/image/e2image/bits.ts";
import { e2imageFormat } from "../../../src/image/e2image/format.ts";
import { encodeHeader, parseHeader, probeHeader } from "../../../src/image/e2image/header.ts";
import { readE2image } from "../../../src/image/e2image/image.ts";
import { installE2image } from "../../../src/image/e2image/install.ts";
import {
  BLOCK_BITMAP,
  INODE_BITMAP,
  type PieceKind,
  Pieces,
  STORED,
} from "../../../src/image/e2image/pieces.ts";
import { openE2image } from "../../../src/image/e2image/reader.ts";
import { comparingTarget } from "../../../src/image/e2image/verify.ts";
import { writeE2image } from "../../../src/image/e2image/writer.ts";
import { MemorySource, MemoryTarget } from "../../../src/io/memory.ts";
import type { Source } from "../../../src/io/source.ts";
import { Random } from "../../support/random.ts";
import { BLOCK, TinyVolume } from "../fs/tiny-volume.ts";

const ORIGIN = {
  hostname: "a-host",
  deviceName: "/dev/some/device",
  fsDevice: 0x801,
  imageDevice: 2,
  imageInode: 0xffffffff,
  time: 1_700_000_000,
};

/** A source whose every answer is a promise, as a Blob's are on a page's main thread. */
function slow(source: Source): Source {
  return {
    size: source.size,
    label: source.label,
    read: async (into, at) => source.read(into, at),
    map: async (from, to) => source.map(from, to),
    close() {},
  };
}

function volume(): TinyVolume {
  const v = new TinyVolume();
  new Random(3).fill(v.bytes.subarray(3 * BLOCK, 13 * BLOCK));
  v.bytes.fill(0xff, 3 * BLOCK + 128, 4 * BLOCK).fill(0xff, 4 * BLOCK + 8, 5 * BLOCK);
  // The volume ends within its only group.
  v.bytes[3 * BLOCK + 127] |= 0x80;
  return v;
}

async function imageOf(v: TinyVolume, wrap: (s: Source) => Source = (s) => s): Promise<Uint8Array> {
  const target = new MemoryTarget();
  const source = wrap(v.source());
  const sb = await readSuperblock(source);
  target.commit(await writeE2image(source, sb, target, { origin: ORIGIN }));
  return target.bytes;
}

/** Index of the first byte that differs, or -1. */
function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) return Math.min(a.length, b.length);
  return a.findIndex((byte, i) => byte !== b[i]);
}

test("bits of a byte range are set and no others", (t) => {
  for (let from = 0; from < 40; from++)
    for (let to = from; to <= 40; to++) {
      const b = new Uint8Array(5);
      setBits(b, from, to);
      for (let i = 0; i < 40; i++) t.is((b[i >>> 3] >>> (i & 7)) & 1, i >= from && i < to ? 1 : 0);
    }
});

test("pieces in order, where the one that was pushed last wins", (t) => {
  const random = new Random(11);
  for (let round = 0; round < 300; round++) {
    const pieces = new Pieces();
    const limit = 40 + random.below(60);
    const byte: (string | null)[] = new Array(limit).fill(null);
    const count = random.below(14);
    for (let i = 0; i < count; i++) {
      const start = random.below(100);
      const end = start + random.below(30);
      const origin = 1000 * i;
      const kind = [STORED, BLOCK_BITMAP, INODE_BITMAP][random.below(3)] as PieceKind;
      pieces.push(start, end, origin, kind);
      for (let b = start; b < Math.min(end, limit); b++) byte[b] = `${kind}:${origin + b - start}`;
    }
    const resolved = pieces.resolved(limit);
    const found: (string | null)[] = new Array(limit).fill(null);
    let last = 0;
    for (let i = 0; i < resolved.count; i++) {
      t.true(resolved.starts[i] >= last && resolved.ends[i] > resolved.starts[i]);
      last = resolved.ends[i];
      for (let b = resolved.starts[i]; b < last; b++)
        found[b] = `${resolved.kinds[i]}:${resolved.origins[i] + b - resolved.starts[i]}`;
    }
    t.deepEqual(found, byte);
    for (let at = 0; at < limit; at++) {
      const i = resolved.find(at);
      t.true(i === resolved.count || resolved.ends[i] > at);
      t.true(i === 0 || resolved.ends[i - 1] <= at);
    }
  }
});

test("a header comes back as it was put", (t) => {
  const header = {
    ...ORIGIN,
    uuid: new Uint8Array(16).map((_, i) => i + 1),
    blockSize: 4096,
    sections: { superblock: 4096, inodeTables: 12288, blockBitmap: 0xfffff000, inodeBitmap: 0xffffe000 },
  };
  const b = encodeHeader(header);
  t.is(b.length, 4096);
  t.true(probeHeader(b));
  t.false(probeHeader(b.subarray(0, 331)));
  t.deepEqual(parseHeader(b), header);
  const long = { ...header, hostname: "h".repeat(100), deviceName: "d".repeat(100) };
  const read = parseHeader(encodeHeader(long));
  t.is(read.hostname, "h".repeat(64));
  t.is(read.deviceName, "d".repeat(63));
  t.deepEqual({ ...read, hostname: ORIGIN.hostname, deviceName: ORIGIN.deviceName }, header);
});

test("written, read and installed, from answers at once and from promises", async (t) => {
  const v = volume();
  const image = await imageOf(v);
  t.is(firstDifference(await imageOf(v, slow), image), -1);
  for (const wrap of [(s: Source) => s, slow]) {
    const opened = await openE2image(wrap(new MemorySource(image)));
    t.is(opened.size, v.bytes.length);
    const bytes = new Uint8Array(opened.size);
    t.is(await opened.read(bytes, 0), bytes.length);
    const want = new Uint8Array(bytes.length);
    want.set(v.bytes.subarray(1024, 13 * BLOCK), 1024);
    t.is(firstDifference(bytes, want), -1);
    const random = new Random(5);
    for (let i = 0; i < 200; i++) {
      const at = random.below(20 * BLOCK);
      const part = new Uint8Array(random.below(5000));
      t.is(await opened.read(part, at), part.length);
      t.is(firstDifference(part, want.slice(at, at + part.length)), -1);
    }
    t.is(await opened.read(new Uint8Array(10), opened.size - 4), 4);
    t.is(await opened.read(new Uint8Array(10), opened.size), 0);
    const runs = await opened.map(0, opened.size);
    t.is(runs.end, opened.size);
    t.is(runs.state[0], HOLE);
    t.is(runs.length[0], 1024);
    for (let i = 0; i < runs.count; i++)
      if (runs.state[i] !== DATA)
        t.true(want.subarray(runs.at[i], runs.at[i] + runs.length[i]).every((b) => b === 0));

    const target = new MemoryTarget();
    target.write(new Uint8Array(v.bytes.length).fill(0x33), 0);
    await installE2image(await readE2image(wrap(new MemorySource(image))), target, {
      size: target.bytes.length,
      time: 99,
    });
    const installed = target.bytes;
    t.is(installed[1024 + 48], 99);
    installed.set(v.bytes.subarray(1024 + 48, 1024 + 52), 1024 + 48);
    t.is(firstDifference(installed.subarray(1024, 13 * BLOCK), v.bytes.subarray(1024, 13 * BLOCK)), -1);
    t.true(installed.subarray(0, 1024).every((b) => b === 0x33));
    t.true(installed.subarray(13 * BLOCK).every((b) => b === 0x33));
  }
});

test("the second run of the writer finds what the first did not write", async (t) => {
  const v = volume();
  const source = v.source();
  const sb = await readSuperblock(source);
  const target = new MemoryTarget();
  const size = await writeE2image(source, sb, target, { origin: ORIGIN });
  t.is(await writeE2image(source, sb, comparingTarget(target), { origin: ORIGIN }), size);
  target.commit(size);
  for (const at of [0, 130, 1030, 2050, 4000, size - 10]) {
    const held = target.bytes[at];
    target.bytes[at] ^= 4;
    const error = await t.throwsAsync<ImprintError>(
      async () => writeE2image(source, sb, comparingTarget(target), { origin: ORIGIN }),
      { instanceOf: ImprintError },
    );
    t.is(error?.code, "EVERIFY");
    target.bytes[at] = held;
  }
});

test("a job that is called off stops", async (t) => {
  const v = volume();
  const source = v.source();
  const sb = await readSuperblock(source);
  const signal = AbortSignal.abort();
  const late: Source = { ...slow(source), read: (into, at) => waited(() => source.read(into, at)) };
  await t.throwsAsync(writeE2image(late, sb, new MemoryTarget(), { origin: ORIGIN, signal }), {
    instanceOf: AbortError,
  });
  const file = new MemorySource(await imageOf(v));
  const image = await readE2image({ ...slow(file), read: (into, at) => waited(() => file.read(into, at)) });
  const target = new MemoryTarget();
  target.write(new Uint8Array(v.bytes.length), 0);
  const options = { size: target.bytes.length, time: 1, signal };
  await t.throwsAsync(installE2image(image, target, options), { instanceOf: AbortError });
  t.true(target.bytes.every((b) => b === 0));
});

/** An answer after long enough for the job to look up. */
function waited<T>(answer: () => T): Promise<T> {
  return new Promise((done) => setTimeout(() => done(answer()), 50));
}

/** Everything one can do with an image ends, well or with an error of ours. */
async function survives(t: ExecutionContext, what: string, bytes: Uint8Array): Promise<boolean> {
  const file = new MemorySource(bytes);
  try {
    const opened = await e2imageFormat.open(file, refuseGate);
    opened.info();
    const all = new Uint8Array(Math.min(opened.size, 1 << 20));
    await opened.read(all, 0);
    for (let at = 0; at < opened.size; ) {
      const runs = await opened.map(at, opened.size);
      t.true(runs.end > at, what);
      at = runs.end;
    }
    const target = new MemoryTarget("memory", 4 << 20);
    if (opened.size <= 4 << 20) {
      target.commit(opened.size);
      const place = new MemoryTarget("memory", 4 << 20);
      place.write(new Uint8Array(opened.size), 0);
      await installE2image(await readE2image(file), place, { size: opened.size, time: 5 });
    }
    return true;
  } catch (error) {
    t.true(error instanceof ImprintError, `${what}: ${error instanceof Error ? error.stack : error}`);
    return false;
  }
}

test("hostile images end in a result or an error of ours", async (t) => {
  const good = await imageOf(volume());
  t.true(await survives(t, "the image as it is", good));
  for (const field of [0, 204, 284, 288, 292, 296])
    for (const value of [
      0, 1, 512, 1024, 2048, 3072, 4096, 65536, 0x7fffffff, 0x80000000, 0xfffffc00, 0xffffffff,
    ]) {
      const bytes = good.slice();
      putU32le(bytes, field, value);
      const same = good.every((b, i) => b === bytes[i]);
      t.is(await survives(t, `header field ${field} = ${value}`, bytes), same);
    }
  for (let length = 0; length < good.length; length += 97)
    t.false(await survives(t, `${length} bytes`, good.slice(0, length)));
  const random = new Random(21);
  for (let i = 0; i < 1500; i++) {
    const bytes = good.slice();
    for (let k = 0; k <= random.below(4); k++) {
      const at = [0, 1024, 2048][random.below(3)] + random.below(400);
      bytes[at] = random.below(3) === 0 ? [0, 1, 0x7f, 0x80, 0xff][random.below(5)] : random.below(256);
    }
    await survives(t, `try ${i}`, bytes);
  }
});
