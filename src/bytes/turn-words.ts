import { Kernel } from "../kernel/kernel.ts";

/** Words from which the kernel pays for copying them there and back. */
const MANY = 1024;
/** Words turned at a time. */
const PIECE = 65536;

/** Turns the bytes of each word around, in place: big-endian words into the host's, and back. */
export function turnWords(words: Uint32Array): void {
  if (words.length < MANY) {
    for (let i = 0; i < words.length; i++) {
      const v = words[i];
      if (v !== 0) words[i] = (v >>> 24) | ((v >>> 8) & 0xff00) | ((v << 8) & 0xff0000) | (v << 24);
    }
    return;
  }
  const kernel = Kernel.get();
  kernel.borrow(Math.min(words.length, PIECE) * 4, (slot) => {
    const there = new Uint32Array(slot.bytes.buffer, slot.bytes.byteOffset, slot.bytes.length >>> 2);
    for (let i = 0; i < words.length; i += PIECE) {
      const piece = words.subarray(i, i + PIECE);
      there.set(piece);
      kernel.turnWords(slot.at, piece.length);
      piece.set(there.subarray(0, piece.length));
    }
  });
}
