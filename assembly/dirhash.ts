// Hashes of ext directory names: legacy (0), half-MD4 (1), TEA (2), and the same over unsigned characters
// (+3). Everything works on four names at once, one in each 32-bit lane; a single name takes the first lane.
import { NAME_SCRATCH } from "./arena";

const LEGACY: u32 = 0;
const HALF_MD4: u32 = 1;
const UNSIGNED: u32 = 3;

const DELTA: u32 = 0x9e3779b9;
const K2: u32 = 0x5a827999;
const K3: u32 = 0x6ed9eba1;

/** Four vectors: the running state, one name a lane. */
export const STATE: usize = NAME_SCRATCH;
/** Words of one chunk as vectors, eight at most. */
const WORDS: usize = NAME_SCRATCH + 0x40;

/** The last hash the kernel hands out for a name: what follows marks the end of a directory. */
export const MOST_HASH: u32 = 0xfffffffa;

/** Characters one step takes. */
export function chunkLength(version: u32): usize {
  return version % UNSIGNED == HALF_MD4 ? 32 : 16;
}

export function isLegacy(version: u32): bool {
  return version % UNSIGNED == LEGACY;
}

/** Puts the state before the first character: the 16 bytes at `seed`. */
export function startHash(version: u32, seed: usize): void {
  if (isLegacy(version)) {
    v128.store(STATE, i32x4.splat(0x12a3fe2d));
    v128.store(STATE, i32x4.splat(0x37abe8f9), 16);
    return;
  }
  for (let i: usize = 0; i < 4; i++) v128.store(STATE + (i << 4), i32x4.splat(load<u32>(seed + (i << 2))));
}

function rotl(x: v128, s: i32): v128 {
  return v128.or(i32x4.shl(x, s), i32x4.shr_u(x, 32 - s));
}

function f1(a: v128, b: v128, c: v128, d: v128, w: v128, s: i32): v128 {
  return rotl(i32x4.add(i32x4.add(a, v128.xor(d, v128.and(b, v128.xor(c, d)))), w), s);
}

function f2(a: v128, b: v128, c: v128, d: v128, w: v128, s: i32): v128 {
  const f = i32x4.add(v128.and(b, c), v128.and(v128.xor(b, c), d));
  return rotl(i32x4.add(i32x4.add(i32x4.add(a, f), w), i32x4.splat(K2)), s);
}

function f3(a: v128, b: v128, c: v128, d: v128, w: v128, s: i32): v128 {
  const f = v128.xor(v128.xor(b, c), d);
  return rotl(i32x4.add(i32x4.add(i32x4.add(a, f), w), i32x4.splat(K3)), s);
}

function halfMd4(words: usize): void {
  const w0 = v128.load(words);
  const w1 = v128.load(words, 16);
  const w2 = v128.load(words, 32);
  const w3 = v128.load(words, 48);
  const w4 = v128.load(words, 64);
  const w5 = v128.load(words, 80);
  const w6 = v128.load(words, 96);
  const w7 = v128.load(words, 112);
  let a = v128.load(STATE);
  let b = v128.load(STATE, 16);
  let c = v128.load(STATE, 32);
  let d = v128.load(STATE, 48);
  a = f1(a, b, c, d, w0, 3);
  d = f1(d, a, b, c, w1, 7);
  c = f1(c, d, a, b, w2, 11);
  b = f1(b, c, d, a, w3, 19);
  a = f1(a, b, c, d, w4, 3);
  d = f1(d, a, b, c, w5, 7);
  c = f1(c, d, a, b, w6, 11);
  b = f1(b, c, d, a, w7, 19);
  a = f2(a, b, c, d, w1, 3);
  d = f2(d, a, b, c, w3, 5);
  c = f2(c, d, a, b, w5, 9);
  b = f2(b, c, d, a, w7, 13);
  a = f2(a, b, c, d, w0, 3);
  d = f2(d, a, b, c, w2, 5);
  c = f2(c, d, a, b, w4, 9);
  b = f2(b, c, d, a, w6, 13);
  a = f3(a, b, c, d, w3, 3);
  d = f3(d, a, b, c, w7, 9);
  c = f3(c, d, a, b, w2, 11);
  b = f3(b, c, d, a, w6, 15);
  a = f3(a, b, c, d, w1, 3);
  d = f3(d, a, b, c, w5, 9);
  c = f3(c, d, a, b, w0, 11);
  b = f3(b, c, d, a, w4, 15);
  v128.store(STATE, i32x4.add(v128.load(STATE), a));
  v128.store(STATE, i32x4.add(v128.load(STATE, 16), b), 16);
  v128.store(STATE, i32x4.add(v128.load(STATE, 32), c), 32);
  v128.store(STATE, i32x4.add(v128.load(STATE, 48), d), 48);
}

