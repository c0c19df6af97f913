import { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";

/** Entries an index holds at most, unless told: 24 bytes each. */
const MOST_ENTRIES = 1 << 20;
/** Bytes of the image that become one entry at least when an index is full. */
const LEAST_FOLD = 64 * 1024;

/**
 * Which clusters an image stores, and where: runs of clusters whose commands follow each other, in the order of the image. A full
 * index is folded: neighbours that are small become one entry, which only says where to read them again.
 */
export class RunIndex {
  count = 0;
  /** First cluster of each entry, and the byte of the image where its first command is. */
  lcn = new Float64Array(1024);
  at = new Float64Array(1024);
  /** Clusters of the run; FOLDED for an entry that stands for several runs. */
  clusters = new Float64Array(1024);
  /** Whether some entry stands for several runs. */
  folded = false;
  private readonly stride: number;
  private readonly most: number;
  private fold = LEAST_FOLD / 2;

  /** `stride`: bytes from one command of a run to the next; `most`: entries it holds. */
  constructor(stride: number, most: number = MOST_ENTRIES) {
    this.stride = stride;
    this.most = most;
  }

  /** Appends a run; one that continues the last is joined to it. */
  push(lcn: number, at: number, clusters: number): void {
    const p = this.count - 1;
    if (
      p >= 0 &&
      this.clusters[p] !== FOLDED &&
      this.lcn[p] + this.clusters[p] === lcn &&
      this.at[p] + this.clusters[p] * this.stride === at
    ) {
      this.clusters[p] += clusters;
      return;
    }
    if (this.count === this.most) this.foldUp();
    if (this.count === this.lcn.length) {
      const wider = (a: Float64Array): Float64Array<ArrayBuffer> => {
        const b = new Float64Array(Math.min(a.length * 2, Math.max(this.most, a.length)));
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

  get full(): boolean {
    return this.count === this.most;
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

  /** Number of the last entry that begins at or before cluster `lcn`; -1 where there is none. Only for runs in order. */
  findStart(lcn: number): number {
    let lo = 0;
    let hi = this.count;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (this.lcn[mid] <= lcn) lo = mid + 1;
      else hi = mid;
    }
    return lo - 1;
  }

  /**
   * Leaves out the upper half of the clusters it has: about half of the runs. Returns the first cluster that is left out; what
   * reaches beyond it is cut.
   */
  halve(): number {
    const order = this.lcn.slice(0, this.count).sort();
    let limit = order[this.count >>> 1];
    // Where most runs begin with one cluster, that one has to stay.
    if (limit === order[0]) limit++;
    let kept = 0;
    for (let i = 0; i < this.count; i++) {
      if (this.lcn[i] >= limit) continue;
      this.lcn[kept] = this.lcn[i];
      this.at[kept] = this.at[i];
      this.clusters[kept++] = Math.min(this.clusters[i], limit - this.lcn[i]);
    }
    this.count = kept;
    return limit;
  }

  /** The same clusters in ascending order; where several runs have one, the last of them counts. */
  resolved(limit: number): RunIndex {
    const taken = new BlockSet(limit);
    const inside = new ExtentList();
    const parts = new RunIndex(this.stride, Number.POSITIVE_INFINITY);
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
    const out = new RunIndex(this.stride, Number.POSITIVE_INFINITY);
    for (const i of order) out.push(parts.lcn[i], parts.at[i], parts.clusters[i]);
    return out;
  }

  /** Makes room: entries that are neighbours in the image become one where they take few bytes there, but for the last. */
  private foldUp(): void {
    const { lcn, at, clusters } = this;
    while (this.count > this.most / 2) {
      this.fold *= 2;
      const last = this.count - 1;
      let kept = 0;
      for (let i = 0; i < last; kept++) {
        let end = i + 1;
        while (end < last && at[end + 1] - at[i] <= this.fold) end++;
        lcn[kept] = lcn[i];
        at[kept] = at[i];
        clusters[kept] = end === i + 1 ? clusters[i] : FOLDED;
        i = end;
      }
      lcn[kept] = lcn[last];
      at[kept] = at[last];
      clusters[kept] = clusters[last];
      this.count = kept + 1;
    }
    this.folded = true;
  }
}

/** In the place of a number of clusters: several runs. */
export const FOLDED = 0;
