import { OUT, OUT_BYTES } from "./arena";

/** True where `length` bytes at `at` are all zero. */
export function isZero(at: usize, length: usize): bool {
  const end = at + length;
  if (length < 16) {
    for (; at + 8 <= end; at += 8) if (load<u64>(at) != 0) return false;
    for (; at < end; at++) if (load<u8>(at) != 0) return false;
    return true;
  }
  // Data mostly shows in its first bytes; the last 16 cover what the wide loops leave over.
  if (v128.any_true(v128.or(v128.load(at), v128.load(end - 16)))) return false;
  for (; at + 128 <= end; at += 128) {
    const a = v128.or(v128.load(at), v128.load(at, 16));
    const b = v128.or(v128.load(at, 32), v128.load(at, 48));
    const c = v128.or(v128.load(at, 64), v128.load(at, 80));
    const d = v128.or(v128.load(at, 96), v128.load(at, 112));
    if (v128.any_true(v128.or(v128.or(a, b), v128.or(c, d)))) return false;
  }
  for (; at + 16 <= end; at += 16) if (v128.any_true(v128.load(at))) return false;
  return true;
}

/** Runs of blocks that hold something, as pairs (first, count) in the out area; returns the number of pairs. */
export function nonzeroRuns(at: usize, blockSize: usize, blocks: u32): u32 {
  const most: u32 = (OUT_BYTES >> 3) as u32;
  let pairs: u32 = 0;
  let block: u32 = 0;
  while (block < blocks) {
    while (block < blocks && isZero(at, blockSize)) {
      block++;
      at += blockSize;
    }
    if (block == blocks || pairs == most) break;
    const first = block;
    do {
      block++;
      at += blockSize;
    } while (block < blocks && !isZero(at, blockSize));
    const to = OUT + ((pairs as usize) << 3);
    store<u32>(to, first);
    store<u32>(to, block - first, 4);
    pairs++;
  }
  return pairs;
}