function tea(words: usize): void {
  const w0 = v128.load(words);
  const w1 = v128.load(words, 16);
  const w2 = v128.load(words, 32);
  const w3 = v128.load(words, 48);
  const s0 = v128.load(STATE);
  const s1 = v128.load(STATE, 16);
  let x = s0;
  let y = s1;
  let sum: u32 = 0;
  for (let round = 0; round < 16; round++) {
    sum += DELTA;
    const k = i32x4.splat(sum);
    x = i32x4.add(
      x,
      v128.xor(v128.xor(i32x4.add(i32x4.shl(y, 4), w0), i32x4.add(y, k)), i32x4.add(i32x4.shr_u(y, 5), w1)),
    );
    y = i32x4.add(
      y,
      v128.xor(v128.xor(i32x4.add(i32x4.shl(x, 4), w2), i32x4.add(x, k)), i32x4.add(i32x4.shr_u(x, 5), w3)),
    );
  }
  v128.store(STATE, i32x4.add(s0, x));
  v128.store(STATE, i32x4.add(s1, y), 16);
}

/** Takes one more chunk, given as words (one vector each), into the state. */
export function hashChunk(version: u32, words: usize): void {
  if (version % UNSIGNED == HALF_MD4) halfMd4(words);
  else tea(words);
}

/**
 * Takes one more character a lane into the state of the legacy hash; the vector at `at` holds the
 * characters.
 */
export function legacyStep(at: usize): void {
  const c = v128.load(at);
  const h0 = v128.load(STATE);
  const h1 = v128.load(STATE, 16);
  let h = i32x4.add(h1, v128.xor(h0, i32x4.mul(c, i32x4.splat(7152373))));
  h = i32x4.sub(h, v128.and(i32x4.shr_s(h, 31), i32x4.splat(0x7fffffff)));
  v128.store(STATE, h0, 16);
  v128.store(STATE, h);
}

/** Puts the four hashes, bit 0 clear, at STATE. */
export function endHash(version: u32): void {
  const even = i32x4.splat(-2);
  if (isLegacy(version)) {
    v128.store(STATE, v128.and(i32x4.shl(v128.load(STATE), 1), even));
    return;
  }
  const word: usize = version % UNSIGNED == HALF_MD4 ? 16 : 0;
  v128.store(STATE, v128.and(v128.load(STATE + word), even));
}

function char(at: usize, version: u32): u32 {
  return version >= UNSIGNED ? <u32>load<u8>(at) : <u32>(<i32>load<i8>(at));
}

/** What the words of a chunk are filled with where `left` characters are left. */
export function padding(left: usize): u32 {
  const pad = <u32>left | ((<u32>left) << 8);
  return pad | (pad << 16);
}

/** The chunk of a name at `at`, of which `left` characters are left, as words (one vector each). */
export function packChunk(at: usize, left: usize, version: u32, words: usize): void {
  const chunk = chunkLength(version);
  const pad = padding(left);
  const n = left < chunk ? left : chunk;
  let value = pad;
  let to = words;
  const end = words + (chunk << 2);
  for (let i: usize = 0; i < n; i++) {
    value = char(at + i, version) + (value << 8);
    if ((i & 3) != 3) continue;
    v128.store(to, i32x4.splat(value));
    to += 16;
    value = pad;
  }
  for (; to < end; to += 16) {
    v128.store(to, i32x4.splat(value));
    value = pad;
  }
}

/** Takes the first `length` characters (whole chunks) of a name of `total` into the state. */
export function hashPrefix(at: usize, length: usize, total: usize, version: u32): void {
  if (isLegacy(version)) {
    for (let i: usize = 0; i < length; i++) {
      v128.store(WORDS, i32x4.splat(char(at + i, version)));
      legacyStep(WORDS);
    }
    return;
  }
  const chunk = chunkLength(version);
  for (let i: usize = 0; i < length; i += chunk) {
    packChunk(at + i, total - i, version, WORDS);
    hashChunk(version, WORDS);
  }
}

/** Hash of the `length` characters at `at`; `seed` is the address of 16 bytes. Bit 0 is clear. */
export function dirhash(at: usize, length: usize, version: u32, seed: usize): u32 {
  startHash(version, seed);
  hashPrefix(at, length, length, version);
  endHash(version);
  return load<u32>(STATE);
}
