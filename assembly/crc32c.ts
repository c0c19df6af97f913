// CRC-32C (Castagnoli), reflected polynomial 0x82F63B78, without inversion at either end.
//
// Short messages go through tables, 16 bytes a step. Long ones are shortened first. The generator has the multiple
//   F(x) = x^209 + x^144 + x^54 + x^39 + x^14 + 1
// (found by a search over sparse polynomials), and so has every F(x^(2^k)). So the remainder stays the same when a
// symbol of u = 1, 2, 4, ... bytes is cleared and xored into the symbols 65, 155, 170, 195 and 209 places further on:
// with whole vectors for symbols that overlap, five loads and xors replace 16 table look-ups. What cannot move on any
// further, the last 209 symbols, is left. First u = 4 (848 bytes are left), then u = 1 (224 bytes are left).
import { CRC32C_SCRATCH, CRC32C_TABLES } from "./arena";

const POLYNOMIAL: u32 = 0x82f63b78;

/** What is left by the fold in 4-byte symbols: 4 * 209, rounded up to vectors. */
const WIDE_REST: usize = 848;
/** What is left by the fold in single bytes: 209, rounded up to vectors. */
const REST: usize = 224;
/** From this length on the fold in bytes is faster than tables alone. */
const FOLD_FROM: usize = 384;
/** From this length on the fold in 4-byte symbols is faster than the one in bytes; a multiple of 16. */
const WIDE_FROM: usize = 2048;

/** The message of the fold in bytes, after REST zeros. */
const NARROW: usize = CRC32C_SCRATCH + REST;
/** The end of what is left after the fold in bytes. */
const LAST: usize = NARROW + WIDE_FROM;
/** History of the fold in 4-byte symbols: WIDE_REST bytes, and CHUNK more before it is moved down. */
const HISTORY: usize = LAST + REST + 16;
const CHUNK: usize = 4096;

let built = false;

function build(): void {
  for (let i: u32 = 0; i < 256; i++) {
    let r = i;
    for (let k = 0; k < 8; k++) r = (r >>> 1) ^ (POLYNOMIAL & (0 - (r & 1)));
    store<u32>(CRC32C_TABLES + ((i as usize) << 2), r);
  }
  for (let p = CRC32C_TABLES; p < CRC32C_TABLES + 15 * 1024; p += 4) {
    const r = load<u32>(p);
    store<u32>(p, (r >>> 8) ^ entry(0, r & 0xff), 1024);
  }
  built = true;
}

/** Table k: the remainder of a byte that k more bytes follow. */
function entry(table: usize, byte: u32): u32 {
  return load<u32>(CRC32C_TABLES + (table << 10) + ((byte as usize) << 2));
}

/** Four bytes that `after` more bytes of this step follow. */
function word(after: usize, v: u32): u32 {
  return (
    entry(after + 3, v & 0xff) ^
    entry(after + 2, (v >>> 8) & 0xff) ^
    entry(after + 1, (v >>> 16) & 0xff) ^
    entry(after, v >>> 24)
  );
}

function byTables(crc: u32, at: usize, length: usize): u32 {
  const end = at + length;
  for (; at + 16 <= end; at += 16) {
    crc =
      word(12, load<u32>(at) ^ crc) ^
      word(8, load<u32>(at, 4)) ^
      word(4, load<u32>(at, 8)) ^
      word(0, load<u32>(at, 12));
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ entry(0, (crc ^ load<u8>(at)) & 0xff);
  return crc;
}

function clear(p: usize, end: usize): void {
  const zero = i64x2.splat(0);
  for (; p < end; p += 16) v128.store(p, zero);
}

/** Five vectors of 4-byte symbols that reach `p`. */
function wideTaps(p: usize): v128 {
  const h = p - 836;
  return v128.xor(
    v128.xor(v128.xor(v128.load(h), v128.load(h, 56)), v128.xor(v128.load(h, 156), v128.load(h, 216))),
    v128.load(h, 576),
  );
}

/** Five vectors of bytes that reach `p`. */
function taps(p: usize): v128 {
  const h = p - 209;
  return v128.xor(
    v128.xor(v128.xor(v128.load(h), v128.load(h, 14)), v128.xor(v128.load(h, 39), v128.load(h, 54))),
    v128.load(h, 144),
  );
}

/** Folds a message at `at` of `length` bytes, whole vectors, into WIDE_REST bytes at NARROW. */
function foldWide(crc: u32, at: usize, length: usize): void {
  clear(HISTORY, HISTORY + WIDE_REST);
  let p = HISTORY + WIDE_REST;
  const end = at + length - WIDE_REST;
  v128.store(p, v128.xor(v128.load(at), i32x4.replace_lane(i32x4.splat(0), 0, crc)));
  p += 16;
  at += 16;
  for (;;) {
    const room = HISTORY + WIDE_REST + CHUNK - p;
    const stop = min(end, at + room);
    for (; at + 64 <= stop; at += 64, p += 64) {
      v128.store(p, v128.xor(v128.load(at), wideTaps(p)));
      v128.store(p, v128.xor(v128.load(at, 16), wideTaps(p + 16)), 16);
      v128.store(p, v128.xor(v128.load(at, 32), wideTaps(p + 32)), 32);
      v128.store(p, v128.xor(v128.load(at, 48), wideTaps(p + 48)), 48);
    }
    for (; at < stop; at += 16, p += 16) v128.store(p, v128.xor(v128.load(at), wideTaps(p)));
    if (at == end) break;
    for (let i: usize = 0; i < WIDE_REST; i += 16) v128.store(HISTORY + i, v128.load(p - WIDE_REST + i));
    p = HISTORY + WIDE_REST;
  }
  clear(p, p + WIDE_REST);
  for (let i: usize = 0; i < WIDE_REST; i += 16) {
    v128.store(NARROW + i, v128.xor(v128.load(at + i), wideTaps(p + i)));
  }
}

/** Folds the `length` bytes at NARROW, whole vectors, into the REST bytes that end there; returns where these begin. */
function fold(length: usize): usize {
  clear(NARROW - REST, NARROW);
  const end = NARROW + length - REST;
  let p = NARROW;
  for (; p < end; p += 16) v128.store(p, v128.xor(v128.load(p), taps(p)));
  const rest = LAST;
  for (let i: usize = 0; i < REST; i += 16) v128.store(rest + i, v128.load(end + i));
  clear(end, end + REST);
  for (let i: usize = 0; i < REST; i += 16)
    v128.store(rest + i, v128.xor(v128.load(rest + i), taps(end + i)));
  return rest;
}

/** The checksum of `length` bytes, continued from `crc`. */
export function crc32c(crc: u32, at: usize, length: usize): u32 {
  if (!built) build();
  if (length < FOLD_FROM) return byTables(crc, at, length);
  const whole = length & ~15;
  let rest: usize;
  if (length < WIDE_FROM) {
    for (let i: usize = 0; i < whole; i += 16) v128.store(NARROW + i, v128.load(at + i));
    store<u32>(NARROW, load<u32>(NARROW) ^ crc);
    rest = fold(whole);
  } else {
    foldWide(crc, at, whole);
    rest = fold(WIDE_REST);
  }
  return byTables(byTables(0, rest, REST), at + whole, length - whole);
}
