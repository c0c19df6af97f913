import { UnsupportedError } from "../../errors.ts";
import { LIMIT } from "./layout.ts";

// State of the allocator, at the start of the packer's state. Clusters are counted, not bytes.
/** Where the search for free clusters goes on. */
const FREE = 0;
const TABLE = 1;
const TABLE_CLUSTERS = 2;
/** Refcount blocks: highest number in use, plus one. */
const BLOCKS = 3;
/** Used ranges (sorted, apart), pairs. Normally one; a few more once the refcount table has moved. */
const RANGES = 4;
/** Refcount tables left behind, triples: cluster, clusters, entries they had. */
const STALE = 5;
const RANGES_AT = 8;
const MOST_RANGES = 256;
const STALE_AT = RANGES_AT + 2 * MOST_RANGES;
const MOST_STALE = 64;
const BLOCKS_AT = STALE_AT + 3 * MOST_STALE;

/**
 * Decides which clusters of a new image are taken, in qemu's order: free clusters are searched upwards; a
 * refcount block is taken right after the request that first needs it and counts itself; a refcount table
 * that is too small moves, half as large again, behind the next range of a refcount block, and its old
 * clusters become free. A request that meets such a need starts again. Facts: observed on qemu-img 7.2.
 *
 * All that changes lies in `state`, `length` numbers of it.
 */
export class Allocator {
  state: Float64Array;
  readonly length: number;
  /** Clusters that one refcount block counts. */
  readonly perBlock: number;
  private readonly entriesPerCluster: number;
  /** Bits of a refcount. */
  private readonly width: number;

  /** `slots`: refcount blocks to provide for. */
  constructor(clusterSize: number, refcountOrder: number, slots: number) {
    this.width = 2 ** refcountOrder;
    this.perBlock = (clusterSize * 8) / this.width;
    this.entriesPerCluster = clusterSize / 8;
    this.length = BLOCKS_AT + slots;
    this.state = new Float64Array(0);
  }

  /** A new image: header, refcount table and first refcount block are taken. */
  begin(): void {
    const s = this.state;
    s[TABLE] = 1;
    s[TABLE_CLUSTERS] = 1;
    s[BLOCKS] = 1;
    s[BLOCKS_AT] = 2;
    s[RANGES] = 1;
    s[RANGES_AT] = 0;
    s[RANGES_AT + 1] = 3;
    s[FREE] = 3;
  }

  /** Takes `n` clusters in a row; returns the first. */
  take(n: number): number {
    const s = this.state;
    const at = this.next;
    // The usual case: nothing but free space ahead, all of it counted by blocks that exist.
    if (
      s[RANGES] === 1 &&
      this.blockAt(Math.floor(at / this.perBlock)) !== 0 &&
      this.blockAt(Math.floor((at + n - 1) / this.perBlock)) !== 0 &&
      n <= this.perBlock
    ) {
      s[FREE] = s[RANGES_AT + 1] = at + n;
      return at;
    }
    for (;;) {
      const found = this.search(n);
      if (this.mark(found, n)) return found;
    }
  }

  /** Takes up to `n` clusters from exactly `at`, as many as are free there; returns how many. */
  takeAt(at: number, n: number): number {
    for (;;) {
      const free = Math.min(n, this.freeFrom(at));
      if (free === 0 || this.mark(at, free)) return free;
    }
  }

  /** Finds one free cluster and goes on behind it; it is not counted yet: see `share`. */
  find(): number {
    return this.search(1);
  }

  /**
   * Counts clusters [at, at + n), of which the first may be in use already; false where a refcount block had to be made
   * first: then search again.
   */
  share(at: number, n: number): boolean {
    if (this.freeFrom(at) > 0) return this.mark(at, n);
    if (n === 1) return true;
    const done = this.mark(at + 1, n - 1);
    if (!done && this.state[FREE] > at) this.state[FREE] = at;
    return done;
  }

  /** Where `take` finds its clusters while nothing is free before the last taken range. */
  get next(): number {
    return Math.max(this.state[FREE], this.end);
  }

  /**
   * True where requests of up to `n` clusters will follow the last one: no gaps before, nothing taken ahead,
   * and room in the refcount table.
   */
  clear(n: number): boolean {
    const s = this.state;
    return (
      s[FREE] >= s[RANGES_AT + 2 * s[RANGES] - 2] &&
      Math.floor((this.next + 2 * n) / this.perBlock) + 3 < s[TABLE_CLUSTERS] * this.entriesPerCluster
    );
  }

  /** First cluster after all that are taken. */
  get end(): number {
    const s = this.state;
    return s[RANGES_AT + 2 * s[RANGES] - 1];
  }

  get table(): number {
    return this.state[TABLE];
  }

  get tableClusters(): number {
    return this.state[TABLE_CLUSTERS];
  }

