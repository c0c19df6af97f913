import { OUT, OUT_BYTES } from "./arena";
import { isZero } from "./zero";

const SECTOR: usize = 512;

/** Length of the stretch found last, in sectors. */
let found: u32 = 0;

/**
 * The stretch of sectors from `at` on that are alike (zero or not), cut to multiples of `alignment` (a power of two,
 * counted from sector 0 of the disk, where the first sector here is `sector`): what holds data grows to the next
 * multiple, what is zero shrinks to the one before. Returns true for data; the length lands in `found`.
 */
function stretch(at: usize, sectors: u32, sector: u32, alignment: u32): bool {
  let zero = isZero(at, SECTOR);
  let n: u32 = 1;
  for (at += SECTOR; n < sectors && isZero(at, SECTOR) == zero; at += SECTOR) n++;
  if (n == sectors) {
    found = n;
    return !zero;
  }
  const tail = (sector + n) & (alignment - 1);
  if (tail != 0) {
    if (zero && n <= tail) zero = false;
    if (zero) n -= tail;
    else n += alignment - tail;
  }
  found = min<u32>(n, sectors);
  return !zero;
}

/**
 * Sectors worth storing among `sectors` sectors of 512 bytes at `at`, which begin at sector `sector` of a disk (modulo
 * 2^32 is enough): pairs (first, count) in the out area; returns the number of pairs. Zeros are left out where at least
 * `least` sectors in a row are zero; pieces begin and end at multiples of `alignment` (a power of two). The rule is
 * that of qemu-img convert 7.2, found by observing it.
 */
export function storedSectors(at: usize, sectors: u32, sector: u32, least: u32, alignment: u32): u32 {
  const most: u32 = (OUT_BYTES >> 3) as u32;
  let pairs: u32 = 0;
  let i: u32 = 0;
  while (i < sectors && pairs < most) {
    const enough = min<u32>(least, sectors - i);
    if (!stretch(at + ((i as usize) << 9), sectors - i, sector + i, alignment)) {
      i += found;
      continue;
    }
    let checked: u32 = found;
    let used: u32 = found;
    while (i + checked < sectors) {
      const p = i + checked;
      const data = stretch(at + ((p as usize) << 9), sectors - p, sector + p, alignment);
      checked += found;
      if (data) used = checked;
      else if (found >= enough) break;
    }
    const to = OUT + ((pairs as usize) << 3);
    store<u32>(to, i);
    store<u32>(to, used, 4);
    pairs++;
    i += used;
  }
  return pairs;
}
