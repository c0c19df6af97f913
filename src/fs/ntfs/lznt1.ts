import { u16le } from "../../bytes/endian.ts";

/** Bytes a chunk stands for. */
const CHUNK = 4096;
const COMPRESSED = 0x8000;

/**
 * Unpacks LZNT1, the compression of NTFS files: chunks of 4 KiB, each with a 16-bit header, up to a header of 0 or the
 * end of either side. What a chunk does not fill is zeros. Returns null where the input is corrupt: it leads before a
 * chunk's start or runs past its end. Source: MS-XCA, "LZNT1 Algorithm Details".
 */
export function unpackLznt1(packed: Uint8Array, into: Uint8Array): Uint8Array | null {
  into.fill(0);
  let p = 0;
  for (let base = 0; base < into.length && p + 2 <= packed.length; base += CHUNK) {
    const header = u16le(packed, p);
    if (header === 0) break;
    p += 2;
    const end = p + (header & 0xfff) + 1;
    if (end > packed.length) return null;
    const limit = Math.min(base + CHUNK, into.length);
    if ((header & COMPRESSED) === 0) {
      into.set(packed.subarray(p, Math.min(end, p + limit - base)), base);
    } else if (!unpackChunk(packed, p, end, into, base, limit)) return null;
    p = end;
  }
  return into;
}

function unpackChunk(
  packed: Uint8Array,
  from: number,
  end: number,
  into: Uint8Array,
  base: number,
  limit: number,
): boolean {
  let p = from;
  let out = base;
  while (p < end && out < limit) {
    let flags = packed[p++];
    for (let i = 0; i < 8 && p < end && out < limit; i++, flags >>>= 1) {
      if ((flags & 1) === 0) {
        into[out++] = packed[p++];
        continue;
      }
      if (p + 2 > end || out === base) return false;
      // The further into the chunk, the more of the 16 bits say how far back, and the fewer how long.
      let lengthBits = 12;
      for (let reach = out - base - 1; reach >= 16; reach >>>= 1) lengthBits--;
      const token = u16le(packed, p);
      p += 2;
      const back = (token >>> lengthBits) + 1;
      const stop = Math.min(out + (token & ((1 << lengthBits) - 1)) + 3, limit);
      if (back > out - base) return false;
      for (; out < stop; out++) into[out] = into[out - back];
    }
  }
  return true;
}
