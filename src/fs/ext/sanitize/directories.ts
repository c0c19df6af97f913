import { u32le } from "../../../bytes/endian.ts";
import type { Source } from "../../../io/source.ts";
import { Kernel, type Slot } from "../../../kernel/kernel.ts";
import { ExtError } from "../errors.ts";
import type { FileMap } from "../file-map.ts";
import { inodeFlags } from "../inode.ts";
import { INCOMPAT, INO_ROOT } from "../layout.ts";
import type { Superblock } from "../superblock.ts";
import { type BlockTable, INDEX_NODE, INDEX_ROOT, LEAF, NO_NUMBERS } from "./block-table.ts";
import { type HashTree, readHashTree } from "./htree.ts";
import { DOMAIN, type Keys } from "./keys.ts";
import {
  DIRENT_HEADER,
  FLAG_CASEFOLD,
  FLAG_ENCRYPTED,
  FLAG_INDEXED,
  INODE_GENERATION,
  SB_FLAG_UNSIGNED_HASH,
  SB_FLAGS,
  SB_HASH_SEED,
} from "./layout.ts";
import { CHECKSUM_TAIL, FOLDED, HASHED, KEEP_NAMES, NameCounter, ROOT, TYPED, UNINDEXED } from "./names.ts";
import type { NumberPool } from "./number-pool.ts";
import { MOST_LEAVES, placeNames, UNPLACED } from "./placement.ts";
import { type MovedNames, moveNames } from "./relocate.ts";
import type { KeptCounter } from "./report.ts";
import type { Words } from "./words.ts";

const PIECE = 256 * 1024;
const MD4_START = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
const LISTED_WORDS = 6;
/** Up to this length a drawn name may well be the original one. */
const MOST_SHORT = 3;

/** What was done to the directories of a volume. */
export interface DirectoryCounts {
  directories: number;
  indexed: number;
  names: number;
  moved: number;
  unindexed: number;
}

/** Where the plan for directories goes. */
export interface DirectoryPlan {
  readonly table: BlockTable;
  readonly pool: NumberPool;
  readonly words: Words;
  readonly kept: KeptCounter;
  readonly counts: DirectoryCounts;
  /** Directories whose index flag has to go. */
  readonly unindexed: Set<number>;
  /** Blocks whose new bytes are known already. */
  readonly overrides: Map<number, Uint8Array>;
  warn(line: string): void;
}

/** True where an inode's flags say that its names, target or data are ciphertext, and the volume may hold such. */
export function isEncrypted(sb: Superblock, inodeFlagBits: number): boolean {
  return (sb.incompat & INCOMPAT.encrypt) !== 0 && (inodeFlagBits & FLAG_ENCRYPTED) !== 0;
}

/** How the records of a directory are to be read and written; see names.ts. */
export function directoryFlags(sb: Superblock, ino: number, inodeFlagBits: number, sums: boolean): number {
  let flags = 0;
  if ((sb.incompat & INCOMPAT.fileType) !== 0) flags |= TYPED;
  if (ino === INO_ROOT) flags |= ROOT;
  if (sums) flags |= CHECKSUM_TAIL;
  const folded = (inodeFlagBits & FLAG_CASEFOLD) !== 0;
  if (isEncrypted(sb, inodeFlagBits)) flags |= KEEP_NAMES | (folded ? HASHED : 0);
  if (folded) flags |= FOLDED;
  return flags;
}

/** The seed of directory hashes as the kernel takes it: four words. */
export function hashSeed(sb: Superblock): Uint32Array {
  const seed = Uint32Array.from([0, 4, 8, 12], (o) => u32le(sb.raw, SB_HASH_SEED + o));
  return seed.some((w) => w !== 0) ? seed : Uint32Array.from(MD4_START);
}

/** Decides the new names of directories, one directory after the other. Takes an arena slot: `close` it. */
export class DirectoryPlanner {
  private readonly source: Source;
  private readonly sb: Superblock;
  private readonly keys: Keys;
  private readonly plan: DirectoryPlan;
  private readonly sums: boolean;
  private readonly kernel = Kernel.get();
  private readonly slot: Slot;
  private readonly seed: Uint32Array;
  private readonly unsigned: boolean;
  /** Lengths of the names of the directory at hand, in logical order; and each block's first. */
  private lengths = new Uint8Array(4096);
  private total = 0;
  private starts = new Uint32Array(64);

