import * as fs from "node:fs";
import { join } from "node:path";
import test from "ava";
import { BlockSet } from "../../../src/bytes/block-set.ts";
import { DATA, HOLE, MapRuns } from "../../../src/bytes/runs.ts";
import { capture } from "../../../src/engine/capture.ts";
import { convert } from "../../../src/engine/convert.ts";
import { openImage, refuseGate } from "../../../src/engine/open.ts";
import { SelectedSource } from "../../../src/engine/selected-source.ts";
import { TolerantSource } from "../../../src/engine/tolerant-source.ts";
import { sourceOfTarget, verifyOutput } from "../../../src/engine/verify.ts";
import { writeImage } from "../../../src/engine/write.ts";
import { IoError } from "../../../src/errors.ts";
import { MemorySource, MemoryTarget } from "../../../src/io/memory.ts";
import { openFileSource } from "../../../src/io/node/file-source.ts";
import { createFileTarget } from "../../../src/io/node/file-target.ts";
import { openInPlaceTarget } from "../../../src/io/node/in-place-target.ts";
import { slice } from "../../../src/io/slice.ts";
import type { Source } from "../../../src/io/source.ts";
import { StreamTarget } from "../../../src/io/stream.ts";
import { nodeBulk } from "../../../src/node/bulk.ts";
import { SharedTurns } from "../../../src/node/threads.ts";
import { scratch } from "../../support/host.ts";

const MIB = 1 << 20;
const raw = (guestSize: number, clusterSize = 4096) =>
  ({ kind: "raw", clusterSize, guestSize, offset: 0 }) as const;

/** A stream that takes everything at once and keeps nothing. */
function drain() {
  let aborted = false;
  const sink = { write() {}, close() {}, abort: () => void (aborted = true) };
  return { target: new StreamTarget(sink, "stream"), aborted: () => aborted };
}

/** All hole but for its last byte. */
function hollow(size: number): Source {
  return {
    size,
    label: "hollow",
    read(into, at) {
      const n = Math.min(into.length, size - at);
      into.fill(0, 0, n);
      if (at + n === size) into[n - 1] = 1;
      return n;
    },
    map(from, to) {
      const runs = new MapRuns(from);
      runs.push(Math.min(to, size - 1) - from, HOLE);
      runs.push(to - runs.end, DATA);
      return runs;
    },
    close() {},
  };
}

for (const format of ["raw", "qcow2"] as const)
  test(`a stream can be stopped, however much one call would write: ${format}`, async (t) => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 100);
    const { target, aborted } = drain();
    const all = Buffer.alloc(MIB, 1);
    const endless: Source = {
      ...hollow(2 ** 43),
      read(into) {
        into.set(all.subarray(0, into.length));
        return into.length;
      },
      map(from, to) {
        const runs = new MapRuns(from);
        runs.push(to - from, DATA);
        return runs;
      },
    };
    const source = format === "raw" ? hollow(Number.MAX_SAFE_INTEGER - 4095) : endless;
    await t.throwsAsync(convert(source, target, { format, signal: abort.signal }), { code: "EABORT" });
    t.true(aborted());
  });

test("clearing what a target held can be stopped", async (t) => {
  const abort = new AbortController();
  let zeroed = 0;
  const target = {
    label: "disk",
    seekable: true,
    fresh: false,
    capacity: Number.POSITIVE_INFINITY,
    write() {},
    zero(_at: number, length: number) {
      zeroed += length;
      const until = performance.now() + 5;
      while (performance.now() < until);
    },
    commit: () => t.fail("committed"),
    abort() {},
  };
  setTimeout(() => abort.abort(), 50);
  const size = 2 ** 50;
  await t.throwsAsync(writeImage(hollow(size), target, { layout: raw(size), signal: abort.signal }), {
    code: "EABORT",
  });
  t.true(zeroed > 0 && zeroed < size);
});

