import test from "ava";
import { limitedSink } from "../../cli/native/qemu-img/convert-rate.ts";
import type { CompressedSink } from "../../src/engine/requests/copy-compressed.ts";
import { AbortError } from "../../src/errors.ts";

function recorder(): { sink: CompressedSink; calls: string[] } {
  const calls: string[] = [];
  const sink: CompressedSink = {
    write: (bytes, at) => void calls.push(`write ${at} ${bytes.length}`),
    zero: (at, length) => void calls.push(`zero ${at} ${length}`),
    writeCompressed: (stream, at) => void calls.push(`compressed ${at} ${stream.length}`),
    finish: () => 7,
  };
  return { sink, calls };
}

test("the first request goes at once, whatever its size and the rate", async (t) => {
  const { sink, calls } = recorder();
  const start = performance.now();
  await limitedSink(sink, 3, 0, undefined).write(new Uint8Array(1 << 20), 0);
  t.true(performance.now() - start < 10_000);
  t.deepEqual(calls, ["write 0 1048576"]);
});

test("later ones wait until all but a tenth of a second's bytes ran off, and all kinds count", async (t) => {
  const { sink, calls } = recorder();
  const limited = limitedSink(sink, 10_000, 2000, undefined) as CompressedSink;
  const start = performance.now();
  await limited.write(new Uint8Array(2000), 0);
  await limited.zero!(2000, 2000);
  await limited.writeCompressed(new Uint8Array(10), 4000);
  await limited.write(new Uint8Array(2000), 6000);
  // 6000 bytes came before the last one, and 1000 of them need not have run off: 0.5 s.
  t.true(performance.now() - start >= 495);
  t.deepEqual(calls, ["write 0 2000", "zero 2000 2000", "compressed 4000 10", "write 6000 2000"]);
  t.is(await limited.finish(), 7);
  t.is(limitedSink({ ...sink, zero: null }, 1, 0, undefined).zero, null);
});

test("a wait ends when it is stopped", async (t) => {
  const { sink, calls } = recorder();
  const stop = new AbortController();
  const limited = limitedSink(sink, 3, 0, stop.signal);
  await limited.write(new Uint8Array(1000), 0);
  setTimeout(() => stop.abort(), 50);
  await t.throwsAsync(async () => limited.write(new Uint8Array(1000), 1000), { instanceOf: AbortError });
  t.is(calls.length, 1);
});
