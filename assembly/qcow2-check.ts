// Reference counting of QCOW2 clusters: L2 tables are walked, counters bumped, stored refcounts compared with them.
//
// The walk's numbers live in a block of f64 (offsets and counts below 2^53), see Walk in
// src/image/qcow2/check/counters.ts:
//   0 first cluster of the counters, 1 number of counters, 2 size of the file in bytes,
//   3 offset that would follow the last cluster seen (0: none), 4 allocated, 5 fragmented, 6 compressed clusters,
//   7 clusters of the image, 8 set where a count went above 1 or a data cluster lacks COPIED (of the active tables).
// Counters are `width` bytes wide, little-endian.

const COPIED: u64 = 0x8000000000000000;
const COMPRESSED: u64 = 0x4000000000000000;
const ZERO: u64 = 1;
const OFFSET: u64 = 0x00fffffffffffe00;
const RESERVED: u64 = 0x3f000000000001fe;

/** Flags of both walks: 16-byte entries with subclusters; data lies in another file. */
const EXTENDED: u32 = 1;
const EXTERNAL: u32 = 2;

function counter(at: usize, i: usize, width: u32): u32 {
  if (width == 1) return load<u8>(at + i);
  if (width == 2) return load<u16>(at + (i << 1));
  return load<u32>(at + (i << 2));
}

function setCounter(at: usize, i: usize, width: u32, value: u32): void {
  if (width == 1) store<u8>(at + i, value as u8);
  else if (width == 2) store<u16>(at + (i << 1), value as u16);
  else store<u32>(at + (i << 2), value);
}

/**
 * Counts what entries [from, entries) of the L2 table at `table` refer to. Stops before the first entry that is
 * not in order (reserved bits, misaligned, past the end of the file, flags that exclude each other) or that would
 * push a counter beyond `max`, and returns its index; `entries` where all were counted.
 */
export function countL2(
  table: usize,
  from: u32,
  entries: u32,
  clusterBits: u32,
  flags: u32,
  walk: usize,
  counters: usize,
  width: u32,
  max: u32,
): u32 {
  const first = load<f64>(walk) as i64;
  const number = load<f64>(walk, 8) as u64;
  const fileSize = load<f64>(walk, 16) as u64;
  let follows = load<f64>(walk, 24) as u64;
  let allocated: u32 = 0;
  let fragmented: u32 = 0;
  let compressed: u32 = 0;
  let shared: u32 = 0;
  const extended = (flags & EXTENDED) != 0;
  const external = (flags & EXTERNAL) != 0;
  const inCluster: u64 = ((1 as u64) << clusterBits) - 1;
  const step: usize = extended ? 16 : 8;
  const offsetBits: u64 = 62 - ((clusterBits as u64) - 8);
  let i = from;
  for (let p = table + (from as usize) * step; i < entries; i++, p += step) {
    const e = bswap(load<u64>(p));
    if (width == 1 && !extended && follows != 0 && e == (follows | COPIED) && !external) {
      // The next cluster of the file, as most are: as long as they follow each other and nothing has counted them.
      let j = (((follows >> (clusterBits as u64)) as i64) - first) as u64;
      let next = e;
      const end = fileSize < inCluster + 1 ? 0 : fileSize - inCluster - 1;
      const start = i;
      while (
        i < entries &&
        bswap(load<u64>(p)) == next &&
        j < number &&
        load<u8>(counters + (j as usize)) == 0 &&
        (next & OFFSET) <= end
      ) {
        store<u8>(counters + (j as usize), 1);
        next += inCluster + 1;
        j++;
        i++;
        p += 8;
      }
      if (i > start) {
        allocated += i - start;
        follows = next & OFFSET;
        i--;
        p -= 8;
        continue;
      }
    }
    const bits: u64 = extended ? bswap(load<u64>(p, 8)) : 0;
    if ((e | bits) == 0) continue;
    if ((e & COMPRESSED) != 0) {
      if ((e & COPIED) != 0 || bits != 0 || external) break;
      const at = e & (((1 as u64) << offsetBits) - 1);
      const sectors = ((e & (COMPRESSED - 1)) >> offsetBits) + 1;
      const length = sectors * 512 - (at & 511);
      if (at + length >= fileSize + inCluster + 1) break;
      const a = at >> (clusterBits as u64);
      const b = (at + length - 1) >> (clusterBits as u64);
      let full = false;
      for (let k = a; k <= b; k++) {
        const j = ((k as i64) - first) as u64;
        if (j < number && counter(counters, j as usize, width) >= max) full = true;
      }
      if (full) break;
      for (let k = a; k <= b; k++) {
        const j = ((k as i64) - first) as u64;
        if (j < number) setCounter(counters, j as usize, width, counter(counters, j as usize, width) + 1);
      }
      shared = 1;
      allocated++;
      compressed++;
      fragmented++;
      continue;
    }
    if ((e & RESERVED) != 0) break;
    const at = e & OFFSET;
    if (at == 0) {
      if (!extended && (e & ZERO) != 0) continue;
      if (!(external && (e & COPIED) != 0)) {
        if ((bits as u32 as u64) != 0) break;
        continue;
      }
    }
    if ((at & inCluster) != 0 || ((bits >> 32) & bits & 0xffffffff) != 0) break;
    if (!external) {
      if (at >= fileSize) break;
      const j = (((at >> (clusterBits as u64)) as i64) - first) as u64;
      if (j < number) {
        const c = counter(counters, j as usize, width);
        if (c >= max) break;
        setCounter(counters, j as usize, width, c + 1);
        shared |= c;
      }
    }
    if ((e & COPIED) == 0) shared = 1;
    allocated++;
    if (follows != 0 && at != follows) fragmented++;
    follows = at + inCluster + 1;
  }
  store<f64>(walk, follows as f64, 24);
  store<f64>(walk, load<f64>(walk, 32) + (allocated as f64), 32);
  store<f64>(walk, load<f64>(walk, 40) + (fragmented as f64), 40);
  store<f64>(walk, load<f64>(walk, 48) + (compressed as f64), 48);
  if (shared != 0 || i < entries) store<f64>(walk, 1, 64);
  return i;
}

