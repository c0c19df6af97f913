/** What a piece's bytes are made from. */
export const STORED = 0;
export const BLOCK_BITMAP = 1;
export const INODE_BITMAP = 2;
export type PieceKind = typeof STORED | typeof BLOCK_BITMAP | typeof INODE_BITMAP;

/**
 * Which bytes of a volume an image has, and from where: pieces [start, end) in ascending order, none overlapping.
 * `origin` is, for STORED, the byte of the image that holds byte `start`; for bitmaps, group x block size + byte in
 * the group's bitmap block.
 */
export class Pieces {
  count = 0;
  starts = new Float64Array(256);
  ends = new Float64Array(256);
  origins = new Float64Array(256);
  kinds = new Uint8Array(256);

  /** Appends a piece; one that continues the last is joined to it. */
  push(start: number, end: number, origin: number, kind: PieceKind): void {
    if (end <= start) return;
    const last = this.count - 1;
    if (
      last >= 0 &&
      this.kinds[last] === kind &&
      this.ends[last] === start &&
      this.origins[last] + (start - this.starts[last]) === origin
    ) {
      this.ends[last] = end;
      return;
    }
    if (this.count === this.starts.length) this.grow();
    const i = this.count++;
    this.starts[i] = start;
    this.ends[i] = end;
    this.origins[i] = origin;
    this.kinds[i] = kind;
  }

  /** Number of the first piece that ends behind `at`; `count` where there is none. */
  find(at: number): number {
    let lo = 0;
    let hi = this.count;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (this.ends[mid] <= at) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  }

  kind(i: number): PieceKind {
    return this.kinds[i] as PieceKind;
  }

  /** The same pieces in order, cut at `limit`. Where several claim a byte the one that was pushed last has it. */
  resolved(limit: number): Pieces {
    const { starts, ends, origins } = this;
    const order = new Uint32Array(this.count);
    for (let i = 0; i < order.length; i++) order[i] = i;
    order.sort((a, b) => starts[a] - starts[b] || a - b);
    const out = new Pieces();
    const open = new Heap();
    let at = 0;
    for (let next = 0; next < order.length || open.size > 0; ) {
      if (open.size === 0) at = starts[order[next]];
      while (next < order.length && starts[order[next]] <= at) open.push(order[next++]);
      while (open.size > 0 && ends[open.top] <= at) open.pop();
      if (open.size === 0) continue;
      const i = open.top;
      const until = next < order.length ? Math.min(ends[i], starts[order[next]]) : ends[i];
      out.push(at, Math.min(until, limit), origins[i] + (at - starts[i]), this.kind(i));
      at = until;
    }
    return out;
  }

  private grow(): void {
    const wider = (a: Float64Array): Float64Array<ArrayBuffer> => {
      const b = new Float64Array(a.length * 2);
      b.set(a);
      return b;
    };
    this.starts = wider(this.starts);
    this.ends = wider(this.ends);
    this.origins = wider(this.origins);
    const kinds = new Uint8Array(this.kinds.length * 2);
    kinds.set(this.kinds);
    this.kinds = kinds;
  }
}

/** Numbers, the largest on top. */
class Heap {
  private readonly items: number[] = [];

  get size(): number {
    return this.items.length;
  }

  get top(): number {
    return this.items[0];
  }

  push(value: number): void {
    const { items } = this;
    let i = items.push(value) - 1;
    while (i > 0 && items[(i - 1) >> 1] < value) {
      items[i] = items[(i - 1) >> 1];
      i = (i - 1) >> 1;
    }
    items[i] = value;
  }

  pop(): void {
    const { items } = this;
    const value = items.pop()!;
    const n = items.length;
    if (n === 0) return;
    let i = 0;
    for (let child = 1; child < n; child = 2 * i + 1) {
      if (child + 1 < n && items[child + 1] > items[child]) child++;
      if (items[child] <= value) break;
      items[i] = items[child];
      i = child;
    }
    items[i] = value;
  }
}
