// QCOW2's big-endian tables.

/** `count` big-endian u64 entries: value + i * step, with `flags` or-ed into the high word. */
export function fillBe64(at: usize, count: u32, value: f64, step: f64, flags: u32): void {
  let entry = value as i64;
  const add = step as i64;
  const high = (flags as i64) << 32;
  const end = at + ((count as usize) << 3);
  if (count >= 4) {
    let a = i64x2.replace_lane(i64x2.splat(entry), 1, entry + add);
    let b = i64x2.add(a, i64x2.splat(add << 1));
    const wide = i64x2.splat(add << 2);
    const or = i64x2.splat(high);
    for (; at + 32 <= end; at += 32) {
      const x = v128.or(a, or);
      const y = v128.or(b, or);
      v128.store(at, v128.shuffle<u8>(x, x, 7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8));
      v128.store(at, v128.shuffle<u8>(y, y, 7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8), 16);
      a = i64x2.add(a, wide);
      b = i64x2.add(b, wide);
    }
    entry = i64x2.extract_lane(a, 0);
  }
  for (; at < end; at += 8) {
    store<i64>(at, bswap(entry | high));
    entry += add;
  }
}

/** Turns the bytes of each of `count` u32 words around. */
export function turnWords(at: usize, count: u32): void {
  const end = at + ((count as usize) << 2);
  for (; at + 16 <= end; at += 16) {
    const x = v128.load(at);
    v128.store(at, v128.shuffle<u8>(x, x, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12));
  }
  for (; at < end; at += 4) store<u32>(at, bswap(load<u32>(at)));
}

/**
 * Sets `count` refcounts of 2^order bits from entry `first` of the block at `at`. Entries narrower than a byte fill it
 * from its low bits up; wider ones are big-endian.
 */
export function fillRefcounts(at: usize, first: u32, count: u32, order: u32, value: f64): void {
  if (count == 0) return;
  const v = value as u64;
  if (order < 3) {
    narrow(at, first, count, order, v as u32);
  } else if (order == 3) {
    memory.fill(at + (first as usize), v as u8, count);
  } else {
    const shift = (order - 3) as usize;
    let p = at + ((first as usize) << shift);
    const end = p + ((count as usize) << shift);
    let pattern: u64 = bswap(v);
    if (order == 4) pattern = (bswap(v as u16) as u64) * 0x0001000100010001;
    else if (order == 5) pattern = (bswap(v as u32) as u64) * 0x0000000100000001;
    const wide = i64x2.splat(pattern as i64);
    for (; p + 16 <= end; p += 16) v128.store(p, wide);
    if (p + 8 <= end) {
      store<u64>(p, pattern);
      p += 8;
    }
    for (; p < end; p += 2, pattern >>= 16) store<u16>(p, pattern as u16);
  }
}

function narrow(at: usize, first: u32, count: u32, order: u32, value: u32): void {
  const width: u32 = 1 << order;
  let pattern: u32 = value & ((1 << width) - 1);
  for (let w = width; w < 8; w <<= 1) pattern |= pattern << w;
  // In bits; 64-bit, so that no count of entries can wrap.
  const from = (first as u64) << (order as u64);
  const to = ((first as u64) + (count as u64)) << (order as u64);
  let p = at + ((from >>> 3) as usize);
  const last = at + ((to >>> 3) as usize);
  const head: u32 = (0xff << ((from as u32) & 7)) & 0xff;
  const tail: u32 = (1 << ((to as u32) & 7)) - 1;
  if (p == last) {
    blend(p, pattern, head & tail);
    return;
  }
  if (head != 0xff) blend(p++, pattern, head);
  memory.fill(p, pattern as u8, last - p);
  if (tail != 0) blend(last, pattern, tail);
}

function blend(p: usize, pattern: u32, mask: u32): void {
  store<u8>(p, (load<u8>(p) & ~mask) | (pattern & mask));
}
