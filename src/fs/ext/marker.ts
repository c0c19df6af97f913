import { BlockSet } from "../../bytes/block-set.ts";
import type { Role } from "../volume.ts";
import type { Superblock } from "./superblock.ts";

/** Warning lines kept; a hostile volume could cause billions. */
const MOST_WARNINGS = 65536;
const WRAP = 1n << 64n;

/**
 * Collects the blocks of a selection the way native code marks them: counted, range-checked, with its
 * warnings.
 */
export class Marker {
  readonly blocks: BlockSet;
  readonly roles: Map<Role, BlockSet> | null;
  /** Blocks of directories, widened as `blocks` is; null where nothing is scrambled. */
  readonly scrambled: BlockSet | null;
  readonly warnings: string[] = [];
  /** Marking calls so far, duplicates and refused ones counted. */
  marks = 0;
  private suppressed = 0;
  private readonly first: number;
  private readonly limit: number;
  /** Blocks a mark is widened to (bigalloc clusters in the native selection), else 1. */
  private readonly unit: number;
  private readonly clusterBits: number;

  constructor(sb: Superblock, wholeClusters: boolean, roles: boolean, scramble = false) {
    this.blocks = new BlockSet(sb.blocks);
    this.roles = roles ? new Map() : null;
    this.scrambled = scramble ? new BlockSet(sb.blocks) : null;
    this.first = sb.firstDataBlock;
    this.limit = sb.blocks;
    this.clusterBits = sb.clusterBits;
    this.unit = wholeClusters ? 2 ** sb.clusterBits : 1;
  }

  /** Marks `length` blocks from `start`; blocks outside the volume are refused with native's warning each. */
  mark(start: number, length: number, role: Role): void {
    this.marks += length;
    let from = start;
    let to = start + length;
    if (from < this.first || to > this.limit) {
      if (from < this.first) {
        this.refuse(from, Math.min(to, this.first) - from, role);
        from = this.first;
      }
      if (to > this.limit) {
        // Within the last, partial cluster native takes a block past the end without a word.
        const end = Math.ceil(this.limit / 2 ** this.clusterBits) * 2 ** this.clusterBits;
        this.refuse(Math.max(from, end), from >= end ? length : to - end, role);
        to = this.limit;
      }
      if (from >= to) return;
    }
    this.add(from, to, role);
  }

  /**
   * As `mark`, for the number of a 64-bit field that a JS number may not hold exactly. Native's counter
   * wraps around behind 2^64 - 1.
   */
  markWide(start: bigint, length: number, role: Role): void {
    if (start <= BigInt(Number.MAX_SAFE_INTEGER)) {
      this.mark(Number(start), length, role);
      return;
    }
    const beyond = Math.min(length, Number(WRAP - start));
    this.marks += beyond;
    this.refuse(start, beyond, role);
    if (beyond < length) this.mark(0, length - beyond, role);
  }

  /** Adds blocks that native does not mark: neither counted nor widened. */
  extra(from: number, to: number, role: Role): void {
    this.blocks.add(from, to);
    this.paint(from, to, role);
  }

  warn(line: string): void {
    if (this.warnings.length < MOST_WARNINGS) this.warnings.push(line);
    else {
      this.suppressed++;
      this.warnings[MOST_WARNINGS] = `... and ${this.suppressed} more warnings`;
    }
  }

  /** Blocks a role has so far. */
  role(role: Role): BlockSet {
    let set = this.roles?.get(role);
    if (set === undefined) {
      set = new BlockSet(this.limit);
      this.roles?.set(role, set);
    }
    return set;
  }

  private add(from: number, to: number, role: Role): void {
    this.paint(from, to, role);
    if (this.unit > 1) {
      from -= from % this.unit;
      to = Math.ceil(to / this.unit) * this.unit;
    }
    this.blocks.add(from, to);
    if (role === "directory") this.scrambled?.add(from, to);
  }

  private paint(from: number, to: number, role: Role): void {
    if (this.roles !== null) this.role(role).add(from, to);
  }

  /** Warns of `count` blocks from `from`. */
  private refuse(from: number | bigint, count: number, role: Role): void {
    for (let i = 0; i < count; i++) {
      if (this.warnings.length >= MOST_WARNINGS) {
        this.suppressed += count - i - 1;
        this.warn("");
        return;
      }
      const n = (BigInt(from) + BigInt(i)) >> BigInt(this.clusterBits);
      const text = `Illegal block number passed to ext2fs_mark_block_bitmap #${n} for`;
      this.warn(`${text} in-use block map`);
      if (this.scrambled !== null && role === "directory") this.warn(`${text} scramble block map`);
    }
  }
}