  get blocks(): number {
    return this.state[BLOCKS];
  }

  /** Cluster of refcount block `i`, or 0. */
  blockAt(i: number): number {
    return BLOCKS_AT + i < this.length ? this.state[BLOCKS_AT + i] : 0;
  }

  /**
   * Refcount tables left behind whose clusters are still free: calls `each(cluster, index in table,
   * entries)`.
   */
  stale(each: (cluster: number, from: number, entries: number) => void): void {
    const s = this.state;
    for (let i = 0; i < s[STALE]; i++) {
      const at = s[STALE_AT + 3 * i];
      const per = this.entriesPerCluster;
      for (let c = 0; c < s[STALE_AT + 3 * i + 1]; c++)
        if (this.freeFrom(at + c) > 0)
          each(at + c, c * per, Math.max(0, Math.min(per, s[STALE_AT + 3 * i + 2] - c * per)));
    }
  }

  /** Calls `each` for every taken range within [from, to). */
  taken(from: number, to: number, each: (from: number, to: number) => void): void {
    const s = this.state;
    for (let i = 0; i < s[RANGES]; i++) {
      const a = Math.max(s[RANGES_AT + 2 * i], from);
      const b = Math.min(s[RANGES_AT + 2 * i + 1], to);
      if (a < b) each(a, b);
    }
  }

  /** Free clusters from `at` on, 0 where it is taken. */
  private freeFrom(at: number): number {
    const s = this.state;
    for (let i = 0; i < s[RANGES]; i++) {
      if (at < s[RANGES_AT + 2 * i]) return s[RANGES_AT + 2 * i] - at;
      if (at < s[RANGES_AT + 2 * i + 1]) return 0;
    }
    return Number.POSITIVE_INFINITY;
  }

  private search(n: number): number {
    const s = this.state;
    let at = s[FREE];
    for (let i = 0; i < s[RANGES]; i++) {
      if (at + n <= s[RANGES_AT + 2 * i]) break;
      at = Math.max(at, s[RANGES_AT + 2 * i + 1]);
    }
    s[FREE] = at + n;
    return at;
  }

  /**
   * Counts [at, at + n); false where a refcount block had to be made first: then nothing is taken, search
   * again.
   */
  private mark(at: number, n: number): boolean {
    const s = this.state;
    for (let c = at; c < at + n; ) {
      const block = Math.floor(c / this.perBlock);
      const to = Math.min(at + n, (block + 1) * this.perBlock);
      if (this.blockAt(block) === 0) {
        this.makeBlock(c, block);
        if (s[FREE] > at) s[FREE] = at;
        if (c > at) this.release(at, c);
        return false;
      }
      this.set(c, to);
      c = to;
    }
    return true;
  }

  /** Makes refcount block `block`, needed for `cluster`, or the block that its own cluster needs. */
  private makeBlock(cluster: number, block: number): void {
    const s = this.state;
    const at = this.search(1);
    if (Math.floor(at / this.perBlock) === block) this.set(at, at + 1);
    else if (!this.mark(at, 1)) return;
    if (block < s[TABLE_CLUSTERS] * this.entriesPerCluster) this.hook(block, at);
    else this.moveTable(cluster, block, at);
  }

  private hook(block: number, at: number): void {
    const s = this.state;
    if (BLOCKS_AT + block >= this.length) throw new UnsupportedError("qcow2: refcount table too large");
    s[BLOCKS_AT + block] = at;
    if (block >= s[BLOCKS]) s[BLOCKS] = block + 1;
  }

  /** Moves the refcount table behind the range of the last refcount block, with room to grow. */
  private moveTable(cluster: number, block: number, at: number): void {
    const area = Math.ceil(Math.max(cluster + 1, at + 1) / this.perBlock);
    this.placeTable(area * this.perBlock, 0, false, () => this.hook(block, at));
  }

  /**
   * Makes refcount blocks for `additional` clusters from cluster `start` on (free, all of it) and a new refcount table
   * there, no larger than needed. Returns the first cluster behind the table.
   */
  reserve(start: number, additional: number): number {
    return this.placeTable(start, additional, true, () => {});
  }

