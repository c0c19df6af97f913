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
} as const;
const WALK_BYTES = 64;

/** A counter would not hold its count: the count has to start again with wider ones. */
export class NarrowCounters extends Error {}

/**
 * In-memory reference counts of a window of clusters, in the kernel's memory. Counters are 1, 2 or 4 bytes wide.
 */
export class Counters {
  readonly kernel: Kernel;
  readonly width: 1 | 2 | 4;
  /** Highest count that is counted to. */
  readonly max: number;
  /** First cluster of the window. */
  first = 0;
  /** Clusters in the window. */
  number = 0;
  /** Clusters a window can have. */
  readonly room: number;
  private readonly slot: Slot;
  private readonly walkSlot: Slot;
  /** Table or block being looked at. */
  readonly table: Slot;
  private readonly walk: Float64Array;
  private readonly view: Uint8Array | Uint16Array | Uint32Array;

  /** `clusters`: what there is to count; `max`: highest refcount; `windowBytes` bounds the counters (for tests). */
  constructor(
    width: 1 | 2 | 4,
    max: number,
    clusters: number,
    clusterSize: number,
    windowBytes = COUNTER_BYTES,
  ) {
    this.kernel = Kernel.get();
    this.width = width;
    this.max = Math.min(max, 2 ** (8 * width) - 1);
    this.room = Math.max(1, Math.min(clusters, Math.floor(windowBytes / width)));
    this.walkSlot = this.kernel.take(WALK_BYTES);
    this.table = this.kernel.take(clusterSize);
    this.slot = this.kernel.take(this.room * width);
    const { buffer, byteOffset } = this.slot.bytes;
    this.walk = new Float64Array(this.walkSlot.bytes.buffer, this.walkSlot.bytes.byteOffset, 8);
    this.view =
      width === 1
        ? new Uint8Array(buffer, byteOffset, this.room)
        : width === 2
          ? new Uint16Array(buffer, byteOffset, this.room)
          : new Uint32Array(buffer, byteOffset, this.room);
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
  open(first: number, number: number, fileSize: number): void {
    this.first = first;
    this.number = number;
    this.walk.fill(0);
    this.walk[WALK.first] = first;
    this.walk[WALK.number] = number;
    this.walk[WALK.fileSize] = fileSize;
    this.view.fill(0, 0, number);
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
