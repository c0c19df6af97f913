import test from "ava";
import { BlobTarget } from "../../../src/io/web/blob-target.ts";

const MiB = 1024 * 1024;

async function bytesOf(target: BlobTarget): Promise<Uint8Array> {
  return new Uint8Array(await target.blob().arrayBuffer());
}

test("writes in any order, over each other and over pieces already handed on, end up where they belong", async (t) => {
  const target = new BlobTarget("out");
  const size = 80 * MiB + 4321;
  const model = new Uint8Array(size);
  let x = 12345;
  const next = (below: number) => {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    return x % below;
  };
  for (let i = 0; i < 400; i++) {
    const length = 1 + next(i % 10 === 0 ? 3 * MiB : 70_000);
    const at = next(size - length);
    const bytes = new Uint8Array(length).fill(1 + next(255));
    model.set(bytes, at);
    await target.write(bytes, at);
  }
  const back = new Uint8Array(2 * MiB);
  t.is(await target.read(back, 5 * MiB + 17), back.length);
  t.deepEqual(Buffer.compare(back, model.subarray(5 * MiB + 17, 7 * MiB + 17)), 0);
  target.commit(size);
  t.is(Buffer.compare(await bytesOf(target), model), 0);
});

test("what was never written is zeros, to the byte of the size", async (t) => {
  const target = new BlobTarget("out");
  await target.write(new Uint8Array([1, 2, 3]), 3 * MiB - 1);
  target.commit(5 * MiB + 7);
  const bytes = await bytesOf(target);
  t.is(bytes.length, 5 * MiB + 7);
  t.deepEqual([...bytes.subarray(3 * MiB - 2, 3 * MiB + 3)], [0, 1, 2, 3, 0]);
  t.is(
    bytes.reduce((n, b) => n + (b === 0 ? 0 : 1), 0),
    3,
  );
});

test("a commit may cut what was written", async (t) => {
  const target = new BlobTarget("out");
  await target.write(new Uint8Array(100).fill(9), 0);
  target.commit(40);
  t.deepEqual(await bytesOf(target), new Uint8Array(40).fill(9));
});

test("an output beyond the limit is refused, an aborted one gone", (t) => {
  const target = new BlobTarget("out");
  t.throws(() => target.write(new Uint8Array(2), target.capacity - 1), { code: "EFBIG" });
  target.abort();
  t.throws(() => target.blob(), { code: "EBADF" });
});
