import { Kernel, type Slot } from "../../../kernel/kernel.ts";

/** Number of an entry that has no name in its leaf. */
export const UNPLACED = 0xffffffff;
/** Leaves of one directory that the kernel's memory holds tables for. */
export const MOST_LEAVES = 1 << 19;

const JOB_BYTES = 128;
const JOB = {
  key: 0,
  length: 8,
  version: 12,
  seed: 16,
  next: 32,
  leaves: 40,
  bounds: 44,
  buckets: 48,
  shift: 52,
  needs: 56,
  left: 60,
  folded: 64,
} as const;
/** Draws of one call. */
const ROUND = 1 << 17;
/** Draws a class may take: far more than a healthy index ever needs. */
const DRAWS_A_LEAF = 400;
const DRAWS_A_NAME = 64;
const DRAWS = 1 << 16;

/** The names of a directory, leaf by leaf in the order of their hashes. */
export interface LeafNames {
  /** Length of each name. */
  readonly lengths: Uint8Array;
  /** Index of each leaf's first name, and the number of names at the end. */
  readonly starts: Uint32Array;
  /** Lowest hash of each leaf. */
  readonly bounds: ArrayLike<number>;
  readonly version: number;
  /** Four words. */
  readonly seed: Uint32Array;
  readonly key: readonly [number, number];
  /** Only lower-case ASCII will do. */
  readonly folded: boolean;
}

/**
 * Finds a number for every name such that it hashes into its leaf: names of each length are drawn in turn
 * and dropped into whichever leaf still needs one. Returns the numbers, UNPLACED where a length ran out of
 * names.
 */
export function placeNames(names: LeafNames): { numbers: Uint32Array; unplaced: number } {
  const kernel = Kernel.get();
  const leaves = names.bounds.length;
  const bits = Math.max(1, Math.ceil(Math.log2(leaves)));
  const slots: Slot[] = [];
  const take = (words: number): [Slot, Uint32Array] => {
    const slot = kernel.take(words * 4);
    slots.push(slot);
    return [slot, new Uint32Array(slot.bytes.buffer, slot.bytes.byteOffset, words)];
  };
  try {
    const [boundsAt, bounds] = take(leaves);
    bounds.set(names.bounds);
    const [bucketsAt, buckets] = take(1 << bits);
    for (let b = 0, leaf = 0; b < buckets.length; b++) {
      const start = b * 2 ** (32 - bits);
      while (leaf + 1 < leaves && bounds[leaf + 1] <= start) leaf++;
      buckets[b] = leaf;
    }
    const [needsAt, needs] = take(leaves);
    needs.fill(0);
    const [jobAt, job] = take(JOB_BYTES / 4);
    job[JOB.key / 4] = names.key[0];
    job[JOB.key / 4 + 1] = names.key[1];
    job[JOB.version / 4] = names.version;
    job.set(names.seed, JOB.seed / 4);
    job[JOB.leaves / 4] = leaves;
    job[JOB.bounds / 4] = boundsAt.at;
    job[JOB.buckets / 4] = bucketsAt.at;
    job[JOB.shift / 4] = 32 - bits;
    job[JOB.needs / 4] = needsAt.at;
    job[JOB.folded / 4] = names.folded ? 1 : 0;
    return place(names, kernel, jobAt, job, needs);
  } finally {
    for (const slot of slots) kernel.give(slot);
  }
}

function place(
  names: LeafNames,
  kernel: Kernel,
  jobAt: Slot,
  job: Uint32Array,
  needs: Uint32Array,
): { numbers: Uint32Array; unplaced: number } {
  const { lengths, starts } = names;
  const total = lengths.length;
  const numbers = new Uint32Array(total);
  const { order, first } = byLength(lengths);
  const nextName = new Uint32Array(needs.length);
  const next = new Float64Array(jobAt.bytes.buffer, jobAt.bytes.byteOffset + JOB.next, 1);
  let unplaced = 0;
  for (let length = 1; length < 256; length++) {
    const from = first[length];
    const to = first[length + 1];
    if (from === to) continue;
    let leaf = 0;
    let lastLeaf = -1;
    for (let i = from; i < to; i++) {
      while (starts[leaf + 1] <= order[i]) leaf++;
      if (leaf !== lastLeaf) nextName[leaf] = i;
      needs[leaf]++;
      lastLeaf = leaf;
    }
    job[JOB.length / 4] = length;
    job[JOB.left / 4] = to - from;
    next[0] = 0;
    const most = Math.min(
      kernel.raw.nameCount(length, job[JOB.folded / 4]),
      DRAWS + DRAWS_A_LEAF * needs.length + DRAWS_A_NAME * (to - from),
    );
    while (job[JOB.left / 4] > 0 && next[0] < most) {
      const pairs = kernel.raw.drawNames(jobAt.at, ROUND) >>> 0;
      const { out } = kernel;
      for (let i = 0; i < pairs * 2; i += 2) numbers[order[nextName[out[i]]++]] = out[i + 1];
    }
    if (job[JOB.left / 4] === 0) continue;
    for (leaf = 0; leaf < needs.length; leaf++)
      for (; needs[leaf] > 0; needs[leaf]--) {
        numbers[order[nextName[leaf]++]] = UNPLACED;
        unplaced++;
      }
  }
  return { numbers, unplaced };
}

/** Indexes of names ordered by length, then by place; and where each length starts. */
function byLength(lengths: Uint8Array): { order: Uint32Array; first: Uint32Array } {
  const first = new Uint32Array(257);
  for (let i = 0; i < lengths.length; i++) first[lengths[i] + 1]++;
  for (let n = 1; n < 257; n++) first[n] += first[n - 1];
  const at = first.slice(0, 256);
  const order = new Uint32Array(lengths.length);
  for (let i = 0; i < lengths.length; i++) order[at[lengths[i]]++] = i;
  return { order, first };
}
