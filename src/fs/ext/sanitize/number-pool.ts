const PAGE = 1 << 18;

/** Numbers of names, block by block; the numbers of one block lie together. */
export class NumberPool {
  private readonly pages: Uint32Array[] = [];
  private used = PAGE;

  /** Room for `n` numbers (at most PAGE): where they start. */
  take(n: number): number {
    if (this.used + n > PAGE) {
      this.pages.push(new Uint32Array(PAGE));
      this.used = 0;
    }
    const at = (this.pages.length - 1) * PAGE + this.used;
    this.used += n;
    return at;
  }

  /** `n` numbers from `at` of `take`; a view. */
  view(at: number, n: number): Uint32Array {
    const page = this.pages[Math.floor(at / PAGE)];
    const from = at % PAGE;
    return page.subarray(from, Math.min(from + n, PAGE));
  }
}
