/** Bytes left out the first time, and the most. */
const FIRST_SKIP = 64 * 1024;
const MOST_SKIP = 256 * 1024 * 1024;

/** When the rest of a bad stretch is left out. */
export interface SkipRule {
  /** After so many failures in a row, each time. */
  readonly failures?: number;
  /** After failures that took so many milliseconds together, and after each one then. */
  readonly patience?: number;
}

/** Says what to leave out of a bad stretch: nothing at first, then more and more until something can be read again. */
export class SkipAhead {
  private readonly failures: number;
  private readonly patience: number;
  private inRow = 0;
  private spent = 0;
  private skip = FIRST_SKIP;
  private from = 0;
  private to = 0;

  constructor(rule: SkipRule) {
    this.failures = rule.failures ?? Number.POSITIVE_INFINITY;
    this.patience = rule.patience ?? Number.POSITIVE_INFINITY;
  }

  /** Whether byte `at` is left out. */
  over(at: number): boolean {
    return at >= this.from && at < this.to;
  }

  /** A sector could not be read, which took `ms` milliseconds. Returns how many bytes behind it should be left out. */
  failed(ms: number): number {
    this.spent += ms;
    if (++this.inRow < this.failures && this.spent < this.patience) return 0;
    this.inRow = 0;
    const { skip } = this;
    this.skip = Math.min(skip * 2, MOST_SKIP);
    return skip;
  }

  /** Leaves out the bytes [from, to). */
  leave(from: number, to: number): void {
    this.from = from;
    this.to = to;
  }

  /** A sector could be read. */
  read(): void {
    this.inRow = 0;
  }

  /** So much could be read at once that the stretch is over. */
  recovered(): void {
    this.inRow = 0;
    this.spent = 0;
    this.skip = FIRST_SKIP;
  }
}
