import { u16le, u32le } from "../../bytes/endian.ts";
import { ExtError, type ExtErrorCode } from "./errors.ts";
import { EXTENT_HEADER, EXTENT_MAGIC, EXTENT_MAX, EXTENT_RECORD, I_BLOCK_SIZE, INO } from "./layout.ts";
import type { MapSink, MapWalker } from "./map-walker.ts";

/** Deeper than any tree that could be of use: 340^4 records span more than 2^32 blocks. */
const MAX_DEPTH = 32;

interface Level {
  block: number;
  bytes: Uint8Array;
  /** Where the level's node starts in `bytes`. */
  base: number;
  entries: number;
  /** Record at hand, -1 before the first. */
  current: number;
}

/**
 * True where a node header at `at` is acceptable for a node of `size` bytes: two records may be left for a
 * checksum.
 */
export function validHeader(b: Uint8Array, at: number, size: number): boolean {
  const room = Math.floor((size - EXTENT_HEADER) / EXTENT_RECORD);
  const max = u16le(b, at + 4);
  return (
    u16le(b, at) === EXTENT_MAGIC && u16le(b, at + 2) <= max && max <= room && max >= Math.max(room - 2, 0)
  );
}

/**
 * Walks an extent tree depth first, as native code does and with its view of corrupt trees: an unusable
 * root header yields nothing, a bad node stops the walk; a leaf record that ends at or before the end of
 * the one before is dropped together with the record behind it; one that overlaps is taken at its full
 * length, its start moved up by the overlap.
 */
export class ExtentWalker implements MapWalker {
  readonly buffer: () => Uint8Array;
  private readonly blockSize: number;
  private readonly sink: MapSink;
  private readonly levels: Level[] = [];
  private depth = 0;
  private level = 0;
  /** Logical end of the leaf record before. */
  private next = 0;
  private pending = -1;

  constructor(blockSize: number, sink: MapSink) {
    this.blockSize = blockSize;
    this.sink = sink;
    this.buffer = () => this.levels[this.level + 1].bytes;
  }

  start(inode: Uint8Array, at: number): boolean {
    const base = at + INO.blocks;
    if (!validHeader(inode, base, I_BLOCK_SIZE)) return false;
    this.depth = u16le(inode, base + 6);
    this.level = 0;
    this.next = 0;
    this.pending = -1;
    const root = this.open(0);
    root.bytes = inode;
    root.base = base;
    root.block = 0;
    root.entries = u16le(inode, base + 2);
    root.current = -1;
    return true;
  }

  run(): number {
    for (;;) {
      const l = this.levels[this.level];
      if (this.level === this.depth) {
        this.leaf(l);
        if (this.level === 0) return -1;
        this.level--;
        continue;
      }
      if (++l.current >= l.entries) {
        if (this.level === 0) return -1;
        this.level--;
        continue;
      }
      const at = l.base + EXTENT_HEADER + l.current * EXTENT_RECORD;
      const block = u32le(l.bytes, at + 4) + u16le(l.bytes, at + 8) * 0x100000000;
      this.sink.index(block);
      for (let i = 0; i <= this.level; i++)
        if (this.levels[i].block === block)
          throw this.error("EXT_EXTENT_CYCLE", block, "a node is its own ancestor");
      if (this.level + 1 > MAX_DEPTH) throw this.error("EXT_TREE_LOOP", block, `depth ${this.depth}`);
      this.open(this.level + 1);
      this.pending = block;
      return block;
    }
  }

  feed(): void {
    const child = this.levels[this.level + 1];
    const b = child.bytes;
    if (!validHeader(b, 0, this.blockSize))
      throw this.error(
        "EXT_EXTENT_HEADER_BAD",
        this.pending,
        `magic 0x${u16le(b, 0).toString(16)}, ${u16le(b, 2)} entries, room for ${u16le(b, 4)}`,
      );
    child.entries = u16le(b, 2);
    if (child.entries === 0) throw this.error("EXT_EXTENT_NO_DOWN", this.pending, "no entries");
    child.block = this.pending;
    child.base = 0;
    child.current = -1;
    this.level++;
  }

  private leaf(l: Level): void {
    const b = l.bytes;
    for (let i = 0; i < l.entries; i++) {
      const at = l.base + EXTENT_HEADER + i * EXTENT_RECORD;
      const logical = u32le(b, at);
      let length = u16le(b, at + 4);
      const uninitialised = length > EXTENT_MAX;
      if (uninitialised) length -= EXTENT_MAX;
      if (logical + length <= this.next) {
        i++;
        continue;
      }
      const overlap = Math.max(this.next - logical, 0);
      const start = u16le(b, at + 6) * 0x100000000 + u32le(b, at + 8) + overlap;
      if (length > 0) this.sink.data(start, length, logical, uninitialised);
      this.next = logical + length;
    }
  }

  private open(i: number): Level {
    let l = this.levels[i];
    if (l === undefined) {
      const bytes = i === 0 ? new Uint8Array(0) : new Uint8Array(this.blockSize);
      l = { block: 0, bytes, base: 0, entries: 0, current: -1 };
      this.levels.push(l);
    }
    return l;
  }

  private error(code: ExtErrorCode, block: number, detail: string): ExtError {
    return new ExtError(code, "ext extent node", block * this.blockSize, detail);
  }
}
