import test from "ava";
import { BlobSource } from "../../../src/io/blob.ts";
import { cached } from "../../../src/io/cache.ts";

const bytes = Uint8Array.from({ length: 10_000 }, (_, i) => i & 255);

test("a blob is read in pieces, asynchronously outside a worker", async (t) => {
  const s = new BlobSource(new Blob([bytes]), "disk.img");
  t.is(s.size, 10_000);
  t.is(s.label, "disk.img");
  const into = new Uint8Array(100);
  const r = s.read(into, 9_950);
  t.true(r instanceof Promise);
  t.is(await r, 50);
  t.deepEqual(into.subarray(0, 50), bytes.subarray(9_950));
  t.is(s.read(into, 10_000), 0);
  t.is(s.map(10, 20_000).end, 10_000);
  t.deepEqual(s.plain, { file: { path: "disk.img", fd: -1 }, base: 0 });
});

test("a file's name is its label", (t) => {
  t.is(new BlobSource(new File([bytes], "named.img")).label, "named.img");
  t.is(new BlobSource(new Blob([bytes])).label, "blob");
});

test("a blob under the cache answers like its bytes", async (t) => {
  const s = cached(new BlobSource(new Blob([bytes])), { page: 1024 });
  const into = new Uint8Array(3_000);
  t.is(await s.read(into, 500), 3_000);
  t.deepEqual(into, bytes.slice(500, 3_500));
  t.is(s.read(into.subarray(0, 4), 600), 4);
});

test("a blob that can no longer be read is an I/O error with the offset", async (t) => {
  const blob = new Blob([bytes]);
  const broken = Object.assign(blob, {
    slice: () => ({ arrayBuffer: () => Promise.reject(new DOMException("changed", "NotReadableError")) }),
  }) as unknown as Blob;
  const s = new BlobSource(broken, "gone.img");
  await t.throwsAsync(async () => s.read(new Uint8Array(10), 77), {
    code: "EIO",
    message: /gone\.img: read error at byte 77: changed/,
  });
});

test.serial("in a worker a blob is read synchronously", (t) => {
  const calls: number[] = [];
  class Reader {
    readAsArrayBuffer(blob: Blob): ArrayBuffer {
      calls.push(blob.size);
      return bytes.slice(0, blob.size).buffer;
    }
  }
  const g = globalThis as { FileReaderSync?: unknown };
  g.FileReaderSync = Reader;
  t.teardown(() => delete g.FileReaderSync);
  const into = new Uint8Array(10);
  t.is(new BlobSource(new Blob([bytes])).read(into, 0), 10);
  t.deepEqual(into, bytes.slice(0, 10));
  t.deepEqual(calls, [10]);
});
