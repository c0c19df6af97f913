/** Sorted, disjoint half-open ranges [start, end) of bytes or blocks, in one typed array. */
export class ExtentList {
  count = 0;
  /** Pairs: start of extent i at 2i, its end at 2i + 1. */
  bounds = new Float64Array(128);

  /** Appends a range at or after the last end; merges it where it touches. */
  push(start: number, end: number): void {
    if (end <= start) return;
    const n = this.count * 2;
    if (n > 0 && this.bounds[n - 1] >= start) {
      if (end > this.bounds[n - 1]) this.bounds[n - 1] = end;
      return;
    }
    if (n === this.bounds.length) {
      const wider = new Float64Array(n * 2);
      wider.set(this.bounds);
      this.bounds = wider;
    }
    this.bounds[n] = start;
    this.bounds[n + 1] = end;
    this.count++;
  }

  start(i: number): number {
    return this.bounds[2 * i];
  }

  end(i: number): number {
    return this.bounds[2 * i + 1];
  }

  /** Sum of the lengths. */
  total(): number {
    let t = 0;
    for (let i = 0; i < this.count; i++) t += this.bounds[2 * i + 1] - this.bounds[2 * i];
    return t;
  }

  clear(): void {
    this.count = 0;
  }
}