  constructor(source: Source, sb: Superblock, keys: Keys, plan: DirectoryPlan, sums: boolean) {
    this.source = source;
    this.sb = sb;
    this.keys = keys;
    this.plan = plan;
    this.sums = sums;
    this.slot = this.kernel.take(Math.max(PIECE, sb.blockSize));
    this.seed = hashSeed(sb);
    this.unsigned = (u32le(sb.raw, SB_FLAGS) & SB_FLAG_UNSIGNED_HASH) !== 0;
  }

  close(): void {
    this.kernel.give(this.slot);
  }

  /** Plans the directory whose inode is at `at` of `b` and whose blocks `map` lists. */
  async add(b: Uint8Array, at: number, ino: number, map: FileMap): Promise<void> {
    const { plan, sb } = this;
    const bits = inodeFlags(b, at);
    const flags = directoryFlags(sb, ino, bits, this.sums);
    const generation = u32le(b, at + INODE_GENERATION);
    plan.counts.directories++;
    const blocks = listBlocks(map, sb);
    if (blocks.physical.length === 0) return;
    let tree: HashTree | null = null;
    if ((bits & FLAG_INDEXED) !== 0) {
      const r = await this.tree(blocks);
      if (typeof r === "string") plan.warn(`directory ${ino}: ${r}; its names keep no order of hashes`);
      else tree = r;
    }
    const isIndex = (logical: number) => tree !== null && (logical === 0 || tree.nodes.has(logical));
    await this.list(blocks, flags, isIndex);
    for (let i = 0; tree !== null && i < blocks.physical.length; i++) {
      const logical = blocks.logical[i];
      if (isIndex(logical)) {
        const kind = logical === 0 ? INDEX_ROOT : INDEX_NODE;
        plan.table.add(blocks.physical[i], kind, flags, ino, generation, NO_NUMBERS);
      }
    }
    if ((flags & KEEP_NAMES) !== 0) {
      if (this.total > 0)
        plan.kept.add("names in encrypted directories", "they are ciphertext already", this.total);
      this.addLeaves(blocks, flags, ino, generation, isIndex, null);
      return;
    }
    plan.counts.names += this.total;
    if (tree !== null) {
      plan.counts.indexed++;
      await this.addIndexed(blocks, tree, flags, ino, generation);
      return;
    }
    this.addPlain(blocks, flags, ino, generation, isIndex);
  }

  /** Numbers in the order of the entries; a directory of one block needs none stored. */
  private addPlain(
    blocks: Blocks,
    flags: number,
    ino: number,
    generation: number,
    isIndex: (logical: number) => boolean,
  ): void {
    if (blocks.physical.length === 1 && this.total < 16) {
      this.addLeaves(blocks, flags, ino, generation, isIndex, null);
      return;
    }
    const counter = new NameCounter((flags & FOLDED) !== 0, this.keys.key(DOMAIN.names, ino));
    const numbers = new Uint32Array(this.total);
    for (let i = 0; i < this.total; i++) numbers[i] = counter.next(this.lengths[i]);
    this.keepUnplaced(numbers);
    this.addLeaves(blocks, flags, ino, generation, isIndex, numbers);
  }

  private keepUnplaced(numbers: Uint32Array): void {
    let kept = 0;
    for (let i = 0; i < numbers.length; i++) if (numbers[i] === UNPLACED && this.lengths[i] < 8) kept++;
    if (kept === 0) return;
    this.plan.counts.names -= kept;
    this.plan.kept.add("names of a length that has no more names", "the directory uses them all", kept);
  }

  /** Adds the blocks that hold names, in logical order, with the numbers of their names. */
  private addLeaves(
    blocks: Blocks,
    flags: number,
    ino: number,
    generation: number,
    isIndex: (logical: number) => boolean,
    numbers: Uint32Array | null,
  ): void {
    const { plan, starts } = this;
    for (let i = 0; i < blocks.physical.length; i++) {
      if (isIndex(blocks.logical[i])) continue;
      let value = NO_NUMBERS;
      const n = starts[i + 1] - starts[i];
      if (numbers !== null && n > 0) {
        value = plan.pool.take(n);
        plan.pool.view(value, n).set(numbers.subarray(starts[i], starts[i + 1]));
      }
      plan.table.add(blocks.physical[i], LEAF, flags, ino, generation, value);
    }
  }

