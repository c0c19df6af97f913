import { u32le } from "../../bytes/endian.ts";
import { ExtError, type ExtErrorCode } from "./errors.ts";
import { INO } from "./layout.ts";
import type { MapSink, MapWalker } from "./map-walker.ts";

const DIRECT = 12;
const BAD: readonly ExtErrorCode[] = ["EXT_BAD_IND_BLOCK", "EXT_BAD_DIND_BLOCK", "EXT_BAD_TIND_BLOCK"];

/**
 * Walks a direct/indirect block map. A bad pointer ends its tree; native code then still walks the inode's
 * next tree and forgets the error if any tree block of that one can be read, so the error is thrown only at
 * the end.
 */
export class IndirectWalker implements MapWalker {
  readonly buffer: () => Uint8Array;
  private readonly blockSize: number;
  private readonly firstDataBlock: number;
  private readonly blocks: number;
  private readonly sink: MapSink;
  private readonly buffers: Uint8Array[];
  private readonly cursor = [0, 0, 0];
  private inode: Uint8Array = new Uint8Array(0);
  private at = 0;
  /** Tree at hand: 0 single, 1 double, 2 triple; and the height of the block at hand in it. */
  private tree = 0;
  private height = -1;
  private wanted = 0;
  private logical = 0;
  private error: Error | null = null;

  constructor(blockSize: number, firstDataBlock: number, blocks: number, sink: MapSink) {
    this.blockSize = blockSize;
    this.firstDataBlock = firstDataBlock;
    this.blocks = blocks;
    this.sink = sink;
    this.buffers = [0, 1, 2].map(() => new Uint8Array(blockSize));
    this.buffer = () => this.buffers[this.wanted];
  }

  start(inode: Uint8Array, at: number): boolean {
    this.inode = inode;
    this.at = at + INO.blocks;
    this.tree = -1;
    this.height = -1;
    this.logical = 0;
    this.error = null;
    this.pointers(inode, this.at, DIRECT);
    return true;
  }

  run(): number {
    const perBlock = this.blockSize / 4;
    for (;;) {
      if (this.height < 0) {
        if (++this.tree > 2) {
          if (this.error !== null) throw this.error;
          return -1;
        }
        const root = u32le(this.inode, this.at + (DIRECT + this.tree) * 4);
        if (root === 0) this.logical += perBlock ** (this.tree + 1);
        else if (this.enter(root, this.tree)) return root;
        continue;
      }
      const b = this.buffers[this.height];
      const i = this.cursor[this.height]++;
      if (i >= perBlock) {
        this.leave();
        continue;
      }
      const child = u32le(b, i * 4);
      if (child === 0) {
        this.logical += perBlock ** this.height;
        continue;
      }
      if (this.enter(child, this.height - 1)) return child;
    }
  }

  feed(): void {
    this.error = null;
    if (this.wanted === 0) {
      this.pointers(this.buffers[0], 0, this.blockSize / 4);
      this.height = this.tree === 0 ? -1 : 1;
      return;
    }
    this.height = this.wanted;
    this.cursor[this.height] = 0;
  }

  fail(error: Error): void {
    this.error = error;
    this.height = -1;
  }

  private leave(): void {
    this.height = this.height === this.tree ? -1 : this.height + 1;
  }

  /**
   * Names a tree block of height `height` (0: holds data pointers); false where it is bad, which ends the
   * tree.
   */
  private enter(block: number, height: number): boolean {
    this.sink.index(block);
    if (block < this.firstDataBlock || block >= this.blocks) {
      this.fail(
        new ExtError(
          BAD[height],
          "ext indirect block",
          block * this.blockSize,
          `block ${block} lies outside the volume`,
        ),
      );
      return false;
    }
    this.wanted = height;
    return true;
  }

  /** Reports data pointers, neighbours as one run. */
  private pointers(b: Uint8Array, at: number, count: number): void {
    let start = 0;
    let length = 0;
    for (let i = 0; i < count; i++) {
      const block = u32le(b, at + i * 4);
      if (length > 0 && block === start + length && block !== 0) {
        length++;
        continue;
      }
      if (length > 0) this.sink.data(start, length, this.logical + i - length, false);
      start = block;
      length = block === 0 ? 0 : 1;
    }
    if (length > 0) this.sink.data(start, length, this.logical + count - length, false);
    this.logical += count;
  }
}
