import { DATA, type MapRuns } from "../bytes/runs.ts";
import { IoError } from "../errors.ts";
import { Pace } from "../io/pace.ts";
import type { Source } from "../io/source.ts";
import { Kernel } from "../kernel/kernel.ts";
import type { JobOptions } from "./api.ts";
import { checkAborted } from "./copy/copier.ts";

const PIECE = 512 * 1024;

/** What comparing two sources found. */
export interface Comparison {
  /** Same bytes; where sizes differ, the longer one's tail is all zeros. */
  readonly identical: boolean;
  /** First byte that differs, or -1. */
  readonly offset: number;
  readonly sizeDiffers: boolean;
}

/** Where a source stores something, walked in step with another. */
class Cursor {
  private readonly source: Source;
  private batch: MapRuns | null = null;
  private run = 0;
  constructor(source: Source) {
    this.source = source;
  }
  /** State at byte `at` and where it ends; past the source's end: hole to infinity. */
  async look(at: number): Promise<{ data: boolean; end: number }> {
    if (at >= this.source.size) return { data: false, end: Number.POSITIVE_INFINITY };
    if (this.batch === null || at >= this.batch.end) {
      const r = this.source.map(at, this.source.size);
      this.batch = r instanceof Promise ? await r : r;
      this.run = 0;
    }
    const b = this.batch;
    while (this.run < b.count - 1 && at >= b.at[this.run] + b.length[this.run]) this.run++;
    return { data: b.state[this.run] === DATA, end: b.at[this.run] + b.length[this.run] };
  }
}

async function readAll(source: Source, into: Uint8Array, at: number): Promise<void> {
  const want = Math.max(0, Math.min(into.length, source.size - at));
  if (want > 0) {
    const r = source.read(into.subarray(0, want), at);
    const n = r instanceof Promise ? await r : r;
    if (n !== want)
      throw new IoError("ESHORT", `${source.label}: ends at byte ${at + n} of ${source.size}`, at + n);
  }
  into.fill(0, want);
}

/** Options of `compare`. */
export interface CompareOptions extends JobOptions {
  /** Compare only what `a` stores: elsewhere `b` may hold anything. */
  readonly storedOnly?: boolean;
  /** Bytes to compare; all by default. */
  readonly length?: number;
}

/** Compares the content of two sources, skipping what both know to be zero. A shorter source counts as zeros. */
export async function compare(a: Source, b: Source, options: CompareOptions = {}): Promise<Comparison> {
  const size = Math.min(Math.max(a.size, b.size), options.length ?? Number.POSITIVE_INFINITY);
  const sizeDiffers = a.size !== b.size;
  const kernel = Kernel.get();
  const left = kernel.take(PIECE);
  const right = kernel.take(PIECE);
  const ca = new Cursor(a);
  const cb = new Cursor(b);
  let at = 0;
  const pace = new Pace(() => options.onProgress?.({ phase: "verify", done: at, total: size }));
  try {
    while (at < size) {
      checkAborted(options.signal);
      const sa = await ca.look(at);
      const sb = await cb.look(at);
      let end = Math.min(sa.end, sb.end, size);
      if (sa.data || (sb.data && !options.storedOnly)) {
        end = Math.min(end, at + PIECE);
        const n = end - at;
        if (sa.data) await readAll(a, left.bytes.subarray(0, n), at);
        if (sb.data) await readAll(b, right.bytes.subarray(0, n), at);
        let where = -1;
        if (sa.data && sb.data) where = kernel.firstDifference(left.at, right.at, n);
        else {
          const one = sa.data ? left : right;
          if (!kernel.isZero(one.at, n)) where = one.bytes.subarray(0, n).findIndex((v) => v !== 0);
        }
        if (where >= 0) return { identical: false, offset: at + where, sizeDiffers };
      }
      at = end;
      const wait = pace.step();
      if (wait !== undefined) await wait;
    }
    return { identical: true, offset: -1, sizeDiffers };
  } finally {
    kernel.give(left);
    kernel.give(right);
  }
}
