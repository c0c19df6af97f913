// Replacement names for ext directories: text from a key, names numbered within (directory, length), the
// search for numbers whose names hash into the leaves that need them, directory blocks rewritten with them,
// and the search of an image for words.
import { NAME_SCRATCH, OUT, OUT_BYTES } from "./arena";
import {
  chunkLength,
  dirhash,
  endHash,
  hashChunk,
  hashPrefix,
  isLegacy,
  legacyStep,
  MOST_HASH,
  packChunk,
  STATE,
  startHash,
} from "./dirhash";

/** Chunks with the varying characters as zeros, and the same with them, as vectors. */
const TEMPLATE: usize = NAME_SCRATCH + 0x100;
const LIVE: usize = NAME_SCRATCH + 0x200;
/** Where a varying character goes: (word's offset, shift) each. */
const SPREAD: usize = NAME_SCRATCH + 0x300;
/** A name under construction; 16 more bytes may be written. */
const NAME: usize = NAME_SCRATCH + 0x400;
/** Names of each length that blocks without numbers have used so far. */
const COUNTERS: usize = NAME_SCRATCH + 0x800;

/** Characters of a name that follow from its number. */
const VARYING: u32 = 8;
const GOLDEN: u64 = 0x9e3779b97f4a7c15;

// Sixteen consonants: generated text resembles no word and no number.
function letters(): v128 {
  return i8x16(98, 99, 100, 102, 103, 104, 106, 107, 109, 110, 112, 113, 114, 116, 118, 122);
}

