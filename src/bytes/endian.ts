/**
 * Little- and big-endian field access on byte arrays. Offsets are bytes into `b`. 64-bit fields come back as
 * JS numbers; a value past 2^53 - 1 yields a number above Number.MAX_SAFE_INTEGER, which callers must refuse
 * (`isSafe`); fields with flag bits in the high word are read as two u32 instead.
 */

export function u16le(b: Uint8Array, o: number): number {
  return b[o] | (b[o + 1] << 8);
}
export function u32le(b: Uint8Array, o: number): number {
  return (b[o] | (b[o + 1] << 8) | (b[o + 2] << 16) | (b[o + 3] << 24)) >>> 0;
}
export function u64le(b: Uint8Array, o: number): number {
  return u32le(b, o + 4) * 0x100000000 + u32le(b, o);
}
/** All 64 bits. */
export function u64leExact(b: Uint8Array, o: number): bigint {
  return (BigInt(u32le(b, o + 4)) << 32n) | BigInt(u32le(b, o));
}
export function u16be(b: Uint8Array, o: number): number {
  return (b[o] << 8) | b[o + 1];
}
export function u32be(b: Uint8Array, o: number): number {
  return ((b[o] << 24) | (b[o + 1] << 16) | (b[o + 2] << 8) | b[o + 3]) >>> 0;
}
export function u64be(b: Uint8Array, o: number): number {
  return u32be(b, o) * 0x100000000 + u32be(b, o + 4);
}
export function putU16le(b: Uint8Array, o: number, v: number): void {
  b[o] = v;
  b[o + 1] = v >>> 8;
}
export function putU32le(b: Uint8Array, o: number, v: number): void {
  b[o] = v;
  b[o + 1] = v >>> 8;
  b[o + 2] = v >>> 16;
  b[o + 3] = v >>> 24;
}
export function putU64le(b: Uint8Array, o: number, v: number): void {
  putU32le(b, o, v % 0x100000000);
  putU32le(b, o + 4, Math.floor(v / 0x100000000));
}
export function putU16be(b: Uint8Array, o: number, v: number): void {
  b[o] = v >>> 8;
  b[o + 1] = v;
}
export function putU32be(b: Uint8Array, o: number, v: number): void {
  b[o] = v >>> 24;
  b[o + 1] = v >>> 16;
  b[o + 2] = v >>> 8;
  b[o + 3] = v;
}
export function putU64be(b: Uint8Array, o: number, v: number): void {
  putU32be(b, o, Math.floor(v / 0x100000000));
  putU32be(b, o + 4, v % 0x100000000);
}
/** True for a byte offset or count that a JS number holds exactly. */
export function isSafe(v: number): boolean {
  return v >= 0 && v <= Number.MAX_SAFE_INTEGER;
}
/** Latin-1 text of a NUL-terminated field of at most `n` bytes. */
export function cString(b: Uint8Array, o: number, n: number): string {
  let s = "";
  for (let i = o; i < Math.min(o + n, b.length) && b[i] !== 0; i++) s += String.fromCharCode(b[i]);
  return s;
}
