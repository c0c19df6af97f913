// The memory map. Memory is sized once (asconfig.json: initialMemory = maximumMemory) and never grows. Static data, of
// which there is next to none, lies below TABLES; pages nobody touches cost nothing.

/** Lookup tables of the kernels, built at first use. */
export const CRC32C_TABLES: usize = 0x10000;
export const CRC16_TABLES: usize = 0x14000;

/** Working storage of crc32c (12 KiB). */
export const CRC32C_SCRATCH: usize = 0x18000;

/** Working storage of the directory hash and the name kernels (16 KiB). */
export const NAME_SCRATCH: usize = 0x20000;

/** Results that are lists. */
export const OUT: usize = 0x100000;
export const OUT_BYTES: usize = 0x100000;

/** What the host hands out in slots: room for a hundred jobs at once. All memory stays below 64 MiB:
 * where more is outside its heap, V8 begins to collect garbage, which costs a small job 5 ms. */
export const ARENA: usize = 0x200000;
export const ARENA_BYTES: usize = 0x3800000;

export function outAddress(): usize {
  return OUT;
}

/** Length of the out area in u32 words. */
export function outWords(): usize {
  return OUT_BYTES >> 2;
}

export function arenaAddress(): usize {
  return ARENA;
}

/** Length of the arena in bytes. */
export function arenaLength(): usize {
  return ARENA_BYTES;
}
