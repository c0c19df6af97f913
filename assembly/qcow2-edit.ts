import { OUT, OUT_BYTES } from "./arena";
import { stored } from "./qcow2-check";

// Changes to QCOW2 tables: what an L2 table refers to, its COPIED flags, counts of a refcount block.

const COPIED: u64 = 0x8000000000000000;
const COMPRESSED: u64 = 0x4000000000000000;
const OFFSET: u64 = 0x00fffffffffffe00;
/** Offsets that numbers of the host hold exactly. */
const EXACT: u64 = 0x0020000000000000;

/** Kinds of a run, or-ed into four times its first entry. */
const IS_COPIED: u32 = 1;
const IS_COMPRESSED: u32 = 2;

/** Bytes of a run in the list, and how many fit. */
const RUN: usize = 16;
const MOST: u32 = ((OUT_BYTES - 16) / 16) as u32;

/**
 * Host clusters that entries [from, entries) of the L2 table at `table` refer to. The list: number of runs as u32, from
 * byte 16 on the runs, each four u32: first cluster (low, high), clusters, 4 * entry + kind. Plain entries that follow
 * each other in the file with the same flag are one run; a compressed entry is one of its own. Entries without a
 * cluster are left out, but where they have the COPIED flag they are runs of cluster 0. Stops before an entry whose
 * offset is not aligned or 2^53 and more, or where the list is full; returns where.
 */
export function l2Runs(table: usize, from: u32, entries: u32, clusterBits: u32, extended: u32): u32 {
  const step: usize = extended != 0 ? 16 : 8;
  const bits = clusterBits as u64;
  const inCluster: u64 = ((1 as u64) << bits) - 1;
  const offsetBits: u64 = 70 - bits;
  let number: u32 = 0;
  let into: usize = OUT + 16;
  let i = from;
  let p = table + (from as usize) * step;
  while (i < entries) {
    const e = bswap(load<u64>(p));
    if (e == 0) {
      i++;
      p += step;
      continue;
    }
    if (number == MOST) break;
    let first: u64;
    let count: u32 = 1;
    let tag: u32 = i << 2;
    i++;
    p += step;
    if ((e & COMPRESSED) != 0) {
      const at = e & (((1 as u64) << offsetBits) - 1);
      const length = (((e & (COMPRESSED - 1)) >> offsetBits) + 1) * 512 - (at & 511);
      first = at >> bits;
      count = (((at + length - 1) >> bits) - first + 1) as u32;
      tag |= IS_COMPRESSED;
    } else {
      const at = e & OFFSET;
      if (at == 0 && (e & COPIED) == 0) continue;
      if ((at & inCluster) != 0 || at >= EXACT) {
        i--;
        break;
      }
      first = at >> bits;
      if ((e & COPIED) != 0) tag |= IS_COPIED;
      if (at != 0) {
        // The same flags, the next cluster.
        let next = e + inCluster + 1;
        while (i < entries && bswap(load<u64>(p)) == next && (next & OFFSET) < EXACT) {
          next += inCluster + 1;
          count++;
          i++;
          p += step;
        }
      }
    }
    store<u32>(into, first as u32);
    store<u32>(into, (first >> 32) as u32, 4);
    store<u32>(into, count, 8);
    store<u32>(into, tag, 12);
    into += RUN;
    number++;
  }
  store<u32>(OUT, number);
  return i;
}

/** Sets or clears the COPIED flag of entries [from, to), none of which is compressed. */
export function setCopied(table: usize, from: u32, to: u32, extended: u32, copied: u32): void {
  const step: usize = extended != 0 ? 16 : 8;
  const end = table + (to as usize) * step;
  for (let p = table + (from as usize) * step; p < end; p += step) {
    const b = load<u8>(p);
    store<u8>(p, copied != 0 ? b | 0x80 : b & 0x7f);
  }
}

/** Clears the COPIED flag of all entries that are not compressed; 1 where there was one. */
export function clearCopied(table: usize, entries: u32, extended: u32): u32 {
  const step: usize = extended != 0 ? 16 : 8;
  const end = table + (entries as usize) * step;
  let found: u32 = 0;
  for (let p = table; p < end; p += step) {
    const b = load<u8>(p);
    if ((b & 0xc0) != 0x80) continue;
    store<u8>(p, b & 0x7f);
    found = 1;
  }
  return found;
}

/**
 * Adds `delta` (1 or -1) to `count` refcounts of 2^order bits from entry `first` of a block. Stops before one that is
 * 0, or that is `most` where one is to be added; returns how many were done.
 */
export function addRefcounts(block: usize, first: u32, count: u32, order: u32, delta: i32, most: f64): u32 {
  const highest = most as u64;
  let i: u32 = 0;
  for (; i < count; i++) {
    const at = (first + i) as usize;
    const v = stored(block, at, order);
    if (v == 0 || (delta > 0 && v >= highest)) break;
    const w = v + (delta as i64 as u64);
    if (order == 4) store<u16>(block + (at << 1), bswap(w as u16));
    else if (order == 3) store<u8>(block + at, w as u8);
    else if (order == 5) store<u32>(block + (at << 2), bswap(w as u32));
    else if (order == 6) store<u64>(block + (at << 3), bswap(w));
    else {
      const bit = at << (order as usize);
      const p = block + (bit >> 3);
      const shift = (bit & 7) as u32;
      const mask: u32 = (((1 as u32) << ((1 as u32) << order)) - 1) << shift;
      store<u8>(p, ((load<u8>(p) as u32) & ~mask) | (((w as u32) << shift) & mask));
    }
  }
  return i;
}

/**
 * First index in [from, to) of a block's refcounts that is `value` (`equal` 1) or is not (0); `to` where there is none.
 */
export function nextRefcount(block: usize, from: u32, to: u32, order: u32, value: u32, equal: u32): u32 {
  const wanted = equal != 0;
  let i = from;
  for (; i < to; i++) if ((stored(block, i as usize, order) == (value as u64)) == wanted) break;
  return i;
}

/**
 * How many of `count` entries at `at`, pairs of u32 with the high one first, go on with (high, low): each `step` more
 * than the one before, the first being (high, low) itself.
 */
export function countProgression(at: usize, count: u32, high: u32, low: u32, step: u32): u32 {
  let next = ((high as u64) << 32) | (low as u64);
  let i: u32 = 0;
  for (; i < count; i++, at += 8, next += step as u64) if (rotl(load<u64>(at), 32) != next) break;
  return i;
}
