import type { CompressedSink } from "../../../src/engine/requests/copy-compressed.ts";
import type { RequestSink } from "../../../src/engine/requests/sink.ts";
import { AbortError } from "../../../src/errors.ts";

/** Milliseconds between two looks at a signal while a limited copy waits. */
const LOOK_EVERY = 100;

/** Seconds' worth of bytes that may be under way without a wait. */
const SLACK = 0.1;

/**
 * A sink that takes no more than `rate` bytes a second, as convert's -r: bytes run off at that rate, and a
 * request waits, whatever its size, until no more than a tenth of a second's are left; so the first one goes at
 * once, and nothing waits for the last. `cluster`: bytes that a compressed stream stands for. Throws AbortError
 * from a wait when `signal` fires.
 */
export function limitedSink(
  sink: RequestSink | CompressedSink,
  rate: number,
  cluster: number,
  signal: AbortSignal | undefined,
): RequestSink | CompressedSink {
  let level = 0;
  let since = performance.now();
  const drain = (): number => {
    const now = performance.now();
    level = Math.max(0, level - ((now - since) / 1000) * rate);
    since = now;
    return (level / rate - SLACK) * 1000;
  };
  const turn = async (bytes: number): Promise<void> => {
    for (let left = drain(); left > 0; left = drain()) {
      if (signal?.aborted) throw new AbortError();
      await new Promise((done) => setTimeout(done, Math.min(Math.ceil(left), LOOK_EVERY)));
    }
    level += bytes;
  };
  const { zero } = sink;
  const limited: RequestSink = {
    ...sink,
    write: async (bytes, at) => {
      await turn(bytes.length);
      await sink.write(bytes, at);
    },
    zero:
      zero === null
        ? null
        : async (at, length) => {
            await turn(length);
            await zero(at, length);
          },
  };
  if (!("writeCompressed" in sink)) return limited;
  return {
    ...limited,
    writeCompressed: async (stream: Uint8Array, at: number) => {
      await turn(cluster);
      await sink.writeCompressed(stream, at);
    },
  };
}
