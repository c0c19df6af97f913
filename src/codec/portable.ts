import { FormatError } from "../errors.ts";
import type { Codecs, DeflateOptions } from "./codecs.ts";
import { DEFLATE_STREAM, ZSTD_FRAME } from "./codecs.ts";
import { zstdFrames } from "./zstd-frame.ts";

type Pako = typeof import("pako");

interface ZstdSimple {
  compress(bytes: Uint8Array, level: number): Uint8Array | null | undefined;
  decompress(bytes: Uint8Array): Uint8Array | null | undefined;
}
interface ZstdStreaming {
  decompress(bytes: Uint8Array, sizeHint: number): Uint8Array | null | undefined;
}
interface ZstdBinding {
  Simple: new () => ZstdSimple;
  Streaming: new () => ZstdStreaming;
}
interface ZstdModule {
  ZstdCodec: { run(ready: (binding: ZstdBinding) => void): void };
}
interface Zstd {
  readonly simple: ZstdSimple;
  readonly streaming: ZstdStreaming;
}

let pako: Pako | null = null;
let pakoLoading: Promise<Pako> | null = null;
let zstd: Zstd | null = null;
let zstdLoading: Promise<Zstd> | null = null;

function loadPako(): Promise<Pako> {
  pakoLoading ??= import("pako").then((m) => (pako = m));
  return pakoLoading;
}

function loadZstd(): Promise<Zstd> {
  zstdLoading ??= (async () => {
    // @ts-expect-error the package has no types
    const m = (await import("zstd-codec")) as ZstdModule & { default?: ZstdModule };
    const { ZstdCodec } = m.default ?? m;
    return new Promise<Zstd>((done) => {
      ZstdCodec.run((binding) => {
        zstd = { simple: new binding.Simple(), streaming: new binding.Streaming() };
        done(zstd);
      });
    });
  })();
  return zstdLoading;
}

function inflateWith(p: Pako, input: Uint8Array, size: number): Uint8Array {
  const inflate = new p.Inflate({ raw: true, windowBits: 15, chunkSize: Math.max(size, 64) });
  let out: Uint8Array | null = null;
  const enough = {};
  // The first chunk comes when `size` bytes are out or the stream ends: more than that is never produced.
  inflate.onData = (chunk: Uint8Array) => {
    out = chunk;
    throw enough;
  };
  try {
    inflate.push(input, p.Z_SYNC_FLUSH);
  } catch (e) {
    if (e !== enough) throw e;
  }
  const got = out as Uint8Array | null;
  if (got !== null && got.length >= size) return got.subarray(0, size);
  if (inflate.err !== 0) throw new FormatError(DEFLATE_STREAM, -1, inflate.msg || `damaged (${inflate.err})`);
  throw new FormatError(DEFLATE_STREAM, -1, `ends after ${got === null ? 0 : got.length} of ${size} bytes`);
}

function zstdWith(codec: Zstd, input: Uint8Array, size: number): Uint8Array {
  /** The codec throws strings when its fixed heap is used up. */
  const guarded = (call: () => Uint8Array | null | undefined): Uint8Array | null => {
    try {
      return call() ?? null;
    } catch (e) {
      throw new FormatError(ZSTD_FRAME, -1, e instanceof Error ? e.message : String(e));
    }
  };
  return zstdFrames(input, size, {
    sized: (frame) => guarded(() => codec.simple.decompress(frame)),
    unsized: (frame, most) => guarded(() => codec.streaming.decompress(frame, most)),
  });
}

function deflateWith(p: Pako, input: Uint8Array, options: DeflateOptions): Uint8Array {
  // The hash of zlib before 1.2.14: the bytes that qemu-img and btrfs-image write.
  return p.deflateRaw(input, { ...options, legacyHash: true } as Parameters<Pako["deflateRaw"]>[1]);
}

/** Codecs in JavaScript and WebAssembly alone: pako and zstd-codec, each loaded at its first use. */
export const portableCodecs: Codecs = {
  inflateRaw: (input, size) =>
    pako === null ? loadPako().then((p) => inflateWith(p, input, size)) : inflateWith(pako, input, size),
  deflateRaw: (input, options) =>
    pako === null
      ? loadPako().then((p) => deflateWith(p, input, options))
      : deflateWith(pako, input, options),
  zstd: (input, size) =>
    zstd === null ? loadZstd().then((z) => zstdWith(z, input, size)) : zstdWith(zstd, input, size),
};

/**
 * Compresses `input` as one Zstandard frame that states its size. Throws FormatError where the codec's fixed
 * memory does not do for it.
 */
export async function zstdCompressor(level: number): Promise<(input: Uint8Array) => Uint8Array> {
  const codec = zstd ?? (await loadZstd());
  return (input) => {
    let out: Uint8Array | null | undefined;
    try {
      out = codec.simple.compress(input, level);
    } catch (e) {
      throw new FormatError(ZSTD_FRAME, -1, e instanceof Error ? e.message : String(e));
    }
    if (out == null) throw new FormatError(ZSTD_FRAME, -1, `${input.length} bytes could not be compressed`);
    return out;
  };
}

/** Compresses `input` as one raw deflate stream, byte for byte as zlib before 1.2.14 does. */
export async function identicalDeflater(options: DeflateOptions): Promise<(input: Uint8Array) => Uint8Array> {
  const p = pako ?? (await loadPako());
  return (input) => deflateWith(p, input, options);
}
