import type { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";

/** Runs fetched from the set at a time. */
const FETCH = 4096;

/** Cuts a set of clusters into spans of equal length and gives each span's runs as packers want them. */
export class Spans {
  /** First cluster of the span at hand. */
  base = 0;
  /** Pairs (first, number) relative to `base`. */
  runs = new Uint32Array(128);
  count = 0;
  private readonly set: BlockSet;
  private readonly span: number;
  private readonly list = new ExtentList();
  private at = 0;
  private from = 0;
  /** Clusters of list run `at` that were given out already end here. */
  private given = 0;

  /** `span`: clusters. */
  constructor(set: BlockSet, span: number) {
    this.set = set;
    this.span = span;
  }

  /** Moves to the next span that holds anything; false at the end. */
  next(): boolean {
    this.count = 0;
    let end = 0;
    for (;;) {
      if (this.at === this.list.count) {
        if (!this.fetch()) return this.count > 0;
      }
      const from = Math.max(this.list.start(this.at), this.given);
      const to = this.list.end(this.at);
      if (this.count === 0) {
        this.base = Math.floor(from / this.span) * this.span;
        end = this.base + this.span;
      } else if (from >= end) return true;
      const last = Math.min(to, end);
      this.push(from - this.base, last - from);
      this.given = last;
      if (last === to) this.at++;
      else return true;
    }
  }

  private fetch(): boolean {
    this.list.clear();
    this.at = 0;
    while (this.list.count === 0 && this.from < this.set.limit)
      this.from = this.set.runs(this.from, this.set.limit, this.list, FETCH);
    return this.list.count > 0;
  }

  private push(first: number, number: number): void {
    const n = 2 * this.count;
    // Runs that the set cut at a page go on.
    if (n > 0 && this.runs[n - 2] + this.runs[n - 1] === first) {
      this.runs[n - 1] += number;
      return;
    }
    if (n === this.runs.length) {
      const wider = new Uint32Array(n * 2);
      wider.set(this.runs);
      this.runs = wider;
    }
    this.runs[n] = first;
    this.runs[n + 1] = number;
    this.count++;
  }
}
