import { BlockSet } from "../../bytes/block-set.ts";
import { u32le } from "../../bytes/endian.ts";
import type { Source } from "../../io/source.ts";
import { ExtError } from "./errors.ts";
import { ExtentWalker } from "./extent-tree.ts";
import { IndirectWalker } from "./indirect.ts";
import { inodeFlags } from "./inode.ts";
import { FLAG_EXTENTS, FLAG_INLINE, INO, OS_HURD } from "./layout.ts";
import type { MapSink, MapWalker } from "./map-walker.ts";
import type { Superblock } from "./superblock.ts";

/** Bytes of tree blocks that may be read again because maps share them; an honest volume shares none. */
const MOST_REVISITED = 1 << 27;

/**
 * Walks the block maps of a volume's inodes into one sink. Work is bounded: trees that share blocks end in
 * an error.
 */
export class MapReader {
  private readonly source: Source;
  private readonly sb: Superblock;
  private readonly sink: MapSink;
  private readonly extents: ExtentWalker;
  private readonly indirect: IndirectWalker;
  private readonly seen: BlockSet;
  private revisited = 0;

  constructor(source: Source, sb: Superblock, sink: MapSink) {
    this.source = source;
    this.sb = sb;
    this.sink = sink;
    this.extents = new ExtentWalker(sb.blockSize, sink);
    this.indirect = new IndirectWalker(sb.blockSize, sb.firstDataBlock, sb.blocks, sink);
    this.seen = new BlockSet(sb.blocks);
  }

  /**
   * Walks the map of the inode at `at` of `b`, which must stay as it is meanwhile. Throws ExtError ("while
   * iterating over inode N") where native code stops; IoError where the host does.
   */
  walk(b: Uint8Array, at: number, ino: number): void | Promise<void> {
    try {
      if ((inodeFlags(b, at) & FLAG_INLINE) !== 0)
        throw new ExtError("EXT_INLINE_DATA", `ext inode ${ino}`, -1, "holds its contents itself");
      if (this.sb.creatorOs === OS_HURD) {
        const translator = u32le(b, at + INO.translator);
        if (translator !== 0) this.sink.index(translator);
      }
      const walker = (inodeFlags(b, at) & FLAG_EXTENTS) !== 0 ? this.extents : this.indirect;
      if (!walker.start(b, at)) return;
      const r = this.drive(walker);
      if (r instanceof Promise)
        return r.catch((e) => {
          throw located(e, ino);
        });
    } catch (e) {
      throw located(e, ino);
    }
  }

  private drive(walker: MapWalker): void | Promise<void> {
    for (;;) {
      const block = walker.run();
      if (block < 0) return;
      const r = this.read(block, walker.buffer());
      if (r instanceof Promise) return this.driveSlowly(walker, block, r);
      this.accept(walker, block, r);
    }
  }

  private async driveSlowly(
    walker: MapWalker,
    block: number,
    reading: number | Promise<number>,
  ): Promise<void> {
    for (;;) {
      this.accept(walker, block, reading instanceof Promise ? await reading : reading);
      block = walker.run();
      if (block < 0) return;
      reading = this.read(block, walker.buffer());
    }
  }

  private accept(walker: MapWalker, block: number, n: number): void {
    const { blockSize } = this.sb;
    if (n < blockSize) {
      const error = new ExtError(
        "EXT_SHORT_READ",
        "ext tree block",
        block * blockSize,
        `the source ends at byte ${this.source.size}`,
      );
      if (walker.fail === undefined) throw error;
      walker.fail(error);
      return;
    }
    walker.feed();
  }

  private read(block: number, into: Uint8Array): number | Promise<number> {
    if (this.seen.add(block, block + 1) === 0) {
      this.revisited += this.sb.blockSize;
      if (this.revisited > MOST_REVISITED)
        throw new ExtError(
          "EXT_TREE_LOOP",
          "ext tree block",
          block * this.sb.blockSize,
          "too many block maps lead through the same blocks",
        );
    }
    const at = block * this.sb.blockSize;
    return at < this.source.size ? this.source.read(into, at) : 0;
  }
}

function located(e: unknown, ino: number): unknown {
  return e instanceof ExtError && e.doing === "" ? e.during(`while iterating over inode ${ino}`) : e;
}
