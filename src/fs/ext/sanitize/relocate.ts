import { putU16le, putU32le, u16le, u32le } from "../../../bytes/endian.ts";
import { Kernel } from "../../../kernel/kernel.ts";
import { recordLength } from "../directory.ts";
import type { HashTree } from "./htree.ts";
import { DIRENT_HEADER, DIRENT_TAIL, TAIL_WORD } from "./layout.ts";
import { CHECKSUM_TAIL, FOLDED, KERNEL_FLAGS, TYPED } from "./names.ts";
import { UNPLACED } from "./placement.ts";

/** Names tried for one that has to move. */
const MOST_TRIES = 1 << 20;

export interface MoveJob {
  readonly tree: HashTree;
  readonly flags: number;
  readonly key: readonly [number, number];
  readonly seed: Uint32Array;
  readonly blockSize: number;
  /** Block of a leaf, by its rank. */
  physical(leaf: number): number;
  /** Numbers of a leaf's names, in the order of its entries. */
  numbers(leaf: number): Uint32Array;
  /** Original bytes of a block. */
  read(block: number): Promise<Uint8Array>;
}

/** Leaves that took part, with their new bytes (checksums aside), and how many names moved. */
export interface MovedNames {
  readonly count: number;
  readonly blocks: ReadonlyMap<number, Uint8Array>;
}

interface Entry {
  readonly ino: number;
  readonly type: number;
  readonly name: Uint8Array;
}

/**
 * Moves names that no number of their length brings into their leaf: each gets an unused name, and goes to
 * the leaf its hash falls into, where that has room. Null where one has no place anywhere.
 */
export async function moveNames(job: MoveJob): Promise<MovedNames | null> {
  const mover = new Mover(job);
  const count = await mover.run();
  return count < 0 ? null : { count, blocks: mover.finish() };
}

/** Leaves looked into at most: each is kept. */
const MOST_OPEN = 8192;

interface OpenLeaf {
  readonly entries: Entry[];
  readonly tail: Uint8Array | null;
}

class Mover {
  private readonly job: MoveJob;
  private readonly kernel = Kernel.get();
  /** Leaves taken apart, by rank. */
  private readonly open = new Map<number, OpenLeaf>();
  /** Those of them that have changed. */
  private readonly changed = new Set<number>();

  constructor(job: MoveJob) {
    this.job = job;
  }

  async run(): Promise<number> {
    const { job } = this;
    const homeless: { entry: Entry; leaf: number }[] = [];
    const used = new Map<number, Set<number>>();
    const leaves = job.tree.leaves.length;
    for (let leaf = 0; leaf < leaves; leaf++) {
      if (!job.numbers(leaf).includes(UNPLACED)) continue;
      const { entries } = await this.take(leaf);
      const stay: Entry[] = [];
      for (const e of entries) {
        if (e.ino < 0) homeless.push({ entry: { ...e, ino: -e.ino }, leaf });
        else stay.push(e);
      }
      entries.length = 0;
      entries.push(...stay);
      this.changed.add(leaf);
    }
    for (const { entry } of homeless) {
      const length = entry.name.length;
      let taken = used.get(length);
      if (taken === undefined) {
        taken = await this.takenNumbers(length);
        used.set(length, taken);
      }
      if (!(await this.house(entry, taken))) return -1;
    }
    return homeless.length;
  }

  /** New bytes of the leaves that took part. */
  finish(): Map<number, Uint8Array> {
    const blocks = new Map<number, Uint8Array>();
    for (const leaf of this.changed) {
      const { entries, tail } = this.open.get(leaf)!;
      blocks.set(this.job.physical(leaf), this.assemble(entries, tail));
    }
    return blocks;
  }

  /** Numbers of a length that the directory's names have. */
  private async takenNumbers(length: number): Promise<Set<number>> {
    const { job } = this;
    const taken = new Set<number>();
    for (let leaf = 0; leaf < job.tree.leaves.length; leaf++) {
      const numbers = job.numbers(leaf);
      if (numbers.length === 0) continue;
      const lengths = await this.lengthsOf(leaf);
      for (let i = 0; i < numbers.length; i++)
        if (lengths[i] === length && numbers[i] !== UNPLACED) taken.add(numbers[i]);
    }
    return taken;
  }

  private async lengthsOf(leaf: number): Promise<number[]> {
    const { job, kernel } = this;
    const b = await job.read(job.physical(leaf));
    return kernel.borrow(b.length, (slot) => {
      slot.bytes.set(b);
      const n = kernel.raw.listNames(slot.at, b.length, b.length, job.flags & KERNEL_FLAGS) >>> 0;
      return Array.from({ length: n }, (_, i) => kernel.out[5 + 6 * i]);
    });
  }

