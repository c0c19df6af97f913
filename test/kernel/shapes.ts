import { Kernel, type Slot } from "../../src/kernel/kernel.ts";
import type { Random } from "../support/random.ts";

/** Lengths around every width a kernel steps by. */
export const LENGTHS = [
  0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 100, 127, 128, 129, 143, 191, 255, 256, 257,
  447, 448, 449, 511, 513, 1000, 1023, 4096, 4099,
];

/** Distances from an aligned address. */
export const OFFSETS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 15, 16, 17];

/** Calls `use` for every length at every offset, with bytes amid a slot whose other bytes are `around`. */
export function everywhere(around: number, use: (at: number, bytes: Uint8Array, slot: Slot) => void): void {
  Kernel.get().borrow(8192, (slot) => {
    for (const length of LENGTHS)
      for (const offset of OFFSETS) {
        slot.bytes.fill(around);
        use(slot.at + 64 + offset, slot.bytes.subarray(64 + offset, 64 + offset + length), slot);
      }
  });
}

/** Contents that bitmaps and data come with: none, all, single bits, few runs, many runs, noise. */
export function contents(bytes: Uint8Array, kind: number, random: Random): void {
  bytes.fill(0);
  if (bytes.length === 0) return;
  if (kind === 1) bytes.fill(255);
  if (kind === 2) bytes[random.below(bytes.length)] = 1 << random.below(8);
  if (kind === 3) {
    bytes.fill(255);
    bytes[random.below(bytes.length)] ^= 1 << random.below(8);
  }
  if (kind === 4)
    for (let i = 0; i < 4; i++) {
      const from = random.below(bytes.length);
      bytes.fill(i & 1 ? 0 : 255, from, from + random.below(bytes.length - from + 1));
      bytes[from] ^= 1 << random.below(8);
    }
  if (kind === 5) random.fill(bytes);
  if (kind === 6)
    for (let i = 0; i < bytes.length; i++) bytes[i] = random.word() & random.word() & random.word();
}

export const KINDS = [0, 1, 2, 3, 4, 5, 6];
