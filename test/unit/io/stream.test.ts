import test from "ava";
import { MemoryTarget } from "../../../src/io/memory.ts";
import type { SequentialSource } from "../../../src/io/source.ts";
import { type Sink, StreamTarget, spool } from "../../../src/io/stream.ts";

const KIB = 1024;

/** A sink that keeps copies of what it gets; asynchronous ones settle in a later turn. */
function keeping(async: boolean) {
  const pieces: Uint8Array[] = [];
  const ends: string[] = [];
  const turn = () => new Promise<void>((done) => setImmediate(done));
  const sink: Sink = {
    write(bytes) {
      if (async) return turn().then(() => void pieces.push(bytes.slice()));
      pieces.push(bytes.slice());
      return undefined;
    },
    close() {
      ends.push("close");
      return async ? turn() : undefined;
    },
    abort: () => void ends.push("abort"),
  };
  return { sink, pieces, ends, all: () => Buffer.concat(pieces) };
}

const ramp = (n: number, from = 0) => Uint8Array.from({ length: n }, (_, i) => (from + i * 3 + 1) & 255);

for (const async of [false, true]) {
  const kind = async ? "async" : "sync";

  test(`writes of every size arrive in order with zeros between (${kind})`, async (t) => {
    const out = keeping(async);
    const target = new StreamTarget(out.sink, "out");
    const want = Buffer.alloc(4_000_000);
    let at = 0;
    for (const [gap, length] of [
      [0, 10],
      [5, 100],
      [0, 256 * KIB],
      [0, 256 * KIB - 1],
      [3, 1],
      [300 * KIB, 700 * KIB],
      [0, 1],
      [0, 511 * KIB],
      [1, 256 * KIB],
      [600 * KIB, 7],
    ]) {
      at += gap;
      const bytes = ramp(length, at);
      want.set(bytes, at);
      await target.write(bytes, at);
      at += length;
      bytes.fill(0xee);
    }
    t.is(target.written, at);
    await target.zero(at, 400 * KIB);
    await target.commit(want.length);
    t.true(out.all().equals(want));
    t.deepEqual(out.ends, ["close"]);
    t.true(
      out.pieces.slice(0, -1).every((p) => p.length >= 256 * KIB),
      "only the last write is small",
    );
  });

  test(`a batch that is exactly full is not lost before a large write (${kind})`, async (t) => {
    const out = keeping(async);
    const target = new StreamTarget(out.sink, "out");
    const want = Buffer.from(ramp(768 * KIB));
    await target.write(want.subarray(0, 4 * KIB), 0);
    await target.write(want.subarray(4 * KIB, 256 * KIB), 4 * KIB);
    await target.write(want.subarray(256 * KIB), 256 * KIB);
    await target.commit(want.length);
    t.true(out.all().equals(want));
  });

  test(`going back is refused (${kind})`, async (t) => {
    const target = new StreamTarget(keeping(async).sink, "out");
    await target.write(ramp(100), 0);
    t.throws(() => target.write(ramp(1), 99), { code: "ESPIPE", message: /out: cannot go back to byte 99/ });
    t.throws(() => target.zero(50, 100), { code: "ESPIPE" });
    t.throws(() => target.commit(99), { code: "ESPIPE" });
    await target.write(ramp(1), 100);
  });

  test(`abort tells the sink once and nothing after it is written (${kind})`, async (t) => {
    const out = keeping(async);
    const target = new StreamTarget(out.sink, "out");
    await target.write(ramp(100), 0);
    await target.abort();
    await target.abort();
    t.deepEqual(out.ends, ["abort"]);
    t.is(out.pieces.length, 0);
    t.throws(() => target.write(ramp(1), 100), { code: "ECLOSED" });
    t.throws(() => target.commit(100), { code: "ECLOSED" });
  });
}

