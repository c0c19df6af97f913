import { type Codecs, ZSTD_FRAME } from "../src/codec/codecs.ts";
import { portableCodecs } from "../src/codec/portable.ts";
import { FormatError, UnsupportedError } from "../src/errors.ts";

export interface ZstdCall {
  readonly id: number;
  readonly input: Uint8Array;
  readonly size: number;
}

/** `unsupported` tells what the decoder cannot do from what the image has wrong. */
export interface ZstdFailure {
  readonly message: string;
  readonly unsupported: boolean;
}

export type ZstdAnswer =
  | { readonly id: number; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly id: number; readonly error: ZstdFailure };

/** How an error crosses to the engine. */
export function errorOf(e: unknown): ZstdFailure {
  const message = e instanceof Error ? e.message : String(e);
  return { message: message.replace(`${ZSTD_FRAME}: `, ""), unsupported: e instanceof UnsupportedError };
}

interface Waiting {
  resolve(bytes: Uint8Array): void;
  reject(error: Error): void;
}

/** A worker with the decoder, started at the first compressed cluster. */
class ZstdClient {
  private readonly worker = new Worker(new URL("./zstd-worker.ts", import.meta.url), { type: "module" });
  private readonly waiting = new Map<number, Waiting>();
  private next = 1;

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<ZstdAnswer>) => {
      const waiting = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if ("bytes" in data) waiting?.resolve(data.bytes);
      else if (data.error.unsupported) waiting?.reject(new UnsupportedError(data.error.message));
      else waiting?.reject(new FormatError(ZSTD_FRAME, -1, data.error.message));
    };
    this.worker.onerror = (e) => {
      e.preventDefault();
      const error = new UnsupportedError(
        `the zstd decoder could not be started (${e.message || "no reason given"})`,
      );
      for (const waiting of this.waiting.values()) waiting.reject(error);
      this.waiting.clear();
      // Nothing would answer the next call: it starts another.
      this.worker.terminate();
      client = null;
    };
  }

  decompress(input: Uint8Array, size: number): Promise<Uint8Array> {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, input: input.slice(), size } satisfies ZstdCall);
    });
  }
}

let client: ZstdClient | null = null;

/** The portable codecs, with zstd in a worker of its own. */
export const pageCodecs: Codecs = {
  ...portableCodecs,
  zstd(input, size) {
    client ??= new ZstdClient();
    return client.decompress(input, size);
  },
};