  private async addIndexed(
    blocks: Blocks,
    tree: HashTree,
    flags: number,
    ino: number,
    generation: number,
  ): Promise<void> {
    const { plan, starts, lengths } = this;
    const indexOf = new Map<number, number>();
    for (let i = 0; i < blocks.logical.length; i++) indexOf.set(blocks.logical[i], i);
    const isIndex = (logical: number) => logical === 0 || tree.nodes.has(logical);
    const key = this.keys.key(DOMAIN.names, ino);
    const reached = new Set(tree.leaves);
    const whole =
      tree.leaves.length <= MOST_LEAVES &&
      blocks.logical.every((l) => isIndex(l) || reached.has(l)) &&
      tree.leaves.every((l) => indexOf.has(l));
    if (!whole) {
      plan.warn(`directory ${ino}: its index does not cover its blocks; its names keep no order of hashes`);
      this.addPlain(blocks, flags, ino, generation, isIndex);
      return;
    }
    // The kernel wants the leaves in the order of their hashes.
    const inOrder = new Uint8Array(this.total);
    const orderStarts = new Uint32Array(tree.leaves.length + 1);
    for (let leaf = 0, to = 0; leaf < tree.leaves.length; leaf++) {
      const i = indexOf.get(tree.leaves[leaf])!;
      inOrder.set(lengths.subarray(starts[i], starts[i + 1]), to);
      to += starts[i + 1] - starts[i];
      orderStarts[leaf + 1] = to;
    }
    const placed = placeNames({
      lengths: inOrder,
      starts: orderStarts,
      bounds: tree.bounds,
      version: tree.version,
      seed: this.seed,
      key,
      folded: (flags & FOLDED) !== 0,
    });
    const numbers = new Uint32Array(this.total);
    for (let leaf = 0; leaf < tree.leaves.length; leaf++) {
      const i = indexOf.get(tree.leaves[leaf])!;
      numbers.set(placed.numbers.subarray(orderStarts[leaf], orderStarts[leaf + 1]), starts[i]);
    }
    const same = await this.dropOriginals(blocks, isIndex, flags, key, numbers);
    if (placed.unplaced + same > 0) {
      const moved = await this.move(blocks, tree, flags, numbers, indexOf, key);
      if (moved === null) {
        this.unindex(blocks, tree, flags, ino, generation);
        return;
      }
      plan.counts.moved += moved.count;
      for (const [block, bytes] of moved.blocks) plan.overrides.set(block, bytes);
    }
    this.addLeaves(blocks, flags, ino, generation, isIndex, numbers);
  }

  /**
   * In a large index the only short names that hash into a leaf may be the ones it had: those are taken away again.
   * Returns how many.
   */
  private async dropOriginals(
    blocks: Blocks,
    isIndex: (logical: number) => boolean,
    flags: number,
    key: readonly [number, number],
    numbers: Uint32Array,
  ): Promise<number> {
    const { starts, lengths, slot, kernel, sb } = this;
    const short = (i: number) => lengths.subarray(starts[i], starts[i + 1]).some((n) => n <= MOST_SHORT);
    let dropped = 0;
    for (let i = 0; i < blocks.physical.length; i++) {
      if (isIndex(blocks.logical[i]) || !short(i)) continue;
      const b = slot.bytes.subarray(0, sb.blockSize);
      const r = this.source.read(b, blocks.physical[i] * sb.blockSize);
      if (r instanceof Promise) await r;
      const n = kernel.raw.listNames(slot.at, b.length, sb.blockSize, flags & 0xff) >>> 0;
      const listed = kernel.out.slice(4, 4 + LISTED_WORDS * n);
      for (let k = 0; k < n && starts[i] + k < starts[i + 1]; k++) {
        const length = listed[LISTED_WORDS * k + 1];
        const at = listed[LISTED_WORDS * k] + DIRENT_HEADER;
        const number = numbers[starts[i] + k];
        if (length > MOST_SHORT || number === UNPLACED) continue;
        const isOriginal = kernel.borrow(32, (name) => {
          kernel.raw.nameAt(name.at, length, key[0], key[1], number);
          return name.bytes.subarray(0, length).every((c, o) => c === b[at + o]);
        });
        if (!isOriginal) continue;
        numbers[starts[i] + k] = UNPLACED;
        dropped++;
      }
    }
    return dropped;
  }

  /** Finds other leaves for names that have none in their own. */
  private async move(
    blocks: Blocks,
    tree: HashTree,
    flags: number,
    numbers: Uint32Array,
    indexOf: ReadonlyMap<number, number>,
    key: readonly [number, number],
  ): Promise<MovedNames | null> {
    const { sb, source, starts } = this;
    return moveNames({
      tree,
      flags,
      key,
      seed: this.seed,
      blockSize: sb.blockSize,
      physical: (leaf) => blocks.physical[indexOf.get(tree.leaves[leaf])!],
      numbers: (leaf) => {
        const i = indexOf.get(tree.leaves[leaf])!;
        return numbers.subarray(starts[i], starts[i + 1]);
      },
      async read(block) {
        const b = new Uint8Array(sb.blockSize);
        const r = source.read(b, block * sb.blockSize);
        if (r instanceof Promise) await r;
        return b;
      },
    });
  }

