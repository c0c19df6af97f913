import { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { UnsupportedError } from "../../errors.ts";

/** Runs an index holds at most: 24 bytes each. */
const MOST_RUNS = 4_000_000;

/** Which clusters an image stores, and where: runs of clusters whose commands follow each other. */
export class RunIndex {
  count = 0;
  /** First cluster of each run, the byte of the image where its first command is, and its clusters. */
  lcn = new Float64Array(1024);
  at = new Float64Array(1024);
  clusters = new Float64Array(1024);
  private readonly stride: number;

  /** `stride`: bytes from one command of a run to the next. */
  constructor(stride: number) {
    this.stride = stride;
  }

  /** Appends a run; one that continues the last is joined to it. Throws UnsupportedError past some millions. */
  push(lcn: number, at: number, clusters: number): void {
    const p = this.count - 1;
    if (
      p >= 0 &&
      this.lcn[p] + this.clusters[p] === lcn &&
      this.at[p] + this.clusters[p] * this.stride === at
    ) {
      this.clusters[p] += clusters;
      return;
    }
    if (this.count === MOST_RUNS)
      throw new UnsupportedError(
        `ntfsclone image: more than ${MOST_RUNS} pieces; restore it to a file and open that`,
        "ELIMIT",
      );
    if (this.count === this.lcn.length) {
      const wider = (a: Float64Array): Float64Array<ArrayBuffer> => {
        const b = new Float64Array(Math.min(a.length * 2, MOST_RUNS));
        b.set(a);
        return b;
      };
      this.lcn = wider(this.lcn);
      this.at = wider(this.at);
      this.clusters = wider(this.clusters);
    }
    const i = this.count++;
    this.lcn[i] = lcn;
    this.at[i] = at;
    this.clusters[i] = clusters;
  }

  /** Number of the first run that ends behind cluster `lcn`; `count` where there is none. Only for runs in order. */
  find(lcn: number): number {
    let lo = 0;
    let hi = this.count;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (this.lcn[mid] + this.clusters[mid] <= lcn) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  }

  /** The same clusters in ascending order; where several runs have one, the last of them counts. */
  resolved(limit: number): RunIndex {
    const taken = new BlockSet(limit);
    const inside = new ExtentList();
    const parts = new RunIndex(this.stride);
    for (let i = this.count - 1; i >= 0; i--) {
      const from = this.lcn[i];
      const to = from + this.clusters[i];
      inside.clear();
      taken.runs(from, to, inside);
      let free = from;
      for (let k = 0; k <= inside.count; k++) {
        const until = k < inside.count ? inside.start(k) : to;
        if (until > free) parts.push(free, this.at[i] + (free - from) * this.stride, until - free);
        if (k < inside.count) free = inside.end(k);
      }
      taken.add(from, to);
    }
    const order = new Uint32Array(parts.count);
    for (let i = 0; i < order.length; i++) order[i] = i;
    order.sort((a, b) => parts.lcn[a] - parts.lcn[b]);
    const out = new RunIndex(this.stride);
    for (const i of order) out.push(parts.lcn[i], parts.at[i], parts.clusters[i]);
    return out;
  }
}
