import { IoError } from "../errors.ts";
import { Pace } from "../io/pace.ts";
import type { Source } from "../io/source.ts";
import { Kernel, type Slot } from "../kernel/kernel.ts";
import type { JobOptions } from "./api.ts";
import { ComparePlan, PIECE, Pieces, ZEROS } from "./compare-pieces.ts";
import { checkAborted } from "./copy/copier.ts";

/** What comparing two sources found. */
export interface Comparison {
  /** Same bytes; where sizes differ, the longer one's tail is all zeros. */
  readonly identical: boolean;
  /** First byte that differs, or -1. */
  readonly offset: number;
  readonly sizeDiffers: boolean;
}

/**
 * Fills the front of a slot with bytes [at, at + length) of a source, zeros past its end. A promise where it is one.
 */
function readSide(source: Source, slot: Slot, at: number, length: number): Promise<void> | null {
  const want = Math.max(0, Math.min(length, source.size - at));
  slot.bytes.fill(0, want, length);
  if (want === 0) return null;
  const r = source.read(want === slot.bytes.length ? slot.bytes : slot.bytes.subarray(0, want), at);
  const check = (n: number): void => {
    if (n !== want)
      throw new IoError("ESHORT", `${source.label}: ends at byte ${at + n} of ${source.size}`, at + n);
  };
  if (r instanceof Promise) return r.then(check);
  check(r);
  return null;
}

/** Options of `compare`. */
export interface CompareOptions extends JobOptions {
  /** Compare only what `a` stores: elsewhere `b` may hold anything. */
  readonly storedOnly?: boolean;
  /** Bytes to compare; all by default. */
  readonly length?: number;
}

/**
 * Compares the content of two sources, skipping what both know to be zero. A shorter source counts as zeros. The host's
 * comparer, where there is one, goes ahead over large stretches of plain bytes; what it does not find the same is
 * compared here, where differences are placed and errors have their names.
 */
export async function compare(a: Source, b: Source, options: CompareOptions = {}): Promise<Comparison> {
  const size = Math.min(Math.max(a.size, b.size), options.length ?? Number.POSITIVE_INFINITY);
  const sizeDiffers = a.size !== b.size;
  const { signal, comparer } = options;
  const kernel = Kernel.get();
  const left = kernel.take(PIECE);
  const right = kernel.take(PIECE);
  const plan = new ComparePlan(a, b, size, options.storedOnly ?? false);
  const pieces = new Pieces();
  /** Byte up to which both are known to be the same. */
  let done = 0;
  const check = (): void => {
    checkAborted(signal);
    if (pieces.count === 0) done = plan.at;
    options.onProgress?.({ phase: "verify", done, total: size });
  };
  const pace = new Pace(check);
  /** First byte of piece `i` that differs, or -1. */
  const differs = async (i: number): Promise<number> => {
    const at = pieces.guest[i];
    const n = pieces.length[i];
    const zerosA = pieces.fdA[i] === ZEROS;
    const zerosB = pieces.fdB[i] === ZEROS;
    const reading = zerosA ? null : readSide(a, left, at, n);
    if (reading !== null) await reading;
    const second = zerosB ? null : readSide(b, right, at, n);
    if (second !== null) await second;
    let where: number;
    if (zerosA || zerosB) {
      const one = zerosA ? right : left;
      where = kernel.isZero(one.at, n) ? -1 : one.bytes.subarray(0, n).findIndex((v) => v !== 0);
    } else where = kernel.firstDifference(left.at, right.at, n);
    return where < 0 ? -1 : at + where;
  };
  try {
    checkAborted(signal);
    while (await plan.fill(pieces, pace)) {
      done = Math.max(done, pieces.guest[0]);
      if (comparer !== undefined && pieces.plainBytes >= comparer.worthFrom)
        await comparer.run(pieces, (same) => {
          if (same > 0) done = pieces.guest[same - 1] + pieces.length[same - 1];
          check();
        });
      for (let i = 0; i < pieces.count; i++) {
        if (pieces.same[i] === 0) {
          checkAborted(signal);
          const offset = await differs(i);
          if (offset >= 0) return { identical: false, offset, sizeDiffers };
          const wait = pace.step();
          if (wait !== undefined) await wait;
        }
        done = pieces.guest[i] + pieces.length[i];
      }
    }
    return { identical: true, offset: -1, sizeDiffers };
  } finally {
    kernel.give(left);
    kernel.give(right);
  }
}
