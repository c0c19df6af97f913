/** Index of the first byte where two areas differ, or -1. */
export function firstDifference(a: usize, b: usize, length: usize): i32 {
  let i: usize = 0;
  for (; i + 128 <= length; i += 128) {
    const p = a + i;
    const q = b + i;
    const d0 = v128.xor(v128.load(p), v128.load(q));
    const d1 = v128.xor(v128.load(p, 16), v128.load(q, 16));
    const d2 = v128.xor(v128.load(p, 32), v128.load(q, 32));
    const d3 = v128.xor(v128.load(p, 48), v128.load(q, 48));
    const d4 = v128.xor(v128.load(p, 64), v128.load(q, 64));
    const d5 = v128.xor(v128.load(p, 80), v128.load(q, 80));
    const d6 = v128.xor(v128.load(p, 96), v128.load(q, 96));
    const d7 = v128.xor(v128.load(p, 112), v128.load(q, 112));
    const lower = v128.or(v128.or(d0, d1), v128.or(d2, d3));
    const upper = v128.or(v128.or(d4, d5), v128.or(d6, d7));
    if (v128.any_true(v128.or(lower, upper))) break;
  }
  for (; i + 16 <= length; i += 16) {
    const differs = i8x16.bitmask(i8x16.ne(v128.load(a + i), v128.load(b + i)));
    if (differs != 0) return (i as i32) + ctz(differs);
  }
  for (; i < length; i++) if (load<u8>(a + i) != load<u8>(b + i)) return i as i32;
  return -1;
}
