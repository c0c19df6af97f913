import test from "ava";
import { cached } from "../../../src/io/cache.ts";
import { MemorySource } from "../../../src/io/memory.ts";
import type { Source } from "../../../src/io/source.ts";

const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7 + (i >> 8)) & 255);

/** A source that counts its reads; asynchronous ones settle in a later turn. */
function counted(async: boolean, fail: () => boolean = () => false) {
  const inner = new MemorySource(bytes, "slow");
  const reads: [number, number][] = [];
  const source: Source = {
    size: bytes.length,
    label: "slow",
    read(into, at) {
      reads.push([at, into.length]);
      if (fail()) {
        if (!async) throw new Error("broken");
        return Promise.reject(new Error("broken"));
      }
      return async
        ? new Promise((done) => setImmediate(() => done(inner.read(into, at))))
        : inner.read(into, at);
    },
    map: (from, to) => inner.map(from, to),
    close() {},
  };
  return { source, reads };
}

for (const async of [false, true]) {
  const kind = async ? "async" : "sync";

  test(`the cache answers like its source at any offset and length (${kind})`, async (t) => {
    const { source } = counted(async);
    const c = cached(source, { page: 1024, pages: 8 });
    let seed = 12345;
    const random = (n: number) => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % n;
    for (let i = 0; i < 2000; i++) {
      const at = random(bytes.length + 2000);
      const into = new Uint8Array(random(6000));
      const n = await c.read(into, at);
      const want = bytes.subarray(at, at + into.length);
      t.is(n, want.length);
      if (Buffer.compare(into.subarray(0, n), want) !== 0) t.fail(`read ${into.length} at ${at}`);
    }
  });

  test(`small sequential reads become few large ones (${kind})`, async (t) => {
    const { source, reads } = counted(async);
    const c = cached(source, { page: 1024, pages: 32, ahead: 8 });
    const into = new Uint8Array(100);
    for (let at = 0; at < bytes.length; at += 100) await c.read(into, at);
    t.true(reads.length < 20, `${reads.length} reads`);
    t.true(reads.every(([, n]) => n <= 8 * 1024));
  });

  test(`a failed read fails its callers and is tried again (${kind})`, async (t) => {
    let broken = true;
    const { source } = counted(async, () => broken);
    const c = cached(source, { page: 1024, pages: 8 });
    const into = new Uint8Array(10);
    await t.throwsAsync(async () => c.read(into, 5), { message: "broken" });
    broken = false;
    t.is(await c.read(into, 5), 10);
    t.deepEqual(into, bytes.slice(5, 15));
  });
}

test("a page that is there is read synchronously, also over an asynchronous source", async (t) => {
  const { source, reads } = counted(true);
  const c = cached(source, { page: 4096, pages: 4 });
  const into = new Uint8Array(64);
  const first = c.read(into, 0);
  t.true(first instanceof Promise);
  await first;
  t.is(c.read(into, 4000), 64);
  t.is(c.read(into, 4000), 64);
  t.is(reads.length, 1);
});

test("readers that wait for the same page share one read", async (t) => {
  const { source, reads } = counted(true);
  const c = cached(source, { page: 4096, pages: 4 });
  const a = new Uint8Array(10);
  const b = new Uint8Array(10);
  await Promise.all([c.read(a, 0), c.read(b, 100)]);
  t.is(reads.length, 1);
  t.deepEqual(b, bytes.slice(100, 110));
});

test("old pages are dropped and big reads go past the cache", async (t) => {
  const { source, reads } = counted(false);
  const c = cached(source, { page: 1024, pages: 4, ahead: 1 });
  const into = new Uint8Array(10);
  for (const page of [0, 2, 4, 6, 8, 10]) c.read(into, page * 1024);
  t.is(reads.length, 6);
  c.read(into, 10 * 1024);
  t.is(reads.length, 6);
  c.read(into, 0);
  t.is(reads.length, 7);
  const big = new Uint8Array(50_000);
  t.is(c.read(big, 3), 50_000);
  t.deepEqual(reads.at(-1), [3, 50_000]);
  t.deepEqual(big, bytes.slice(3, 50_003));
});
