// Bitmaps of u32 words: bit i is bit i % 32 of word i / 32.
import type { ExtentList } from "./extents.ts";

function popcount32(v: number): number {
  v -= (v >>> 1) & 0x55555555;
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return (((v + (v >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

/** Number of set bits. */
export function countBits(words: Uint32Array): number {
  let n = 0;
  for (let i = 0; i < words.length; i++) n += popcount32(words[i]);
  return n;
}

/** Mask of bits [from, to) of one word, 0 <= from < to <= 32. */
function mask(from: number, to: number): number {
  return ((0xffffffff >>> (32 - (to - from))) << from) >>> 0;
}

/** Sets bits [from, to); returns how many were clear. */
export function setBits(words: Uint32Array, from: number, to: number): number {
  let added = 0;
  while (from < to) {
    const w = from >>> 5;
    const end = Math.min(to, (w + 1) << 5);
    const m = mask(from & 31, end - (w << 5));
    const old = words[w];
    if ((old & m) >>> 0 !== m) {
      added += popcount32(m & ~old);
      words[w] = old | m;
    }
    from = end;
  }
  return added;
}

/** Clears bits [from, to); returns how many were set. */
export function clearBits(words: Uint32Array, from: number, to: number): number {
  let removed = 0;
  while (from < to) {
    const w = from >>> 5;
    const end = Math.min(to, (w + 1) << 5);
    const m = mask(from & 31, end - (w << 5));
    removed += popcount32(words[w] & m);
    words[w] &= ~m;
    from = end;
  }
  return removed;
}

/** First set bit in [from, to), or `to`. */
export function firstBit(words: Uint32Array, from: number, to: number): number {
  while (from < to) {
    const w = from >>> 5;
    const v = words[w] & (0xffffffff << (from & 31));
    if (v !== 0) return Math.min((w << 5) + (31 - Math.clz32(v & -v)), to);
    from = (w + 1) << 5;
  }
  return to;
}

/** Appends the runs of set bits in [from, to) to `into`, each moved up by `base`. */
export function bitmapRuns(
  words: Uint32Array,
  from: number,
  to: number,
  base: number,
  into: ExtentList,
): void {
  let bit = from;
  while (bit < to) {
    let w = bit >>> 5;
    let v = (words[w] >>> (bit & 31)) << (bit & 31);
    while (v === 0 && ++w < words.length) v = words[w];
    if (v === 0) return;
    const start = (w << 5) + (31 - Math.clz32(v & -v));
    if (start >= to) return;
    let inv = ~words[w] & (0xffffffff << (start & 31));
    while (inv === 0 && ++w < words.length) inv = ~words[w];
    const end = inv === 0 ? words.length << 5 : (w << 5) + (31 - Math.clz32(inv & -inv));
    into.push(base + start, base + Math.min(end, to));
    bit = end;
  }
}
