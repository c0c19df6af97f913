/** Sets bits [from, to) of a little-endian bitmap: bit i is bit i % 8 of byte i / 8. */
export function setBits(bitmap: Uint8Array, from: number, to: number): void {
  while (from < to && from % 8 !== 0) setBit(bitmap, from++);
  while (to > from && to % 8 !== 0) setBit(bitmap, --to);
  bitmap.fill(0xff, from / 8, to / 8);
}

function setBit(bitmap: Uint8Array, bit: number): void {
  bitmap[bit >>> 3] |= 1 << (bit & 7);
}
