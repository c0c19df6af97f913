import { Kernel } from "../../kernel/kernel.ts";

/** Entries of a run from which the kernel pays for copying them there. */
const LONG = 256;

/**
 * How many L2 entries from number `first` on (up to `last`) are known to be `step` more than the one before each:
 * clusters with the same flags that follow each other in the file. At least 1; of short runs nothing more is said.
 * `words`: pairs, high first.
 */
export function longRun(words: Uint32Array, first: number, last: number, step: number): number {
  if (last - first <= LONG) return 1;
  const low = words[2 * first + 1] + LONG * step;
  const high = words[2 * first] + Math.floor(low / 0x100000000);
  const probe = 2 * (first + LONG);
  if (words[probe] !== high || words[probe + 1] !== low % 0x100000000) return 1;
  const kernel = Kernel.get();
  return kernel.borrow((last - first) * 8, (slot) => {
    const there = new Uint32Array(slot.bytes.buffer, slot.at, (last - first) * 2);
    there.set(words.subarray(2 * first, 2 * last));
    return kernel.raw.countProgression(slot.at, last - first, there[0], there[1], step) >>> 0;
  });
}
