import { Kernel } from "../../kernel/kernel.ts";

/** Name lengths there are. */
export const NAME_LENGTHS = 256;
/** Bytes handed to the kernel at once: whole blocks of any size, and few enough for its out area. */
const PIECE = 256 * 1024;

/**
 * Rewrites the names in directory blocks as `e2image -s` does: a name of n bytes becomes the next one of "A...",
 * "BA...", in base 26 from the left, counted for each length over the whole volume, so that blocks have to come in
 * the native order. Slack behind names is zeroed, checksums and hash trees in it included. A record that is corrupt
 * ends its block (the rest stays as it is), as in native code.
 */
export class NameScrambler {
  /** How many names of each length there were so far: 256 numbers. */
  readonly counters = new Uint32Array(NAME_LENGTHS);
  private readonly blockSize: number;
  private readonly onCorrupt: (block: number, line: string) => void;

  /** `onCorrupt` is told of corrupt entries in order: the block's number and native's line, without its end. */
  constructor(blockSize: number, onCorrupt: (block: number, line: string) => void = () => {}) {
    this.blockSize = blockSize;
    this.onCorrupt = onCorrupt;
  }

  /** Rewrites whole directory blocks that follow each other, the first numbered `first`. */
  scramble(bytes: Uint8Array, first: number): void {
    const kernel = Kernel.get();
    const bs = this.blockSize;
    kernel.borrow(Math.min(bytes.length, PIECE), (slot) =>
      kernel.borrow(NAME_LENGTHS * 4, (count) => {
        const counters = new Uint32Array(count.bytes.buffer, count.bytes.byteOffset, NAME_LENGTHS);
        counters.set(this.counters);
        for (let at = 0; at < bytes.length; at += slot.bytes.length) {
          const piece = bytes.subarray(at, at + slot.bytes.length);
          slot.bytes.set(piece);
          const found = kernel.raw.scrambleNames(slot.at, bs, piece.length / bs, count.at) >>> 0;
          piece.set(piece.length === slot.bytes.length ? slot.bytes : slot.bytes.subarray(0, piece.length));
          for (let i = 0; i < found; i++) {
            const block = first + at / bs + kernel.out[3 * i];
            const what = kernel.out[3 * i + 1] === 0 ? "rec_len" : "name_len";
            this.onCorrupt(block, `Corrupt directory block ${block}: bad ${what} (${kernel.out[3 * i + 2]})`);
          }
        }
        this.counters.set(counters);
      }),
    );
  }
}