  /** Gives a directory's index up: its blocks become empty leaves, its names are free of any order. */
  private unindex(blocks: Blocks, tree: HashTree, flags: number, ino: number, generation: number): void {
    const { plan } = this;
    plan.counts.unindexed++;
    plan.counts.indexed--;
    plan.unindexed.add(ino);
    const { table } = plan;
    for (let i = table.count - 1; i >= 0 && table.ino[i] === ino; i--)
      if (table.kind[i] === INDEX_ROOT || table.kind[i] === INDEX_NODE) table.flags[i] |= UNINDEXED;
    const isIndex = (logical: number) => logical === 0 || tree.nodes.has(logical);
    this.addPlain(blocks, flags, ino, generation, isIndex);
  }

  /** Lists the names of a directory's blocks: lengths for us, words for the search. */
  private async list(blocks: Blocks, flags: number, isIndex: (logical: number) => boolean): Promise<void> {
    const { sb, slot, kernel, plan } = this;
    const n = blocks.physical.length;
    if (this.starts.length < n + 1) this.starts = new Uint32Array((n + 1) * 2);
    this.total = 0;
    this.starts[0] = 0;
    const most = Math.max(1, Math.floor(slot.bytes.length / sb.blockSize));
    for (let i = 0; i < n; ) {
      let run = 1;
      const first = blocks.physical[i];
      while (run < most && i + run < n && blocks.physical[i + run] === first + run) run++;
      const into = slot.bytes.subarray(0, run * sb.blockSize);
      const at = first * sb.blockSize;
      const r = at < this.source.size ? this.source.read(into, at) : 0;
      const got = r instanceof Promise ? await r : r;
      if (got < into.length)
        throw new ExtError(
          "EXT_SHORT_READ",
          "ext directory block",
          at,
          `the source ends at ${this.source.size}`,
        );
      for (let k = 0; k < run; k++, i++) {
        if (!isIndex(blocks.logical[i])) {
          const where = slot.at + k * sb.blockSize;
          const found = kernel.raw.listNames(where, sb.blockSize, sb.blockSize, flags & 0xff) >>> 0;
          this.take(found);
          if ((flags & KEEP_NAMES) === 0) plan.words.addListed(found);
        }
        this.starts[i + 1] = this.total;
      }
    }
  }

  private take(found: number): void {
    if (this.total + found > this.lengths.length) {
      const wider = new Uint8Array(Math.max(this.lengths.length * 2, this.total + found));
      wider.set(this.lengths);
      this.lengths = wider;
    }
    const { out } = this.kernel;
    let { total } = this;
    for (let i = 0; i < found; i++) this.lengths[total++] = out[5 + LISTED_WORDS * i];
    this.total = total;
  }

  private tree(blocks: Blocks): Promise<HashTree | string> {
    const { sb, source } = this;
    const byLogical = new Map<number, number>();
    for (let i = 0; i < blocks.logical.length; i++) byLogical.set(blocks.logical[i], blocks.physical[i]);
    const last = blocks.logical[blocks.logical.length - 1] + 1;
    const buffer = new Uint8Array(sb.blockSize);
    const read = (logical: number): Uint8Array | null | Promise<Uint8Array | null> => {
      const block = byLogical.get(logical);
      if (block === undefined || block * sb.blockSize >= source.size) return null;
      const r = source.read(buffer, block * sb.blockSize);
      const check = (n: number) => (n === buffer.length ? buffer : null);
      return r instanceof Promise ? r.then(check) : check(r);
    };
    return readHashTree(read, last, this.unsigned);
  }
}

/** A directory's blocks in logical order. */
interface Blocks {
  readonly logical: readonly number[];
  readonly physical: readonly number[];
}

function listBlocks(map: FileMap, sb: Superblock): Blocks {
  const logical: number[] = [];
  const physical: number[] = [];
  for (let i = 0; i < map.count; i++)
    for (let k = 0; k < map.length[i]; k++) {
      const block = map.physical[i] + k;
      if (block < sb.firstDataBlock || block >= sb.blocks) continue;
      logical.push(map.logical[i] + k);
      physical.push(block);
      if (logical.length > sb.blocks)
        throw new ExtError("EXT_TREE_LOOP", "ext directory", -1, "larger than its volume");
    }
  return { logical, physical };
}