for (const async of [false, true])
  test(`a sink that makes zeros and pulls files itself gets them in order (${async ? "async" : "sync"})`, async (t) => {
    const out = keeping(async);
    const file = ramp(500 * KIB, 7);
    const asked: string[] = [];
    const sink: Sink = {
      ...out.sink,
      zeros(length) {
        asked.push(`zeros ${length}`);
        return out.sink.write(new Uint8Array(length));
      },
      pull(fd, at, length) {
        asked.push(`pull ${fd} ${at} ${length}`);
        // No more than this at a time.
        const part = file.subarray(at, at + Math.min(length, 200 * KIB));
        const r = out.sink.write(part);
        return r instanceof Promise ? r.then(() => part.length) : part.length;
      },
    };
    const target = new StreamTarget(sink, "out");
    const want = Buffer.alloc(900 * KIB);
    want.set(ramp(10), 0);
    await target.write(ramp(10), 0);
    // A small gap is kept with the bytes around it; a large one goes to the sink, behind what is held.
    t.is(await target.pull!(9, 5, 100 * KIB, 1000), 100 * KIB);
    want.set(file.subarray(5, 5 + 100 * KIB), 1000);
    t.is(await target.pull!(9, 0, 400 * KIB, 300 * KIB), 200 * KIB);
    want.set(file.subarray(0, 200 * KIB), 300 * KIB);
    await target.write(ramp(10, 3), 500 * KIB);
    want.set(ramp(10, 3), 500 * KIB);
    t.throws(() => target.pull!(9, 0, 10, 499 * KIB), { code: "ESPIPE" });
    await target.commit(want.length);
    t.true(out.all().equals(want));
    t.deepEqual(asked, [
      `pull 9 5 ${100 * KIB}`,
      `zeros ${200 * KIB - 1000}`,
      `pull 9 0 ${400 * KIB}`,
      `zeros ${400 * KIB - 10}`,
    ]);
  });

test("a synchronous sink is never waited for", (t) => {
  const target = new StreamTarget(keeping(false).sink, "out");
  t.is(target.write(ramp(300 * KIB), 1000), undefined);
  t.is(target.zero(300 * KIB + 1000, 1e6), undefined);
  t.is(target.commit(2e6), undefined);
});

test("large gaps over an asynchronous sink need no memory of their own", async (t) => {
  let n = 0;
  const target = new StreamTarget(
    {
      write: (b) => {
        n += b.length;
        return Promise.resolve();
      },
      close() {},
      abort() {},
    },
    "out",
  );
  await target.write(ramp(1), 4 * 2 ** 30);
  await target.commit(4 * 2 ** 30 + 1);
  t.is(n, 4 * 2 ** 30 + 1);
});

test("a sink's error reaches the writer", async (t) => {
  const fails = (error: Error): Sink => ({ write: () => Promise.reject(error), close() {}, abort() {} });
  const target = new StreamTarget(fails(new Error("full")), "out");
  await t.throwsAsync(async () => target.write(ramp(600 * KIB), 0), { message: "full" });
  const later = new StreamTarget(fails(new Error("full")), "out");
  await later.write(ramp(10), 0);
  await t.throwsAsync(async () => later.commit(10), { message: "full" });
});

/** Bytes in pieces of the given size. */
function pieces(bytes: Uint8Array, size: number, async: boolean): SequentialSource {
  let at = 0;
  return {
    label: "in",
    next(into) {
      const n = Math.min(into.length, size, bytes.length - at);
      into.set(bytes.subarray(at, at + n));
      at += n;
      return async ? Promise.resolve(n) : n;
    },
    close() {},
  };
}

for (const size of [1000, 65536, 1e9])
  test(`spooling keeps every byte, pieces of ${size}`, async (t) => {
    const bytes = new Uint8Array(2_000_123);
    for (const at of [0, 4095, 600_000, 1_048_576, 1_999_999]) bytes.set(ramp(100, at), at);
    const target = new MemoryTarget();
    const seen: number[] = [];
    const n = await spool(pieces(bytes, size, size === 65536), target, { onProgress: (b) => seen.push(b) });
    t.is(n, bytes.length);
    target.commit(n);
    t.true(Buffer.from(target.bytes).equals(bytes));
    t.is(seen.at(-1), n);
  });

test("spooling over old bytes zeroes what is zero", async (t) => {
  const bytes = new Uint8Array(100_000);
  bytes[50_000] = 1;
  const target = new MemoryTarget();
  target.write(new Uint8Array(100_000).fill(0xff), 0);
  const reused = {
    label: "old",
    seekable: true,
    fresh: false,
    capacity: target.capacity,
    write: (b: Uint8Array, at: number) => target.write(b, at),
    zero: (at: number, length: number) => target.zero(at, length),
    commit: (size: number) => target.commit(size),
    abort() {},
  };
  t.is(await spool(pieces(bytes, 7777, false), reused), 100_000);
  t.true(Buffer.from(target.bytes).equals(bytes));
});

test("spooling nothing gives nothing, and a check stops it", async (t) => {
  t.is(await spool(pieces(new Uint8Array(0), 10, false), new MemoryTarget()), 0);
  await t.throwsAsync(
    spool(pieces(new Uint8Array(10), 10, false), new MemoryTarget(), {
      check: () => {
        throw new Error("stop");
      },
    }),
    { message: "stop" },
  );
});