  /**
   * Puts missing refcount blocks and a new table at `start`; `hook` adds a block that exists but is not in the old one.
   */
  private placeTable(start: number, additional: number, exact: boolean, hook: () => void): number {
    const s = this.state;
    const { perBlock, entriesPerCluster } = this;
    const blocks = this.blocksFor(start + additional, exact);
    const entries = exact ? blocks : blocks + Math.ceil(blocks / 2);
    const clusters = Math.ceil(entries / entriesPerCluster);
    if (clusters * entriesPerCluster * 8 > LIMIT.refcountTable)
      throw new UnsupportedError("qcow2: refcount table too large");
    const old = s[TABLE];
    const oldClusters = s[TABLE_CLUSTERS];
    if (s[STALE] === MOST_STALE) throw new UnsupportedError("qcow2: refcount table moved too often");
    let had = 0;
    while (had < oldClusters * entriesPerCluster && this.blockAt(had) !== 0) had++;
    const p = STALE_AT + 3 * s[STALE]++;
    s[p] = old;
    s[p + 1] = oldClusters;
    s[p + 2] = had;
    hook();
    let next = start;
    for (let i = Math.floor(start / perBlock); i < blocks; i++)
      if (this.blockAt(i) === 0) this.hook(i, next++);
    s[TABLE] = next;
    s[TABLE_CLUSTERS] = clusters;
    this.set(start, next + clusters);
    this.release(old, old + oldClusters);
    if (old < s[FREE]) s[FREE] = old;
    return next + clusters;
  }

  /** Refcount blocks for `clusters` clusters, the blocks and a table: an exact one, or one half as large again. */
  private blocksFor(clusters: number, exact: boolean): number {
    let spare = 0;
    let blocks = 0;
    let table = 0;
    for (let round = 0; round < (exact ? 1 : 2); round++) {
      blocks = 0;
      table = 0;
      for (let last = -1; last !== blocks + table; ) {
        last = blocks + table;
        blocks = Math.ceil((clusters + spare + blocks + table) / this.perBlock);
        table = Math.ceil(blocks / this.entriesPerCluster);
      }
      spare = Math.ceil(table / 2);
    }
    return blocks;
  }

  /** Fills `into` (one cluster) with refcount block `i`. */
  renderBlock(i: number, into: Uint8Array): void {
    const { width, perBlock } = this;
    const first = i * perBlock;
    into.fill(0);
    this.taken(first, first + perBlock, (from, to) => {
      if (width >= 8) {
        const step = width / 8;
        for (let p = (from - first + 1) * step - 1, last = (to - first) * step; p < last; p += step)
          into[p] = 1;
      } else {
        // Entries fill a byte from its low bits.
        for (let c = from - first; c < to - first; c++) into[(c * width) >>> 3] |= 1 << ((c * width) & 7);
      }
    });
  }

  private set(from: number, to: number): void {
    const s = this.state;
    let n = s[RANGES];
    let i = 0;
    while (i < n && s[RANGES_AT + 2 * i + 1] < from) i++;
    if (i < n && s[RANGES_AT + 2 * i] <= to) {
      // Touches range i: widen it, and swallow what it now reaches.
      if (from < s[RANGES_AT + 2 * i]) s[RANGES_AT + 2 * i] = from;
      if (to > s[RANGES_AT + 2 * i + 1]) s[RANGES_AT + 2 * i + 1] = to;
      while (i + 1 < n && s[RANGES_AT + 2 * i + 2] <= s[RANGES_AT + 2 * i + 1]) {
        s[RANGES_AT + 2 * i + 1] = Math.max(s[RANGES_AT + 2 * i + 1], s[RANGES_AT + 2 * i + 3]);
        s.copyWithin(RANGES_AT + 2 * i + 2, RANGES_AT + 2 * i + 4, RANGES_AT + 2 * n);
        n--;
      }
    } else {
      this.room();
      s.copyWithin(RANGES_AT + 2 * i + 2, RANGES_AT + 2 * i, RANGES_AT + 2 * n);
      s[RANGES_AT + 2 * i] = from;
      s[RANGES_AT + 2 * i + 1] = to;
      n++;
    }
    s[RANGES] = n;
  }

  private release(from: number, to: number): void {
    const s = this.state;
    for (let i = 0; i < s[RANGES]; i++) {
      const a = s[RANGES_AT + 2 * i];
      const b = s[RANGES_AT + 2 * i + 1];
      if (b <= from || a >= to) continue;
      if (a < from && b > to) {
        this.room();
        s.copyWithin(RANGES_AT + 2 * i + 2, RANGES_AT + 2 * i, RANGES_AT + 2 * s[RANGES]);
        s[RANGES_AT + 2 * i + 1] = from;
        s[RANGES_AT + 2 * i + 2] = to;
        s[RANGES]++;
      } else if (a < from) s[RANGES_AT + 2 * i + 1] = from;
      else if (b > to) s[RANGES_AT + 2 * i] = to;
      else {
        s.copyWithin(RANGES_AT + 2 * i, RANGES_AT + 2 * i + 2, RANGES_AT + 2 * s[RANGES]);
        s[RANGES]--;
        i--;
      }
    }
  }

  private room(): void {
    if (this.state[RANGES] >= MOST_RANGES)
      throw new UnsupportedError("qcow2: too many gaps between clusters");
  }
}

export { BLOCKS_AT };