function mix(x: u64): u64 {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

function joined(low: u32, high: u32): u64 {
  return <u64>low | ((<u64>high) << 32);
}

/** Puts a key made of a key, a domain and a number into the out area: low word, high word. */
export function deriveKey(low: u32, high: u32, domain: u32, n: f64): void {
  const inner = mix(joined(low, high) ^ ((<u64>domain + 1) * 0xd6e8feb86659fd93));
  store<u64>(OUT, mix(inner + (<u64>n + 1) * GOLDEN));
}

/** Sixteen characters of the text number `t` of a key. */
function textAt(key: u64, t: u64): v128 {
  const r = mix(key + (t + 1) * GOLDEN);
  const nibbles = i64x2.replace_lane(
    i64x2.splat(<i64>(r & 0x0f0f0f0f0f0f0f0f)),
    1,
    <i64>((r >> 4) & 0x0f0f0f0f0f0f0f0f),
  );
  return i8x16.swizzle(letters(), nibbles);
}

function text(at: usize, length: usize, key: u64): void {
  let t: u64 = 0;
  for (; length >= 16; length -= 16, at += 16) v128.store(at, textAt(key, t++));
  if (length == 0) return;
  v128.store(NAME_SCRATCH + 0x340, textAt(key, t));
  memory.copy(at, NAME_SCRATCH + 0x340, length);
}

/** Fills `length` bytes with text of a key. */
export function fillText(at: usize, length: usize, low: u32, high: u32): void {
  text(at, length, joined(low, high));
}

function classKey(key: u64, length: u32): u64 {
  return mix(key ^ ((<u64>length + 1) * 0xa0761d6478bd642f));
}

function power(base: u64, exponent: u32): u64 {
  let n: u64 = 1;
  while (exponent-- > 0) n *= base;
  return n;
}

/** Names made of the sixteen letters. */
function plainCount(length: u32): u64 {
  return (<u64>1) << (4 * min(length, VARYING));
}

const SAFE: u64 = 66;
const ANY: u64 = 253;

/** Names of characters that every directory may hold, for when the letters are not enough. */
function safeCount(length: u32): u64 {
  if (length >= VARYING) return 0;
  const room: u64 = 0x100000000 - plainCount(length);
  const all = power(SAFE, length);
  return all < room ? all : room;
}

/** How many numbers names of a length have; `folded` where only lower-case ASCII will do. */
export function nameCount(length: u32, folded: bool): f64 {
  let n = plainCount(length) + safeCount(length);
  if (!folded && length <= 4) n += power(ANY, length);
  return <f64>n;
}

function safeChar(digit: u32): u32 {
  if (digit < 10) return 0x30 + digit;
  if (digit < 36) return 0x61 + digit - 10;
  if (digit < 49) return 0x21 + digit - 36;
  if (digit < 56) return 0x3a + digit - 49;
  if (digit < 62) return 0x5b + digit - 56;
  return 0x7b + digit - 62;
}

function isLetter(c: u32): bool {
  return i8x16.bitmask(i8x16.eq(letters(), i8x16.splat(<i8>c))) != 0;
}

function isSafe(c: u32): bool {
  return c > 0x20 && c < 0x7f && !(c >= 0x41 && c <= 0x5a) && c != 0x2e && c != 0x2f;
}

/**
 * Writes the name numbered `k` of `length` characters. Every number gives another name; false where the
 * number has none (it would repeat one that a lower number has).
 */
function writeName(at: usize, key: u64, length: u32, k: u64): bool {
  const s = classKey(key, length);
  const plain = plainCount(length);
  if (k < plain) {
    const varying = min(length, VARYING);
    if (length > varying) text(at, length - varying, s);
    let d: u32 = (<u32>k * (<u32>s | 1) + <u32>(s >> 32)) << (32 - 4 * varying);
    const to = at + length - varying;
    for (let j: u32 = 0; j < varying; j++) {
      store<u8>(to + j, i8x16.extract_lane_u(i8x16.swizzle(letters(), i8x16.splat(<i8>(d >>> 28))), 0));
      d <<= 4;
    }
    return true;
  }
  k -= plain;
  const safe = safeCount(length);
  const base = k < safe ? SAFE : ANY;
  if (k >= safe) k -= safe;
  const turn = (s >> 32) % base;
  let repeats = true;
  for (let p = at + length; p-- > at; ) {
    const digit = <u32>((k + turn) % base);
    k /= base;
    let c: u32;
    if (base == SAFE) {
      c = safeChar(digit);
      if (!isLetter(c)) repeats = false;
    } else {
      c = digit + 1;
      if (c >= 0x2e) c += 2;
      if (!isSafe(c)) repeats = false;
    }
    store<u8>(p, c);
  }
  return !repeats;
}

/** As writeName, for callers outside. */
export function nameAt(at: usize, length: u32, low: u32, high: u32, k: f64): bool {
  return writeName(at, joined(low, high), length, <u64>k);
}

// A job of drawNames: one length in one directory. Addresses are wasm addresses.
const JOB_KEY: usize = 0;
const JOB_LENGTH: usize = 8;
const JOB_VERSION: usize = 12;
const JOB_SEED: usize = 16;
const JOB_NEXT: usize = 32;
const JOB_LEAVES: usize = 40;
const JOB_BOUNDS: usize = 44;
const JOB_BUCKETS: usize = 48;
const JOB_SHIFT: usize = 52;
const JOB_NEEDS: usize = 56;
const JOB_LEFT: usize = 60;
const JOB_FOLDED: usize = 64;

/** Index of the leaf whose range holds a hash. */
function leafOf(job: usize, hash: u32): u32 {
  const leaves = load<u32>(job, JOB_LEAVES);
  const bounds = <usize>load<u32>(job, JOB_BOUNDS);
  let leaf = load<u32>(
    <usize>load<u32>(job, JOB_BUCKETS) + ((<usize>(hash >>> load<u32>(job, JOB_SHIFT))) << 2),
  );
  while (leaf + 1 < leaves && load<u32>(bounds + ((<usize>leaf + 1) << 2)) <= hash) leaf++;
  return leaf;
}

/** Gives a name to its leaf where that needs one; true where it was taken. */
function offer(job: usize, hash: u32, k: u32, to: usize): bool {
  if (hash > MOST_HASH) return false;
  const leaf = leafOf(job, hash);
  const need = <usize>load<u32>(job, JOB_NEEDS) + ((<usize>leaf) << 2);
  const n = load<u32>(need);
  if (n == 0) return false;
  store<u32>(need, n - 1);
  store<u32>(to, leaf);
  store<u32>(to, k, 4);
  return true;
}

/**
 * Lays the constant characters of a class into templates and notes where the varying ones go; returns the
 * chunks.
 */
function prepare(version: u32, length: u32, varying: u32, from: usize): u32 {
  const chunk: usize = chunkLength(version);
  memory.fill(NAME + <usize>(length - varying), 0, varying);
  let chunks: u32 = 0;
  for (let at = from; at < <usize>length; at += chunk) {
    packChunk(NAME + at, <usize>length - at, version, TEMPLATE + ((<usize>chunks) << 7));
    chunks++;
  }
  for (let j: u32 = 0; j < varying; j++) {
    const q = <usize>(length - varying + j) - from;
    const t = q / chunk;
    const i = q % chunk;
    const rest = <usize>length - from - t * chunk;
    const inChunk = rest < chunk ? rest : chunk;
    const word = i >> 2;
    const left = inChunk - (word << 2);
    const inWord: usize = left < 4 ? left : 4;
    const to = SPREAD + ((<usize>j) << 3);
    store<u32>(to, <u32>((t << 7) + (word << 4)));
    store<u32>(to, <u32>((inWord - 1 - (i & 3)) << 3), 4);
  }
  return chunks;
}

/**
 * Draws up to `most` names, in the order of their numbers, and offers each to the leaf its hash falls into.
 * Pairs (leaf, number) of those that were taken go to the out area; returns how many. The job's next number,
 * its needs and what is left move on.
 */
export function drawNames(job: usize, most: u32): u32 {
  const key = load<u64>(job, JOB_KEY);
  const length = load<u32>(job, JOB_LENGTH);
  const version = load<u32>(job, JOB_VERSION);
  const seed = job + JOB_SEED;
  const folded = load<u32>(job, JOB_FOLDED) != 0;
  const plain = plainCount(length);
  const total = <u64>nameCount(length, folded);
  let k = <u64>load<f64>(job, JOB_NEXT);
  let left = load<u32>(job, JOB_LEFT);
  const stop = k + most < total ? k + most : total;
  const end = stop < plain ? stop : plain;
  const last: usize = OUT + OUT_BYTES - 64;
  let to: usize = OUT;
  if (k < end) {
    const s = classKey(key, length);
    const varying = min(length, VARYING);
    if (length > varying) text(NAME, length - varying, s);
    const chunk: usize = isLegacy(version) ? 1 : chunkLength(version);
    const fixed = <usize>(length - varying);
    const from = fixed - (fixed % chunk);
    startHash(version, seed);
    hashPrefix(NAME, from, length, version);
    const s0 = v128.load(STATE);
    const s1 = v128.load(STATE, 16);
    const s2 = v128.load(STATE, 32);
    const s3 = v128.load(STATE, 48);
    const legacy = isLegacy(version);
    const chunks = legacy ? 0 : prepare(version, length, varying, from);
    const mul = i32x4.splat(<u32>s | 1);
    const add = i32x4.splat(<u32>(s >> 32));
    const up: i32 = 32 - 4 * <i32>varying;
    const high = i32x4.splat(0xffffff00);
    for (; k < end && left > 0 && to < last; k += 4) {
      let d = i32x4.add(i32x4.splat(<u32>k), i32x4(0, 1, 2, 3));
      d = i32x4.shl(i32x4.add(i32x4.mul(d, mul), add), up);
      v128.store(STATE, s0);
      v128.store(STATE, s1, 16);
      v128.store(STATE, s2, 32);
      v128.store(STATE, s3, 48);
      if (legacy) {
        for (let j: u32 = 0; j < varying; j++) {
          v128.store(LIVE, i8x16.swizzle(letters(), v128.or(i32x4.shr_u(d, 28), high)));
          legacyStep(LIVE);
          d = i32x4.shl(d, 4);
        }
      } else {
        const bytes: usize = (<usize>chunks) << 7;
        for (let i: usize = 0; i < bytes; i += 64) {
          v128.store(LIVE + i, v128.load(TEMPLATE + i));
          v128.store(LIVE + i, v128.load(TEMPLATE + i, 16), 16);
          v128.store(LIVE + i, v128.load(TEMPLATE + i, 32), 32);
          v128.store(LIVE + i, v128.load(TEMPLATE + i, 48), 48);
        }
        for (let j: u32 = 0; j < varying; j++) {
          const c = i8x16.swizzle(letters(), v128.or(i32x4.shr_u(d, 28), high));
          d = i32x4.shl(d, 4);
          const spread = SPREAD + ((<usize>j) << 3);
          const w = LIVE + <usize>load<u32>(spread);
          v128.store(w, v128.or(v128.load(w), i32x4.shl(c, load<u32>(spread, 4))));
        }
        for (let i: usize = 0; i < bytes; i += 128) hashChunk(version, LIVE + i);
      }
      endHash(version);
      for (let lane: u32 = 0; lane < 4; lane++) {
        if (!offer(job, load<u32>(STATE + ((<usize>lane) << 2)), <u32>k + lane, to)) continue;
        to += 8;
        left--;
      }
    }
  }
  for (; k < stop && k >= plain && left > 0 && to < last; k++) {
    if (!writeName(NAME, key, length, k)) continue;
    if (offer(job, dirhash(NAME, length, version, seed), <u32>k, to)) {
      to += 8;
      left--;
    }
  }
  store<f64>(job, <f64>k, JOB_NEXT);
  store<u32>(job, left, JOB_LEFT);
  return <u32>((to - OUT) >> 3);
}

// How the bytes of a directory are to be read.
const TYPED: u32 = 1;
const ROOT: u32 = 2;
const CHECKSUM_TAIL: u32 = 4;
const HASHED: u32 = 8;
const KEEP_NAMES: u32 = 16;
const FOLDED: u32 = 32;
const GO_ON: u32 = 64;
/** Number of a name that stays. */
const KEEP: u64 = 0xffffffff;

function recordLength(at: usize, blockSize: u32): u32 {
  const n = <u32>load<u16>(at, 4);
  if (blockSize < 65536) return n;
  if (n == 0 || n == 65535) return blockSize;
  return (n & 0xfffc) | ((n & 3) << 16);
}

/** End of the records: a checksum tail is none of them. */
function recordsEnd(at: usize, length: usize, flags: u32): usize {
  if ((flags & CHECKSUM_TAIL) == 0 || length < 24) return at + length;
  const tail = at + length - 12;
  const isTail = load<u32>(tail) == 0 && load<u32>(tail, 4) == 0xde00000c;
  return isTail ? tail : at + length;
}

/** "." and "..", and "lost+found" in the root. */
function isKept(name: usize, length: u32, flags: u32): bool {
  if (load<u8>(name) == 0x2e && (length == 1 || (length == 2 && load<u8>(name, 1) == 0x2e))) return true;
  if ((flags & ROOT) == 0 || length != 10) return false;
  return load<u64>(name) == 0x756f662b74736f6c && load<u16>(name, 8) == 0x646e;
}

/** Puts 64 bits that stand for the `length` bytes at `at` into the out area at byte `to`. */
function wordHashTo(at: usize, length: usize, to: usize): void {
  let h: u64 = (<u64>length + 1) * 0xa0761d6478bd642f;
  for (; length >= 8; length -= 8, at += 8) {
    h = (h ^ load<u64>(at)) * 0xe7037ed1a0b428db;
    h ^= h >> 32;
  }
  let rest: u64 = 0;
  for (let i: usize = 0; i < length; i++) rest |= (<u64>load<u8>(at + i)) << ((<u64>i) << 3);
  store<u64>(to, mix((h ^ rest) * 0xe7037ed1a0b428db));
}

/** Offset of the first four bytes that are not all the same, or -1. */
function windowOf(at: usize, length: usize): i32 {
  for (let i: usize = 0; i + 4 <= length; i++) {
    const w = load<u32>(at + i);
    if (w != (w & 0xff) * 0x01010101) return <i32>i;
  }
  return -1;
}

/** Describes a word in the out area at `to`: window, two words of hash, offset of the window or -1. */
function describe(at: usize, length: usize, to: usize): void {
  const offset = windowOf(at, length);
  store<u32>(to, offset < 0 ? 0 : load<u32>(at + <usize>offset));
  wordHashTo(at, length, to + 4);
  store<i32>(to, offset, 12);
}

/** As `describe`, of one word: window, hash low, hash high, offset of the window or -1. */
export function describeWord(at: usize, length: usize): void {
  describe(at, length, OUT);
}

/**
 * Lists the names of live entries that are to be replaced: the out area holds the offset where the walk
 * ended (the end, or the first bad record) and from word 4 on six words a name: offset, length, and
 * `describe`'s four. Returns how many.
 */
export function listNames(at: usize, length: usize, blockSize: u32, flags: u32): u32 {
  const end = recordsEnd(at, length, flags);
  let to: usize = OUT + 16;
  let p = at;
  while (p + 8 <= end) {
    const n = <usize>recordLength(p, blockSize);
    if (n < 8 || (n & 3) != 0 || p + n > end) break;
    const size = flags & TYPED ? <u32>load<u8>(p, 6) : <u32>load<u16>(p, 6);
    if (load<u32>(p) != 0) {
      if (size == 0 || size > 255 || <usize>size + 8 > n) break;
      if (!isKept(p + 8, size, flags)) {
        store<u32>(to, <u32>(p - at));
        store<u32>(to, size, 4);
        describe(p + 8, size, to + 8);
        to += 24;
      }
    }
    p += n;
  }
  store<u32>(OUT, <u32>(p - at));
  return <u32>((to - OUT - 16) / 24);
}

/**
 * Rewrites directory records: names of live entries become those numbered by the words at `numbers` (one for
 * each name that listNames lists; 0xffffffff keeps the name), or, where that is 0, by the next number of
 * their length; deleted entries and what lies behind names are zeroed, and everything but the header behind
 * a bad record. Returns how many names were replaced; the out area holds the offset where the walk ended,
 * and how many deleted names were wiped.
 */
export function rewriteNames(
  at: usize,
  length: usize,
  blockSize: u32,
  flags: u32,
  low: u32,
  high: u32,
  numbers: usize,
): u32 {
  const key = joined(low, high);
  const end = recordsEnd(at, length, flags);
  const folded = (flags & FOLDED) != 0;
  if (numbers == 0 && (flags & GO_ON) == 0) memory.fill(COUNTERS, 0, 1024);
  let replaced: u32 = 0;
  let wiped: u32 = 0;
  let p = at;
  while (p + 8 <= end) {
    const n = <usize>recordLength(p, blockSize);
    if (n < 8 || (n & 3) != 0 || p + n > end) break;
    const size = flags & TYPED ? <u32>load<u8>(p, 6) : <u32>load<u16>(p, 6);
    if (load<u32>(p) == 0) {
      if (load<u16>(p, 6) != 0) wiped++;
      store<u16>(p, 0, 6);
      memory.fill(p + 8, 0, n - 8);
      p += n;
      continue;
    }
    if (size == 0 || size > 255 || <usize>size + 8 > n) break;
    let used: usize = <usize>size + 8;
    if (flags & KEEP_NAMES) {
      if (flags & HASHED && n >= ((used + 3) & ~3) + 8) used = ((used + 3) & ~3) + 8;
    } else if (!isKept(p + 8, size, flags)) {
      let k: u64;
      if (numbers != 0) {
        k = load<u32>(numbers);
        numbers += 4;
        if (k == KEEP) {
          memory.fill(p + used, 0, n - used);
          p += n;
          continue;
        }
        writeName(p + 8, key, size, k);
      } else {
        const counter = COUNTERS + ((<usize>size) << 2);
        k = load<u32>(counter);
        while (!writeName(p + 8, key, size, k) && <f64>k < nameCount(size, folded)) k++;
        store<u32>(counter, <u32>k + 1);
      }
      replaced++;
    }
    memory.fill(p + used, 0, n - used);
    p += n;
  }
  // Of a bad record only the lengths that are wrong stay.
  if (p + 8 <= end) {
    store<u32>(p, 0);
    store<u8>(p, 0, 7);
    memory.fill(p + 8, 0, end - p - 8);
  } else if (p < end) memory.fill(p, 0, end - p);
  store<u32>(OUT, <u32>(p - at));
  store<u32>(OUT, wiped, 4);
  return replaced;
}

/**
 * Positions in [from, length - 3) whose four bytes may be the window of a word: those whose bit is set in
 * the filter, a bitmap that their hash's upper 32 - `shift` bits index. The out area holds where to go on
 * and from word 1 on the positions; returns how many.
 */
export function scanWords(at: usize, length: usize, from: usize, filter: usize, shift: u32): u32 {
  const last: usize = OUT + OUT_BYTES - 4;
  let to: usize = OUT + 4;
  let p = at + from;
  const end = at + length;
  for (; p + 4 <= end && to < last; p++) {
    if (p + 16 <= end) {
      if (load<u64>(p) == 0) {
        p += 4;
        continue;
      }
    }
    const h = (load<u32>(p) * 0x9e3779b1) >>> shift;
    if ((load<u8>(filter + (<usize>h >> 3)) >> (h & 7)) & 1) {
      store<u32>(to, <u32>(p - at));
      to += 4;
    }
  }
  store<u32>(OUT, <u32>(p - at));
  return <u32>((to - OUT - 4) >> 2);
}
