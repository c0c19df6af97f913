import { Kernel } from "../../../kernel/kernel.ts";
import { UNPLACED } from "./placement.ts";

/** Flags of listNames and rewriteNames (assembly/sanitize-names.ts). */
export const TYPED = 1;
export const ROOT = 2;
export const CHECKSUM_TAIL = 4;
export const HASHED = 8;
export const KEEP_NAMES = 16;
export const FOLDED = 32;
export const GO_ON = 64;
/** Not for the kernel: the block held a piece of an index that was given up. */
export const UNINDEXED = 0x100;
export const KERNEL_FLAGS = 0xff;

/** Counts off numbers of names in a directory without an index: the next one of each length. */
export class NameCounter {
  private readonly used = new Float64Array(256);
  private readonly folded: boolean;
  private readonly key: readonly [number, number];
  private readonly kernel = Kernel.get();

  constructor(folded: boolean, key: readonly [number, number]) {
    this.folded = folded;
    this.key = key;
  }

  /** Number of the next name of `length`; UNPLACED where there are no more. */
  next(length: number): number {
    const plain = 16 ** Math.min(length, 8);
    let k = this.used[length];
    if (k >= plain) k = this.beyond(length, k);
    this.used[length] = k + 1;
    return k === UNPLACED ? UNPLACED : k;
  }

  /** The first number from `k` on that has a name. */
  private beyond(length: number, k: number): number {
    const { kernel } = this;
    const count = kernel.raw.nameCount(length, this.folded ? 1 : 0);
    return kernel.borrow(length + 16, (slot) => {
      for (; k < count; k++)
        if (kernel.raw.nameAt(slot.at, length, this.key[0], this.key[1], k) !== 0) return k;
      return UNPLACED;
    });
  }
}