test("a job that is stopped when it has committed has committed", async (t) => {
  const abort = new AbortController();
  const target = new MemoryTarget();
  const commit = target.commit.bind(target);
  target.commit = (size: number) => {
    commit(size);
    abort.abort();
  };
  const r = await convert(new MemorySource(new Uint8Array(10).fill(7)), target, {
    format: "raw",
    signal: abort.signal,
  });
  t.is(r.outputSize, 10);
});

test("a job that fails before its first byte leaves nothing", async (t) => {
  const dir = scratch(t, "write");
  const file = () => createFileTarget(join(dir, "out"));
  const source = new MemorySource(new Uint8Array(MIB).fill(1));
  await t.throwsAsync(convert(source, file(), { format: "qcow2", qcow2: { clusterSize: 1000 } }), {
    code: "EOPTION",
  });
  const opened = await openImage(source, { gate: refuseGate });
  await t.throwsAsync(capture(opened, file(), { format: "raw", scope: "used" }), { code: "EUNSUPPORTED" });
  t.deepEqual(fs.readdirSync(dir), []);
});

test("empty sources and sizes that are no multiple of anything, verified", async (t) => {
  for (const size of [0, 1, 511, 513, 4095, 4097, 65537, 3 * MIB + 1]) {
    const bytes = new Uint8Array(size).map((_, i) => 1 + (i % 255));
    for (const format of ["raw", "qcow2"] as const) {
      const target = new MemoryTarget();
      const r = await convert(new MemorySource(bytes), target, { format, verify: true });
      t.true(r.verified);
      if (format === "raw") t.deepEqual(target.bytes.slice(), bytes);
    }
  }
});

test("verification finds an output that is too small, also where what is missing is zeros", async (t) => {
  const source = new MemorySource(new Uint8Array(8192));
  const target = new MemoryTarget();
  const options = { onProgress() {}, storedOnly: false };
  await t.throwsAsync(verifyOutput(source, sourceOfTarget(target, 4096), raw(8192), options), {
    code: "EVERIFY",
  });
  await t.notThrowsAsync(verifyOutput(source, sourceOfTarget(target, 8192), raw(8192), options));
});

test("verification of a target that keeps what was not selected", async (t) => {
  const path = join(scratch(t, "write"), "disk");
  fs.writeFileSync(path, Buffer.alloc(65536, 0xee));
  const blocks = new BlockSet(16);
  blocks.add(2, 4);
  const source = new SelectedSource(new MemorySource(new Uint8Array(65536).fill(3)), blocks, 4096, 65536);
  const r = await writeImage(source, openInPlaceTarget(path), {
    layout: raw(65536),
    keepRest: true,
    keepZero: true,
    verify: true,
  });
  t.true(r.verified);
  const got = fs.readFileSync(path);
  t.true(got.subarray(8192, 16384).every((b) => b === 3));
  t.true(got.subarray(16384).every((b) => b === 0xee));
});

test("blocks past the end of a partition are not taken from what lies behind it", async (t) => {
  const dir = scratch(t, "write");
  fs.writeFileSync(join(dir, "disk"), Buffer.alloc(MIB, 0x55));
  const disk = openFileSource(join(dir, "disk"));
  const partition = slice(disk, 65536, 32768);
  const blocks = new BlockSet(16);
  blocks.add(0, 12);
  const source = new SelectedSource(partition, blocks, 4096, 65536);
  const bulk = nodeBulk();
  await t.throwsAsync(writeImage(source, createFileTarget(join(dir, "out")), { layout: raw(65536), bulk }), {
    instanceOf: IoError,
    code: "ESHORT",
  });
  await bulk.close();
  disk.close();
  t.deepEqual(fs.readdirSync(dir), ["disk"]);
});