/**
 * Compares the COPIED flags of entries [from, entries) of an active L2 table with the counters: the flag is set
 * exactly where the cluster's count is 1. Clusters of the image without a counter here are passed over. Returns the
 * index of the first entry that differs or leads past the image; `entries` where there is none.
 */
export function checkCopied(
  table: usize,
  from: u32,
  entries: u32,
  clusterBits: u32,
  flags: u32,
  walk: usize,
  counters: usize,
  width: u32,
): u32 {
  const first = load<f64>(walk) as i64;
  const number = load<f64>(walk, 8) as u64;
  const total = load<f64>(walk, 56) as u64;
  const extended = (flags & EXTENDED) != 0;
  const external = (flags & EXTERNAL) != 0;
  const step: usize = extended ? 16 : 8;
  let i = from;
  for (let p = table + (from as usize) * step; i < entries; i++, p += step) {
    const e = bswap(load<u64>(p));
    if (e == 0 || (e & COMPRESSED) != 0) continue;
    const at = e & OFFSET;
    const copied = (e & COPIED) != 0;
    if (at == 0) {
      if (!extended && (e & ZERO) != 0) continue;
      if (!(external && copied)) continue;
    }
    if (external) {
      if (!copied) break;
      continue;
    }
    const k = at >> (clusterBits as u64);
    if (k >= total) break;
    const j = ((k as i64) - first) as u64;
    if (j >= number) continue;
    if ((counter(counters, j as usize, width) == 1) != copied) break;
  }
  return i;
}

/** Refcount `i` of a block, 2^order bits wide. */
export function stored(block: usize, i: usize, order: u32): u64 {
  if (order == 4) return bswap(load<u16>(block + (i << 1))) as u64;
  if (order == 3) return load<u8>(block + i) as u64;
  if (order == 5) return bswap(load<u32>(block + (i << 2))) as u64;
  if (order == 6) return bswap(load<u64>(block + (i << 3)));
  const bit = i << (order as usize);
  return ((load<u8>(block + (bit >> 3)) >> ((bit & 7) as u8)) &
    (((1 as u32) << ((1 as u32) << order)) - 1)) as u64;
}