  private async house(entry: Entry, taken: Set<number>): Promise<boolean> {
    const { job, kernel } = this;
    const length = entry.name.length;
    const count = kernel.raw.nameCount(length, (job.flags & FOLDED) !== 0 ? 1 : 0);
    for (let k = 0; k < Math.min(count, MOST_TRIES); k++) {
      if (taken.has(k)) continue;
      const found = this.nameAndHash(length, k);
      if (found === null || sameBytes(found.name, entry.name)) continue;
      const leaf = leafOf(job.tree.bounds, found.hash);
      if (this.open.size >= MOST_OPEN && !this.open.has(leaf)) continue;
      const { entries, tail } = await this.take(leaf);
      const room = job.blockSize - (tail === null ? 0 : DIRENT_TAIL);
      const size = entries.reduce((n, e) => n + recordSize(e), recordSize(entry));
      if (size > room) continue;
      taken.add(k);
      entries.push({ ...entry, name: found.name });
      this.changed.add(leaf);
      return true;
    }
    return false;
  }

  private nameAndHash(length: number, k: number): { name: Uint8Array; hash: number } | null {
    const { job, kernel } = this;
    return kernel.borrow(32 + length, (slot) => {
      new Uint32Array(slot.bytes.buffer, slot.bytes.byteOffset, 4).set(job.seed);
      const at = slot.at + 16;
      if (kernel.raw.nameAt(at, length, job.key[0], job.key[1], k) === 0) return null;
      const hash = kernel.raw.dirhash(at, length, job.tree.version, slot.at) >>> 0;
      if (hash > 0xfffffffa) return null;
      return { name: slot.bytes.slice(16, 16 + length), hash };
    });
  }

  /** Takes a leaf apart, its names replaced; the inode number of a name without a place is negative. */
  private async take(leaf: number): Promise<OpenLeaf> {
    const known = this.open.get(leaf);
    if (known !== undefined) return known;
    const { job, kernel } = this;
    const { blockSize } = job;
    const b = await job.read(job.physical(leaf));
    const numbers = job.numbers(leaf);
    // Where names stay (UNPLACED), the original bytes stay too; they are not copied on.
    const listed = new Set<number>();
    const rewritten = kernel.borrow(b.length, (slot) =>
      kernel.borrow(Math.max(numbers.length, 1) * 4, (list) => {
        slot.bytes.set(b);
        const flags = job.flags & KERNEL_FLAGS;
        const n = kernel.raw.listNames(slot.at, b.length, blockSize, flags) >>> 0;
        for (let i = 0; i < n; i++) if (numbers[i] === UNPLACED) listed.add(kernel.out[4 + 6 * i]);
        new Uint32Array(list.bytes.buffer, list.bytes.byteOffset, numbers.length).set(numbers);
        kernel.raw.rewriteNames(slot.at, b.length, blockSize, flags, job.key[0], job.key[1], list.at);
        return slot.bytes.slice(0, b.length);
      }),
    );
    const end = blockSize - DIRENT_TAIL;
    const hasTail =
      (job.flags & CHECKSUM_TAIL) !== 0 && u32le(b, end) === 0 && u32le(b, end + 4) === TAIL_WORD;
    const entries: Entry[] = [];
    for (let at = 0; at + DIRENT_HEADER <= (hasTail ? end : blockSize); ) {
      const n = recordLength(rewritten, at, blockSize);
      if (n < DIRENT_HEADER) break;
      const ino = u32le(rewritten, at);
      if (ino !== 0) {
        const typed = (job.flags & TYPED) !== 0;
        const length = typed ? rewritten[at + 6] : u16le(rewritten, at + 6);
        const without = listed.has(at);
        const name = (without ? b : rewritten).slice(at + DIRENT_HEADER, at + DIRENT_HEADER + length);
        const type = typed ? rewritten[at + 7] : 0;
        entries.push({ ino: without ? -ino : ino, type, name });
      }
      at += n;
    }
    const taken = { entries, tail: hasTail ? b.slice(end) : null };
    this.open.set(leaf, taken);
    return taken;
  }

  private assemble(entries: readonly Entry[], tail: Uint8Array | null): Uint8Array {
    const { blockSize, flags } = this.job;
    const b = new Uint8Array(blockSize);
    const end = blockSize - (tail === null ? 0 : DIRENT_TAIL);
    if (tail !== null) b.set(tail, end);
    if (entries.length === 0) putRecordLength(b, 0, end, blockSize);
    let at = 0;
    entries.forEach((e, i) => {
      const n = i === entries.length - 1 ? end - at : recordSize(e);
      putU32le(b, at, e.ino);
      putRecordLength(b, at, n, blockSize);
      putU16le(b, at + 6, (flags & TYPED) !== 0 ? e.name.length | (e.type << 8) : e.name.length);
      b.set(e.name, at + DIRENT_HEADER);
      at += n;
    });
    return b;
  }
}

/** Stores a record's length; in blocks of 64 KiB the low two bits hold bits 16 and 17. */
export function putRecordLength(b: Uint8Array, at: number, n: number, blockSize: number): void {
  if (n < 65536) putU16le(b, at + 4, n);
  else putU16le(b, at + 4, n === blockSize ? 65535 : (n & 0xfffc) | ((n >>> 16) & 3));
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((c, i) => c === b[i]);
}

function recordSize(e: Entry): number {
  return (DIRENT_HEADER + e.name.length + 3) & ~3;
}

function leafOf(bounds: readonly number[], hash: number): number {
  let lo = 0;
  let hi = bounds.length;
  while (lo < hi) {
    const mid = (lo + hi) >>> 1;
    if (bounds[mid] <= hash) lo = mid + 1;
    else hi = mid;
  }
  return lo - 1;
}
