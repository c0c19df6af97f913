/** Where a block map's blocks go, in map order. */
export interface MapSink {
  /** A block of the tree itself: an extent node or an indirect block. */
  index(block: number): void;
  /** `length` blocks of contents from `start`, at logical block `logical`. */
  data(start: number, length: number, logical: number, uninitialised: boolean): void;
}

/**
 * A walk over one inode's block map. It does no I/O: `run` goes on until it needs a tree block and names
 * it, the caller reads it into `buffer()` and calls `feed`. So nothing is awaited where the source answers
 * at once.
 */
export interface MapWalker {
  /** Starts with the inode at `at`; false where there is nothing to walk. */
  start(inode: Uint8Array, at: number): boolean;
  /** Block number to read next, or -1 at the end. Throws ExtError where the map is corrupt. */
  run(): number;
  /** Where the block that `run` named has to be read to. */
  readonly buffer: () => Uint8Array;
  /** The block is in the buffer. Throws ExtError where it is corrupt. */
  feed(): void;
  /** The block could not be read: the walker decides, by throwing `error` or by going on. */
  fail?(error: Error): void;
}
