// The zstd decoder, apart from the engine because it is the one module that builds functions from strings: a strict
// policy then needs its exception for this file alone.
import { portableCodecs } from "../src/codec/portable.ts";
import { errorOf, type ZstdAnswer, type ZstdCall } from "./zstd.ts";

const port = self as unknown as {
  postMessage(message: ZstdAnswer, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<ZstdCall>) => void) | null;
};

port.onmessage = async ({ data: { id, input, size } }) => {
  try {
    const bytes = (await portableCodecs.zstd(input, size)).slice();
    port.postMessage({ id, bytes }, [bytes.buffer]);
  } catch (e) {
    port.postMessage({ id, error: errorOf(e) });
  }
};
