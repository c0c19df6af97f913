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
    const wide = i64x2.splat(flip as i64);
    while (p + 64 <= end) {
      const a = v128.or(v128.xor(v128.load(p), wide), v128.xor(v128.load(p, 16), wide));
      const b = v128.or(v128.xor(v128.load(p, 32), wide), v128.xor(v128.load(p, 48), wide));
      if (v128.any_true(v128.or(a, b))) break;
      p += 64;
    }
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

/** Runs of set bits in [from, to) as pairs (first, count) in the out area, at most `most`; returns the number of pairs. */
export function setRuns(at: usize, from: u32, to: u32, most: u32): u32 {
  const room: u32 = (OUT_BYTES >> 3) as u32;
  if (most > room) most = room;
  let pairs: u32 = 0;
  while (pairs < most) {
    const first = nextSet(at, from, to);
    if (first >= to) break;
    from = nextClear(at, first, to);
    const out = OUT + ((pairs as usize) << 3);
    store<u32>(out, first);
    store<u32>(out, from - first, 4);
    pairs++;
  }
  return pairs;
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
