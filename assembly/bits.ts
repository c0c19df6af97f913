// Little-endian bitmaps: bit i is bit i % 8 of byte i / 8. Whole bytes of [from, to) are read, nothing past them.
import { OUT, OUT_BYTES } from "./arena";

/** First bit in [from, to) that differs from `flip`'s bits (0: first set, all ones: first clear), or `to`. */
function seek(at: usize, from: u32, to: u32, flip: u64): u32 {
  if (from >= to) return to;
  const end = at + ((((to - 1) >>> 3) + 1) as usize);
  let p = at + ((from >>> 3) as usize);
  let found: u32 = 0;
  let byte: u32 = ((load<u8>(p) as u32) ^ (flip as u32 & 0xff)) & (0xff << (from & 7));
  if (byte != 0) {
    found = (((p - at) as u32) << 3) + ctz(byte);
    return found < to ? found : to;
  }
  p++;
  if (p + 8 <= end) {
    p = skip(p, end, flip as i64);
    for (; p + 8 <= end; p += 8) {
      const word = load<u64>(p) ^ flip;
      if (word != 0) {
        found = (((p - at) as u32) << 3) + (ctz(word) as u32);
        return found < to ? found : to;
      }
    }
  }
  for (; p < end; p++) {
    byte = (load<u8>(p) as u32) ^ (flip as u32 & 0xff);
    if (byte != 0) {
      found = (((p - at) as u32) << 3) + ctz(byte);
      return found < to ? found : to;
    }
  }
  return to;
}

/** First set bit in [from, to), or `to`. */
export function nextSet(at: usize, from: u32, to: u32): u32 {
  return seek(at, from, to, 0);
}

/** First clear bit in [from, to), or `to`. */
export function nextClear(at: usize, from: u32, to: u32): u32 {
  return seek(at, from, to, u64.MAX_VALUE);
}

/** `bytes` bytes at `p`, fewer than 8, as the low bytes of a word. */
function partial(p: usize, bytes: usize): u64 {
  let word: u64 = 0;
  for (let i: usize = 0; i < bytes; i++) word |= (load<u8>(p + i) as u64) << ((i << 3) as u64);
  return word;
}

/** Past 64-byte stretches at `p` where every word equals `same`. */
function skip(p: usize, end: usize, same: i64): usize {
  const wide = i64x2.splat(same);
  while (p + 64 <= end) {
    const a = v128.or(v128.xor(v128.load(p), wide), v128.xor(v128.load(p, 16), wide));
    const b = v128.or(v128.xor(v128.load(p, 32), wide), v128.xor(v128.load(p, 48), wide));
    if (v128.any_true(v128.or(a, b))) break;
    p += 64;
  }
  return p;
}

/**
 * Runs of set bits in [from, to) as pairs (first, count) in the out area, at most `most`; returns the number of pairs.
 */
export function setRuns(at: usize, from: u32, to: u32, most: u32): u32 {
  const room: u32 = (OUT_BYTES >> 3) as u32;
  if (most > room) most = room;
  if (from >= to || most == 0) return 0;
  const end = at + ((((to - 1) >>> 3) + 1) as usize);
  const lastOut = OUT + ((most as usize) << 3);
  let out = OUT;
  let p = at + ((from >>> 3) as usize);
  let mask: u64 = u64.MAX_VALUE << ((from & 7) as u64);
  let inRun = false;
  let first: u32 = 0;
  while (p < end) {
    const base = ((p - at) as u32) << 3;
    let word = (p + 8 <= end ? load<u64>(p) : partial(p, end - p)) & mask;
    if (to - base < 64) word &= ((1 as u64) << ((to - base) as u64)) - 1;
    mask = u64.MAX_VALUE;
    p += 8;
    if (word == 0 && !inRun) {
      p = skip(p, end, 0);
      continue;
    }
    if (word == u64.MAX_VALUE && inRun) {
      p = skip(p, end, -1);
      continue;
    }
    // `word` is shifted right past what is done: zeros come in on top, so that a run's ones end by themselves.
    let done: u32 = 0;
    for (;;) {
      if (!inRun) {
        if (word == 0) break;
        const gap = ctz(word) as u32;
        word >>= gap as u64;
        done += gap;
        first = base + done;
        inRun = true;
      }
      const ones = ctz(~word) as u32;
      if (done + ones >= 64) break;
      word >>= ones as u64;
      done += ones;
      store<u32>(out, first);
      store<u32>(out, base + done - first, 4);
      out += 8;
      if (out == lastOut) return most;
      inRun = false;
    }
  }
  if (inRun) {
    store<u32>(out, first);
    store<u32>(out, to - first, 4);
    out += 8;
  }
  return ((out - OUT) >> 3) as u32;
}

/** Number of set bits in `length` bytes. */
export function popcount(at: usize, length: usize): u32 {
  const end = at + length;
  let total: v128 = i32x4.splat(0);
  while (at + 64 <= end) {
    // A byte lane takes at most 4 * 8 a round: 7 rounds fit in it.
    let bytes: v128 = i8x16.splat(0);
    for (let round = 0; round < 7 && at + 64 <= end; round++, at += 64) {
      const a = i8x16.add(i8x16.popcnt(v128.load(at)), i8x16.popcnt(v128.load(at, 16)));
      const b = i8x16.add(i8x16.popcnt(v128.load(at, 32)), i8x16.popcnt(v128.load(at, 48)));
      bytes = i8x16.add(bytes, i8x16.add(a, b));
    }
    total = i32x4.add(total, i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(bytes)));
  }
  let count: u32 =
    i32x4.extract_lane(total, 0) +
    i32x4.extract_lane(total, 1) +
    i32x4.extract_lane(total, 2) +
    i32x4.extract_lane(total, 3);
  for (; at + 8 <= end; at += 8) count += popcnt(load<u64>(at)) as u32;
  for (; at < end; at++) count += popcnt(load<u8>(at) as u32);
  return count;
}
