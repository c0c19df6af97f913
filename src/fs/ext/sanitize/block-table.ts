/** How a block is rewritten. */
export const LEAF = 0;
export const INDEX_ROOT = 1;
export const INDEX_NODE = 2;
export const ATTRIBUTES = 3;
export const TARGET = 4;
export const EXTENTS = 5;
export const POINTERS = 6;
/** Stays as it is. */
export const KEPT = 7;

/** Numbers of one block that stand for "none". */
export const NO_NUMBERS = -1;

/**
 * Blocks that are rewritten, each with what that takes: 29 bytes a block. A block named twice keeps what it
 * was named for first.
 */
export class BlockTable {
  count = 0;
  block = new Float64Array(256);
  kind = new Uint8Array(256);
  /** Flags of rewriteNames (directories). */
  flags = new Uint32Array(256);
  ino = new Uint32Array(256);
  generation = new Uint32Array(256);
  /** First of a leaf's numbers in the pool, or NO_NUMBERS; bytes of a target in its block. */
  value = new Float64Array(256);

  add(block: number, kind: number, flags: number, ino: number, generation: number, value: number): void {
    if (this.count === this.block.length) this.grow();
    const i = this.count++;
    this.block[i] = block;
    this.kind[i] = kind;
    this.flags[i] = flags;
    this.ino[i] = ino;
    this.generation[i] = generation;
    this.value[i] = value;
  }

  /** Orders the blocks for `find`. */
  sort(): void {
    const n = this.count;
    const order = ranks(this.block.subarray(0, n));
    const sorted = <T extends Float64Array | Uint32Array | Uint8Array>(a: T): T => {
      const b = a.slice() as T;
      for (let i = 0; i < n; i++) b[i] = a[order[i]];
      return b;
    };
    this.block = sorted(this.block);
    this.kind = sorted(this.kind);
    this.flags = sorted(this.flags);
    this.ino = sorted(this.ino);
    this.generation = sorted(this.generation);
    this.value = sorted(this.value);
  }

  /** Index of the first entry at or after `block`; the table must be sorted. */
  find(block: number): number {
    let lo = 0;
    let hi = this.count;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (this.block[mid] < block) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  }

  private grow(): void {
    const wider = <T extends Float64Array | Uint32Array | Uint8Array>(a: T): T => {
      const b = new (a.constructor as new (n: number) => T)(a.length * 2);
      b.set(a);
      return b;
    };
    this.block = wider(this.block);
    this.kind = wider(this.kind);
    this.flags = wider(this.flags);
    this.ino = wider(this.ino);
    this.generation = wider(this.generation);
    this.value = wider(this.value);
  }
}

/** Indexes of `keys` in ascending order, equal keys in their own order. */
export function ranks(keys: Float64Array): Uint32Array {
  const n = keys.length;
  const order = new Uint32Array(n);
  let most = 0;
  for (let i = 0; i < n; i++) if (keys[i] > most) most = keys[i];
  if ((most + 1) * n <= Number.MAX_SAFE_INTEGER) {
    // Native sorting of plain numbers is several times faster than with a comparison of ours.
    const both = new Float64Array(n);
    for (let i = 0; i < n; i++) both[i] = keys[i] * n + i;
    both.sort();
    for (let i = 0; i < n; i++) order[i] = both[i] % n;
    return order;
  }
  for (let i = 0; i < n; i++) order[i] = i;
  return order.sort((a, b) => keys[a] - keys[b] || a - b);
}
