/** Settings of a raw deflate stream; the names are zlib's. */
export interface DeflateOptions {
  /** 0 to 9. */
  readonly level: number;
  /** Log2 of the window, 9 to 15. */
  readonly windowBits: number;
  /** 1 to 9. */
  readonly memLevel: number;
}

/**
 * The decompressors and compressors that image formats call. Each answers synchronously where its host can;
 * callers do `const b = r instanceof Promise ? await r : r`. Nothing is loaded before the first call.
 */
export interface Codecs {
  /**
   * Inflates a raw deflate stream until `size` bytes are out. What follows in `input` (or in the stream) is
   * ignored. Throws FormatError where the stream is damaged or ends before.
   */
  inflateRaw(input: Uint8Array, size: number): Uint8Array | Promise<Uint8Array>;
  /** Compresses `input` as one raw deflate stream. */
  deflateRaw(input: Uint8Array, options: DeflateOptions): Uint8Array | Promise<Uint8Array>;
  /**
   * Decompresses Zstandard frames from the start of `input` until exactly `size` bytes are out; what follows
   * is ignored. Throws FormatError where a frame is damaged, ends before, or holds more.
   */
  zstd(input: Uint8Array, size: number): Uint8Array | Promise<Uint8Array>;
}

/** What an error says of a compressed stream: structure names shared by all codecs. */
export const DEFLATE_STREAM = "deflate stream";
export const ZSTD_FRAME = "zstd frame";
