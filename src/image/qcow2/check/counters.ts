import { Kernel, type Slot } from "../../../kernel/kernel.ts";

/** Bytes of counters at most: larger images are checked in several windows. */
const COUNTER_BYTES = 48 * 1024 * 1024;

/** Where the kernels keep a walk's numbers: see assembly/qcow2-check.ts. */
const WALK = {
  first: 0,
  number: 1,
  fileSize: 2,
  follows: 3,
  allocated: 4,
  fragmented: 5,
  compressed: 6,
  total: 7,
  shared: 8,
} as const;
const WALK_BYTES = 72;

/**
 * In-memory reference counts of a window of clusters, in the kernel's memory. Counters start 1 byte wide; where counts
 * outgrow them they get 2 or 4, and the window may get smaller for it.
 */
export class Counters {
  readonly kernel: Kernel;
  /** Bytes of a counter. */
  width: 1 | 2 | 4 = 1;
  /** First cluster of the window. */
  first = 0;
  /** Clusters in the window. */
  number = 0;
  private readonly highest: number;
  private readonly clusters: number;
  private readonly unit: number;
  private readonly slot: Slot;
  private readonly walkSlot: Slot;
  /** Table or block being looked at. */
  readonly table: Slot;
  private readonly walk: Float64Array;
  private view: Uint8Array | Uint16Array | Uint32Array;

  /**
   * `highest`: what a refcount can be at most; `clusters`: what there is to count; windows are multiples of `unit`.
   * `windowBytes` bounds the counters, unless a unit needs more.
   */
  constructor(
    highest: number,
    clusters: number,
    clusterSize: number,
    unit: number,
    windowBytes = COUNTER_BYTES,
  ) {
    this.kernel = Kernel.get();
    this.highest = highest;
    this.unit = unit;
    this.clusters = Math.ceil(clusters / unit) * unit;
    const widest = highest < 0x100 ? 1 : highest < 0x10000 ? 2 : 4;
    this.walkSlot = this.kernel.take(WALK_BYTES);
    this.table = this.kernel.take(clusterSize);
    this.slot = this.kernel.take(Math.min(this.clusters * widest, Math.max(windowBytes, unit * widest)));
    this.walk = new Float64Array(this.walkSlot.bytes.buffer, this.walkSlot.bytes.byteOffset, WALK_BYTES / 8);
    this.view = this.slot.bytes;
  }

  /** Highest count that is counted to with counters as wide as they are. */
  get max(): number {
    return Math.min(this.highest, 2 ** (8 * this.width) - 1);
  }

  /** Clusters that a window has with counters of `width` bytes. */
  private room(width: number): number {
    const n = Math.floor(this.slot.bytes.length / width);
    return n >= this.clusters ? this.clusters : Math.floor(n / this.unit) * this.unit;
  }

  /** Makes the counters wider; their counts stay. Throws RangeError where they are as wide as can be. */
  widen(): void {
    if (this.width === 4) throw new RangeError("qcow2 check: a cluster has more than 2^32 references");
    const before = this.view;
    this.width = this.width === 1 ? 2 : 4;
    this.view = this.viewed();
    this.number = Math.min(this.number, this.room(this.width));
    this.walk[WALK.number] = this.number;
    // The same memory, from its end: a counter moves up or stays.
    for (let i = this.number - 1; i >= 0; i--) this.view[i] = before[i];
  }

  private viewed(): Uint8Array | Uint16Array | Uint32Array {
    const { buffer, byteOffset, length } = this.slot.bytes;
    return this.width === 2
      ? new Uint16Array(buffer, byteOffset, length >>> 1)
      : new Uint32Array(buffer, byteOffset, length >>> 2);
  }

  /** Gives the memory back. */
  close(): void {
    this.kernel.give(this.slot);
    this.kernel.give(this.table);
    this.kernel.give(this.walkSlot);
  }

  /** Address of the first counter. */
  get at(): number {
    return this.slot.at;
  }

  /** Address of the walk's numbers. */
  get walkAt(): number {
    return this.walkSlot.at;
  }

  /** Starts a window at cluster `first`, all counts zero. `fileSize` in bytes. */
  open(first: number, fileSize: number): void {
    this.first = first;
    this.number = this.room(this.width);
    this.walk.fill(0);
    this.walk[WALK.first] = first;
    this.walk[WALK.number] = this.number;
    this.walk[WALK.fileSize] = fileSize;
    this.view.fill(0, 0, this.number);
  }

  has(cluster: number): boolean {
    return cluster >= this.first && cluster < this.first + this.number;
  }

  get(cluster: number): number {
    return this.view[cluster - this.first];
  }

  set(cluster: number, count: number): void {
    this.view[cluster - this.first] = count;
  }

  /** The offset that would continue the last data cluster; 0 where there is none. A table starts with none. */
  get follows(): number {
    return this.walk[WALK.follows];
  }
  set follows(offset: number) {
    this.walk[WALK.follows] = offset;
  }

  /**
   * True as long as no cluster of the window has more than one reference and every data cluster of a walked table is
   * marked COPIED: nothing can be wrong with the flags then, where the counts are those that are stored.
   */
  get plain(): boolean {
    return this.walk[WALK.shared] === 0;
  }

  /** Ends that. */
  share(): void {
    this.walk[WALK.shared] = 1;
  }

  /** Clusters of the whole image: those outside the window are left to other windows. */
  set total(clusters: number) {
    this.walk[WALK.total] = clusters;
  }

  /** Clusters counted by the kernel since the last call: allocated, fragmented, compressed. */
  takeStatistics(): [number, number, number] {
    const { walk } = this;
    const taken: [number, number, number] = [
      walk[WALK.allocated],
      walk[WALK.fragmented],
      walk[WALK.compressed],
    ];
    walk.fill(0, WALK.allocated, WALK.compressed + 1);
    return taken;
  }
}