/**
 * First index in [from, count) where refcount `entry` + index of the block at `block` (2^order bits each) differs
 * from counter index; `count` where there is none.
 */
export function compareRefcounts(
  block: usize,
  entry: u32,
  from: u32,
  count: u32,
  order: u32,
  counters: usize,
  width: u32,
): u32 {
  let i = from;
  if (order == 4 && width == 1) {
    const zero = i8x16.splat(0);
    for (; i + 16 <= count; i += 16) {
      const c = v128.load(counters + (i as usize));
      const p = block + (((entry + i) as usize) << 1);
      const low = v128.shuffle<u8>(zero, c, 0, 16, 0, 17, 0, 18, 0, 19, 0, 20, 0, 21, 0, 22, 0, 23);
      const high = v128.shuffle<u8>(zero, c, 0, 24, 0, 25, 0, 26, 0, 27, 0, 28, 0, 29, 0, 30, 0, 31);
      const d = v128.or(v128.xor(v128.load(p), low), v128.xor(v128.load(p, 16), high));
      if (v128.any_true(d)) break;
    }
  }
  for (; i < count; i++)
    if (stored(block, (entry + i) as usize, order) != (counter(counters, i as usize, width) as u64)) break;
  return i;
}

/** Sets `count` counters to the refcounts from `entry` of a block, at most `max`. */
export function loadRefcounts(
  block: usize,
  entry: u32,
  count: u32,
  order: u32,
  counters: usize,
  width: u32,
  max: u32,
): void {
  for (let i: u32 = 0; i < count; i++) {
    const v = stored(block, (entry + i) as usize, order);
    setCounter(counters, i as usize, width, v > (max as u64) ? max : (v as u32));
  }
}

/** Sets refcounts from `entry` of a block to `count` counters. */
export function storeRefcounts(
  block: usize,
  entry: u32,
  count: u32,
  order: u32,
  counters: usize,
  width: u32,
): void {
  for (let i: u32 = 0; i < count; i++) {
    const v = counter(counters, i as usize, width);
    const at = (entry + i) as usize;
    if (order == 4) store<u16>(block + (at << 1), bswap(v as u16));
    else if (order == 3) store<u8>(block + at, v as u8);
    else if (order == 5) store<u32>(block + (at << 2), bswap(v));
    else if (order == 6) store<u64>(block + (at << 3), bswap(v as u64));
    else {
      const bit = at << (order as usize);
      const p = block + (bit >> 3);
      const mask: u32 = (((1 as u32) << ((1 as u32) << order)) - 1) << ((bit & 7) as u32);
      store<u8>(p, ((load<u8>(p) as u32) & ~mask) | ((v << ((bit & 7) as u32)) & mask));
    }
  }
}

/** Index of the last counter of [0, count) that is not zero, or -1. `counters` is 16-byte aligned. */
export function lastCounter(counters: usize, count: u32, width: u32): i32 {
  let bytes: usize = (count as usize) * (width as usize);
  while (bytes >= 16 && (bytes & 15) == 0 && !v128.any_true(v128.load(counters + bytes - 16))) bytes -= 16;
  let i = (bytes / (width as usize)) as i32;
  while (--i >= 0) {
    if (counter(counters, i as usize, width) != 0) return i;
    if ((((i as usize) * (width as usize)) & 15) == 0) {
      bytes = (i as usize) * (width as usize);
      while (bytes >= 16 && !v128.any_true(v128.load(counters + bytes - 16))) bytes -= 16;
      i = (bytes / (width as usize)) as i32;
    }
  }
  return -1;
}

/** First index in [from, count) whose counter is zero, or `count`. */
export function freeCounter(counters: usize, from: u32, count: u32, width: u32): u32 {
  let i = from;
  for (; i < count; i++) if (counter(counters, i as usize, width) == 0) break;
  return i;
}
