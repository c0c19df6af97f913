import type * as Zlib from "node:zlib";
import { FormatError } from "../../errors.ts";
import type { Codecs } from "../codecs.ts";
import { DEFLATE_STREAM } from "../codecs.ts";
import { portableCodecs } from "../portable.ts";
import { zstdFrames } from "../zstd-frame.ts";

/** Zstandard is in node:zlib from Node 22.15 on. */
type ZlibModule = typeof Zlib & {
  zstdDecompressSync?: (input: Uint8Array, options: { maxOutputLength: number }) => Uint8Array;
};

let loaded: ZlibModule | null = null;
function zlib(): ZlibModule {
  loaded ??= process.getBuiltinModule("node:zlib") as ZlibModule;
  return loaded;
}

/**
 * Codecs over the host's native zlib (and zstd where it has one); synchronous, except zstd on older hosts.
 */
export const nodeCodecs: Codecs = {
  inflateRaw(input, size) {
    const z = zlib();
    let out: Uint8Array;
    try {
      out = z.inflateRawSync(input, {
        chunkSize: Math.max(size, 64),
        maxOutputLength: size,
        finishFlush: z.constants.Z_SYNC_FLUSH,
      });
    } catch (e) {
      // A stream that goes on after `size` bytes: rare, and only the portable inflate can stop there.
      if ((e as { code?: string }).code === "ERR_BUFFER_TOO_LARGE")
        return portableCodecs.inflateRaw(input, size);
      throw new FormatError(DEFLATE_STREAM, -1, (e as Error).message);
    }
    if (out.length !== size)
      throw new FormatError(DEFLATE_STREAM, -1, `ends after ${out.length} of ${size} bytes`);
    return out;
  },

  deflateRaw: (input, options) => zlib().deflateRawSync(input, options),

  zstd(input, size) {
    const decompress = zlib().zstdDecompressSync;
    if (decompress === undefined) return portableCodecs.zstd(input, size);
    const one = (frame: Uint8Array, most: number): Uint8Array | null => {
      try {
        return decompress(frame, { maxOutputLength: most });
      } catch {
        return null;
      }
    };
    return zstdFrames(input, size, { sized: one, unsized: one });
  },
};