test("threads: a source that ends early ends the job on both, and the copier can be used again", async (t) => {
  const dir = scratch(t, "write");
  const path = join(dir, "disk");
  fs.writeFileSync(path, "");
  fs.truncateSync(path, 300 * MIB);
  const bulk = nodeBulk();
  const layout = {
    ...raw(400 * MIB),
    kind: "qemu",
    version: 3,
    refcountOrder: 4,
    clusterSize: 65536,
    backingFile: null,
    backingFormat: null,
  } as const;
  for (const size of [400, 299, 400]) {
    const file = openFileSource(path);
    const host = file.plain.file;
    const source: Source = {
      size: size * MIB,
      label: file.label,
      read: (into, at) => file.read(into, at),
      map(from, to) {
        const runs = new MapRuns(from);
        runs.push(to - from, DATA, 0, from, host);
        return runs;
      },
      close() {},
    };
    const job = writeImage(source, createFileTarget(join(dir, "out")), {
      layout: { ...layout, guestSize: size * MIB },
      bulk,
    });
    if (size === 400) await t.throwsAsync(job, { code: "ESHORT" });
    else await t.notThrowsAsync(job);
    file.close();
  }
  await bulk.close();
  t.deepEqual(fs.readdirSync(dir).sort(), ["disk", "out"]);
});

test("threads: the main one hears that another failed while it waits for its turn", async (t) => {
  const turns = new SharedTurns(true);
  turns.restart();
  t.is(turns.await(0), undefined);
  setTimeout(() => turns.done(1), 60);
  await turns.await(2);
  setTimeout(() => turns.fail(), 60);
  await t.throwsAsync(async () => turns.await(5), { code: "EABORT" });
  t.throws(() => turns.await(5), { code: "EABORT" });
});

test("a block that cannot be read is told of once, however often it is read", async (t) => {
  const lost: number[] = [];
  const base = new MemorySource(new Uint8Array(10_000).fill(9));
  const source = new TolerantSource(base, 20_000, 4096, (at) => lost.push(at));
  const into = new Uint8Array(20_000);
  for (let i = 0; i < 3; i++) t.is(await source.read(into, 0), 20_000);
  t.true(into.subarray(0, 10_000).every((b) => b === 9));
  t.true(into.subarray(10_000).every((b) => b === 0));
  t.deepEqual(lost, [8192, 12288, 16384]);
});

test("blocks allocated ahead of a copy are not left behind: outputs take the room of what they hold", async (t) => {
  const dir = scratch(t, "write");
  const path = join(dir, "disk");
  const piece = new Uint8Array(MIB);
  for (let i = 0; i < piece.length; i += 64) piece[i] = (i >> 6) & 255 || 1;
  fs.writeFileSync(path, "");
  // 24 MiB of data in runs of 1.5 MiB, each with zeros behind it that are stored too.
  for (let i = 0; i < 16; i++) {
    const fd = fs.openSync(path, "r+");
    fs.writeSync(fd, piece, 0, MIB, i * 3 * MIB);
    fs.writeSync(fd, piece, 0, MIB / 2, i * 3 * MIB + MIB);
    fs.writeSync(fd, new Uint8Array(1.5 * MIB), 0, 1.5 * MIB, i * 3 * MIB + 1.5 * MIB);
    fs.closeSync(fd);
  }
  const source = openFileSource(path);
  const bulk = nodeBulk();
  const qemu = {
    kind: "qemu",
    version: 3,
    refcountOrder: 4,
    clusterSize: 65536,
    guestSize: source.size,
    backingFile: null,
    backingFormat: null,
  } as const;
  for (const layout of [raw(source.size), qemu]) {
    const out = join(dir, layout.kind);
    await writeImage(source, createFileTarget(out), { layout, bulk });
    const st = fs.statSync(out);
    t.true(st.blocks * 512 >= 24 * MIB, `${layout.kind}: ${st.blocks} sectors`);
    t.true(st.blocks * 512 <= 24.6 * MIB, `${layout.kind}: ${st.blocks} sectors`);
  }
  t.deepEqual(fs.readFileSync(join(dir, "raw")).compare(fs.readFileSync(path)), 0);
  await bulk.close();
  source.close();
});
