import { BlockSet } from "../../../bytes/block-set.ts";
import { u32le, u64le } from "../../../bytes/endian.ts";
import { ExtentList } from "../../../bytes/extents.ts";
import { AbortError, UnsupportedError } from "../../../errors.ts";
import type { Source } from "../../../io/source.ts";
import { Kernel } from "../../../kernel/kernel.ts";
import type { Role, Selection } from "../../volume.ts";
import { Checksums } from "../checksum.ts";
import { Descriptors } from "../descriptors.ts";
import { FileMap, readFileMap, readMapped } from "../file-map.ts";
import { hasBlockMap, inodeFlags, inodeLinks, inodeSizeBytes, inodeType, inodeXattrBlock } from "../inode.ts";
import { InodeReader } from "../inodes.ts";
import {
  COMPAT,
  FLAG_EA_INODE,
  FLAG_EXTENTS,
  FLAG_INLINE,
  I_BLOCK_SIZE,
  INCOMPAT,
  INO,
  INO_BAD_BLOCKS,
  INO_RESIZE,
  OS_HURD,
  SB,
  TYPE_DIRECTORY,
  TYPE_SYMLINK,
} from "../layout.ts";
import { listOrphans } from "../orphans.ts";
import { InodeScan } from "../scan.ts";
import type { Superblock } from "../superblock.ts";
import { type ExtVolume, openExt } from "../volume.ts";
import { MapReader } from "../walk.ts";
import { ATTRIBUTES, BlockTable, EXTENTS, KEPT, NO_NUMBERS, POINTERS, TARGET } from "./block-table.ts";
import {
  type DirectoryCounts,
  type DirectoryPlan,
  DirectoryPlanner,
  directoryFlags,
  isEncrypted,
} from "./directories.ts";
import { inlineRecords } from "./inodes.ts";
import { type Journal, parseJournal, ReplayedSource, readReplay } from "./journal.ts";
import { Keys } from "./keys.ts";
import { INODE_GENERATION, SB_FIRST_INODE } from "./layout.ts";
import { NumberPool } from "./number-pool.ts";
import { KeptCounter, type LeakSearch, type SanitizeReport } from "./report.ts";
import { type Rewriting, SanitizedSource } from "./source.ts";
import { noteMmp, noteSuperblock } from "./superblock.ts";
import { MOST_WORD, Words } from "./words.ts";
import { AttributeNames, blockAttributes, inodeAttributes, noteAttributes } from "./xattrs.ts";

/** Warnings kept. */
const MOST_WARNINGS = 1000;
/** A value in an inode of its own is at most this long. */
const MOST_VALUE = 1 << 24;
/** The first inode that is not reserved, in revision 0. */
const OLD_FIRST_INODE = 11;

export interface SanitizeOptions {
  /** Decides every replacement; the same seed and volume give the same image. */
  readonly seed: string;
  /** "replay": what the journal still holds is brought in first. "drop": it is thrown away. */
  readonly journal: "replay" | "drop";
  /** Inode tables in full. */
  readonly wholeInodeTables?: boolean;
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** A volume about to be sanitised: what is taken of it, and how its blocks are rewritten. */
export interface SanitizePlan {
  /** What to select from: the volume, its journal replayed. */
  readonly source: Source;
  readonly selection: Selection;
  /** Original words that must not turn up in the result. */
  readonly words: Words;
  /** The sanitised volume over `selected`: `source` restricted to `selection`. Close it when done. */
  apply(selected: Source): SanitizedSource;
  report(search: LeakSearch): SanitizeReport;
}

/**
 * Reads a volume's metadata and decides what becomes of every name in it. Throws ExtError where the metadata
 * cannot be followed, UnsupportedError for an external journal that has to be replayed, AbortError.
 */
export async function planSanitize(volume: ExtVolume, options: SanitizeOptions): Promise<SanitizePlan> {
  const log = await openLog(volume, options.journal);
  const planner = new Planner(log, options);
  try {
    return await planner.run();
  } finally {
    planner.close();
  }
}

/** The volume with its journal dealt with. */
interface Log {
  readonly volume: ExtVolume;
  readonly state: SanitizeReport["journal"];
  readonly journal: Journal | null;
  /** Where the log lies; null where there is none in the volume. */
  readonly map: FileMap | null;
  readonly nextSequence: number;
  readonly warnings: readonly string[];
}

async function openLog(volume: ExtVolume, policy: "replay" | "drop"): Promise<Log> {
  const { superblock: sb, source } = volume;
  const dirty = (sb.incompat & INCOMPAT.recover) !== 0;
  const none = { volume, journal: null, map: null, nextSequence: 0, warnings: [] };
  if ((sb.compat & COMPAT.hasJournal) === 0) return { ...none, state: "none" };
  const ino = u32le(sb.raw, SB.journalInode);
  if (ino === 0) {
    if (dirty && policy === "replay")
      throw new UnsupportedError(
        `${source.label}: its journal lies on another device and has to be replayed first, or dropped`,
      );
    return { ...none, state: "external" };
  }
  const inode = await new InodeReader(source, sb, new Descriptors(source, sb)).read(ino);
  const map = await readFileMap(source, sb, inode, ino);
  const head = new Uint8Array(sb.blockSize);
  await readMapped(source, sb, map, head, 0);
  const journal = parseJournal(head, sb.blockSize);
  if (typeof journal === "string")
    return { ...none, map, state: "dropped", warnings: [`journal: ${journal}; it is emptied`] };
  const found = { volume, journal, map, nextSequence: journal.sequence, warnings: [] };
  if (!dirty) return { ...found, state: "dropped" };
  if (policy === "drop") return { ...found, state: "dropped unreplayed" };
  const replay = await readReplay(source, journal, map);
  const replayed = new ReplayedSource(source, sb.blockSize, replay);
  const again = await openExt(replayed, { superblock: sb.backupBlock, blockSize: sb.blockSize });
  const { nextSequence, warnings } = replay;
  return { ...found, volume: again, state: "replayed", nextSequence, warnings };
}

class Planner implements DirectoryPlan {
  readonly table = new BlockTable();
  readonly pool = new NumberPool();
  readonly words = new Words();
  readonly kept = new KeptCounter();
  readonly counts: DirectoryCounts = { directories: 0, indexed: 0, names: 0, moved: 0, unindexed: 0 };
  readonly unindexed = new Set<number>();
  readonly overrides = new Map<number, Uint8Array>();
  private readonly log: Log;
  private readonly options: SanitizeOptions;
  private readonly source: Source;
  private readonly sb: Superblock;
  private readonly descriptors: Descriptors;
  private readonly keys: Keys;
  private readonly names = new AttributeNames();
  private readonly directories: DirectoryPlanner;
  private readonly maps: MapReader;
  private readonly map = new FileMap();
  private readonly attributeBlocks: BlockSet;
  private readonly inodeHashes = new Map<number, { before: number; after: number }>();
  private readonly warnings: string[] = [];
  private readonly kernel = Kernel.get();
  private readonly hashSeed: number;
  private readonly firstInode: number;
  private orphans: ReadonlySet<number> = new Set();
  /** The inode whose map is walked. */
  private ino = 0;
  private generation = 0;
  private treeKind = EXTENTS;
  private translator = 0;
  private targets = 0;
  private values = 0;
  private inlineFiles = 0;
  private texts = 0;
  private wiped = 0;

  constructor(log: Log, options: SanitizeOptions) {
    this.log = log;
    this.options = options;
    this.source = log.volume.source;
    this.sb = log.volume.superblock;
    this.descriptors = new Descriptors(this.source, this.sb);
    this.keys = new Keys(options.seed);
    this.attributeBlocks = new BlockSet(this.sb.blocks);
    this.hashSeed = new Checksums(this.sb).seed;
    const { raw } = this.sb;
    this.firstInode = u32le(raw, SB.revision) === 0 ? OLD_FIRST_INODE : u32le(raw, SB_FIRST_INODE);
    const sums = Checksums.of(this.sb) !== null;
    this.directories = new DirectoryPlanner(this.source, this.sb, this.keys, this, sums);
    this.maps = new MapReader(this.source, this.sb, {
      index: (block) => {
        if (block !== this.translator)
          this.table.add(block, this.treeKind, 0, this.ino, this.generation, NO_NUMBERS);
      },
      data: (start, length, logical, unwritten) => this.map.add(logical, start, length, unwritten),
    });
    for (const line of log.warnings) this.warn(line);
  }

  close(): void {
    this.directories.close();
  }

  warn(line: string): void {
    if (this.warnings.length < MOST_WARNINGS) this.warnings.push(line);
  }

  async run(): Promise<SanitizePlan> {
    const { log, sb, source, options } = this;
    const { signal, onProgress } = options;
    const selected = await log.volume.select({
      scope: "metadata",
      complete: true,
      nativeSelection: false,
      attributeValues: false,
      roles: true,
      wholeInodeTables: options.wholeInodeTables === true,
      ...(signal === undefined ? {} : { signal }),
    });
    for (const line of selected.warnings) this.warn(line);
    const parts = {
      source,
      sb,
      descriptors: this.descriptors,
      inodes: new InodeReader(source, sb, this.descriptors),
    };
    this.orphans = new Set(await listOrphans(parts, (line) => this.warn(line)));
    this.texts += noteSuperblock(sb.raw, this.words);
    await this.noteMmp();
    const scan = new InodeScan(source, sb, this.descriptors, [], new BlockSet(sb.blocks));
    try {
      for (;;) {
        const more = scan.next();
        if (!(more instanceof Promise ? await more : more)) break;
        if (signal?.aborted) throw new AbortError();
        onProgress?.(scan.first - 1 + scan.count, sb.inodes);
        for (let i = 0; i < scan.count; i++) {
          const r = this.visit(scan.bytes, i * sb.inodeSize, scan.first + i);
          if (r !== undefined) await r;
        }
      }
    } finally {
      scan.close();
    }
    this.names.assign(this.keys);
    this.table.sort();
    const blocks = this.restrict(selected);
    const selection = { ...selected, blocks, roles: null, warnings: this.warnings };
    const rewriting = await this.rewriting();
    return {
      source,
      selection,
      words: this.words,
      apply: (base) => new SanitizedSource(base, rewriting),
      report: (search) => this.report(search),
    };
  }

  /** Looks at one inode. Most are regular files without a tree, about which there is nothing to plan. */
  private visit(b: Uint8Array, at: number, ino: number): void | Promise<void> {
    const { sb } = this;
    if (inodeLinks(b, at) === 0 && ino !== INO_BAD_BLOCKS && !this.orphans.has(ino)) {
      if (this.hasRemains(b, at) && ino >= this.firstInode) this.wiped++;
      return;
    }
    const type = inodeType(b, at);
    const flags = inodeFlags(b, at);
    const plain = type !== TYPE_DIRECTORY && type !== TYPE_SYMLINK;
    const attributes = inodeXattrBlock(sb, b, at);
    const special = (flags & (FLAG_INLINE | FLAG_EA_INODE)) !== 0 || sb.creatorOs === OS_HURD;
    if (plain && !special && attributes === 0 && !this.hasTree(b, at) && !this.hasExtra(b, at)) return;
    return this.look(b.slice(at, at + sb.inodeSize), ino);
  }

  private hasTree(b: Uint8Array, at: number): boolean {
    const o = at + INO.blocks;
    if ((inodeFlags(b, at) & FLAG_EXTENTS) !== 0) return b[o + 6] !== 0 || b[o + 7] !== 0;
    return u32le(b, o + 48) !== 0 || u32le(b, o + 52) !== 0 || u32le(b, o + 56) !== 0;
  }

  /** True where i_block of an inode that is not in use holds something, or what lies behind its fields. */
  private hasRemains(b: Uint8Array, at: number): boolean {
    const end = at + INO.blocks + I_BLOCK_SIZE;
    for (let o = at + INO.blocks; o < end; o += 4) if (u32le(b, o) !== 0) return true;
    return this.hasExtra(b, at);
  }

  /** True where something lies behind the inode's fixed fields. */
  private hasExtra(b: Uint8Array, at: number): boolean {
    const { inodeSize } = this.sb;
    if (inodeSize <= 128) return false;
    const start = 128 + (b[at + 128] | (b[at + 129] << 8));
    return start + 4 <= inodeSize && u32le(b, at + start) !== 0;
  }

  private async look(b: Uint8Array, ino: number): Promise<void> {
    const { sb, words } = this;
    const type = inodeType(b, 0);
    const flags = inodeFlags(b, 0);
    const area = inodeAttributes(b);
    if (area !== null) this.values += noteAttributes(b, area, this.names, words, this.kept);
    const attributes = inodeXattrBlock(sb, b, 0);
    if (attributes !== 0) await this.noteAttributeBlock(attributes);
    if ((flags & FLAG_INLINE) !== 0) {
      this.lookInline(b, ino, type);
      return;
    }
    if (!hasBlockMap(sb, b, 0) && ino !== INO_BAD_BLOCKS) {
      if (type !== TYPE_SYMLINK) return;
      if (isEncrypted(sb, flags)) this.kept.add("encrypted symlink targets", "they are ciphertext already");
      else this.noteTarget(b.subarray(INO.blocks, INO.blocks + Math.min(inodeSizeBytes(b, 0), I_BLOCK_SIZE)));
      return;
    }
    if (ino === INO_RESIZE) return;
    this.ino = ino;
    this.generation = u32le(b, INODE_GENERATION);
    this.treeKind = (flags & FLAG_EXTENTS) !== 0 ? EXTENTS : POINTERS;
    this.translator = sb.creatorOs === OS_HURD ? u32le(b, INO.translator) : 0;
    this.map.count = 0;
    const r = this.maps.walk(b, 0, ino);
    if (r instanceof Promise) await r;
    if (type === TYPE_DIRECTORY) await this.directories.add(b, 0, ino, this.map);
    else if (type === TYPE_SYMLINK) await this.lookTarget(b, ino, flags);
    else if ((flags & FLAG_EA_INODE) !== 0) await this.lookValue(b, ino);
  }

  private lookInline(b: Uint8Array, ino: number, type: number): void {
    const { sb, words, kernel } = this;
    const flags = inodeFlags(b, 0);
    if (type === TYPE_SYMLINK) {
      const areas = inlineRecords(b);
      const whole = new Uint8Array(I_BLOCK_SIZE + (areas[1]?.[1] ?? 0));
      whole.set(b.subarray(INO.blocks, INO.blocks + I_BLOCK_SIZE));
      if (areas[1] !== undefined) whole.set(b.subarray(areas[1][0], areas[1][0] + areas[1][1]), I_BLOCK_SIZE);
      if (isEncrypted(sb, flags)) this.kept.add("encrypted symlink targets", "they are ciphertext already");
      else this.noteTarget(whole.subarray(0, Math.min(inodeSizeBytes(b, 0), whole.length)));
      return;
    }
    if (type !== TYPE_DIRECTORY) {
      this.inlineFiles++;
      return;
    }
    this.counts.directories++;
    const how = directoryFlags(sb, ino, flags, false);
    kernel.borrow(b.length, (slot) => {
      slot.bytes.set(b);
      for (const [at, length] of inlineRecords(b)) {
        const n = kernel.raw.listNames(slot.at + at, length, sb.blockSize, how) >>> 0;
        if (isEncrypted(sb, flags)) {
          if (n > 0) this.kept.add("names in encrypted directories", "they are ciphertext already", n);
          continue;
        }
        words.addListed(n);
        this.counts.names += n;
      }
    });
  }

  private noteTarget(target: Uint8Array): void {
    this.targets++;
    const end = target.indexOf(0);
    this.words.addPath(end < 0 ? target : target.subarray(0, end), "target");
  }

  private async lookTarget(b: Uint8Array, ino: number, flags: number): Promise<void> {
    const { sb, map } = this;
    const size = inodeSizeBytes(b, 0);
    const encrypted = isEncrypted(sb, flags);
    if (encrypted) this.kept.add("encrypted symlink targets", "they are ciphertext already");
    else {
      const target = new Uint8Array(Math.min(size, 65536));
      await readMapped(this.source, sb, map, target, 0);
      this.noteTarget(target);
    }
    for (let i = 0; i < map.count; i++)
      for (let k = 0; k < map.length[i]; k++) {
        const bytes = size - (map.logical[i] + k) * sb.blockSize;
        const kind = encrypted ? KEPT : TARGET;
        this.table.add(map.physical[i] + k, kind, 0, ino, 0, Math.max(0, Math.min(bytes, sb.blockSize)));
      }
  }

  /**
   * A value with an inode of its own is file data and not taken: it becomes zeros, with the hash of zeros.
   */
  private async lookValue(b: Uint8Array, ino: number): Promise<void> {
    const { sb, kernel } = this;
    const size = inodeSizeBytes(b, 0);
    if (size > MOST_VALUE) return;
    const value = new Uint8Array(Math.min(size, MOST_WORD));
    await readMapped(this.source, sb, this.map, value, 0);
    this.words.add(value, "value");
    const after = kernel.borrow(65536, (slot) => {
      slot.bytes.fill(0);
      let crc = this.hashSeed;
      for (let left = size; left > 0; left -= 65536) crc = kernel.crc32c(crc, slot.at, Math.min(left, 65536));
      return crc;
    });
    this.inodeHashes.set(ino, { before: u32le(b, INO.accessTime), after });
  }

  private async noteAttributeBlock(block: number): Promise<void> {
    const { sb, source } = this;
    if (block < sb.firstDataBlock || block >= sb.blocks) return;
    if (this.attributeBlocks.add(block) === 0) return;
    const b = new Uint8Array(sb.blockSize);
    const at = block * sb.blockSize;
    const r = at < source.size ? source.read(b, at) : 0;
    if ((r instanceof Promise ? await r : r) < b.length) return;
    this.table.add(block, ATTRIBUTES, 0, 0, 0, NO_NUMBERS);
    const area = blockAttributes(b);
    if (area === null) this.warn(`attribute block ${block} is none; it is zeroed`);
    else this.values += noteAttributes(b, area, this.names, this.words, this.kept);
  }

  private mmpBlock(): number {
    const block = u64le(this.sb.raw, SB.mmpBlock);
    const has = (this.sb.incompat & INCOMPAT.mmp) !== 0;
    return has && block >= this.sb.firstDataBlock && block < this.sb.blocks ? block : -1;
  }

  private async noteMmp(): Promise<void> {
    const block = this.mmpBlock();
    if (block < 0) return;
    const b = new Uint8Array(this.sb.blockSize);
    const r = this.source.read(b, block * b.length);
    if (r instanceof Promise) await r;
    this.texts += noteMmp(b, this.words);
  }

  /** Takes out of the selection what has no rule: nothing goes into the image by default. */
  private restrict(selected: Selection): BlockSet {
    const { sb, table, log } = this;
    const allowed = new BlockSet(sb.blocks);
    const known: readonly Role[] = ["superblock", "descriptors", "bitmap", "inode table", "system"];
    for (const role of known) {
      const set = selected.roles?.get(role);
      if (set !== undefined) allowed.union(set);
    }
    for (let i = 0; i < table.count; i++) allowed.add(table.block[i]);
    const head = this.journalHead();
    if (head >= 0) allowed.add(head);
    const drop = new BlockSet(sb.blocks);
    drop.union(selected.blocks);
    const runs = new ExtentList();
    const each = (set: BlockSet, use: (from: number, to: number) => void) => {
      for (let from = 0; from < set.limit; ) {
        runs.clear();
        from = set.runs(from, set.limit, runs, 65536);
        for (let i = 0; i < runs.count; i++) use(runs.start(i), runs.end(i));
      }
    };
    each(allowed, (from, to) => drop.remove(from, to));
    const { blocks } = selected;
    each(drop, (from, to) => blocks.remove(from, to));
    if (log.map !== null)
      for (let i = 0; i < log.map.count; i++)
        for (let k = 0; k < log.map.length[i]; k++) {
          const block = log.map.physical[i] + k;
          if (block !== head) blocks.remove(block);
        }
    return blocks;
  }

  /** Block of the journal's superblock, or -1. */
  private journalHead(): number {
    const { map } = this.log;
    return map === null || map.count === 0 || map.logical[0] !== 0 ? -1 : map.physical[0];
  }

  private async rewriting(): Promise<Rewriting> {
    const { sb, descriptors: d, log } = this;
    const tables = new Float64Array(sb.groups);
    const used = new Uint32Array(sb.groups);
    for (let group = 0; group < sb.groups; group++) {
      const r = d.load(group);
      if (r instanceof Promise) await r;
      tables[group] = d.inodeTable(group);
      const uninit = sb.groupChecksums && (d.flags(group) & 1) !== 0;
      const unused = sb.groupChecksums ? d.unusedInodes(group) : 0;
      used[group] = uninit ? 0 : Math.max(sb.inodesPerGroup - unused, 0);
    }
    const last = sb.descriptorBlocks - 1;
    const rest = sb.groups - last * sb.descriptorsPerBlock;
    return {
      sb,
      keys: this.keys,
      names: this.names,
      inodeHash: (ino) => this.inodeHashes.get(ino) ?? null,
      orphans: this.orphans,
      firstInode: this.firstInode,
      unindexed: this.unindexed,
      table: this.table,
      pool: this.pool,
      overrides: this.overrides,
      tables,
      used,
      mmpBlock: this.mmpBlock(),
      journalHead: this.journalHead(),
      journal: log.journal,
      nextSequence: log.nextSequence,
      clean: log.state !== "none",
      lastDescriptors: { block: d.blockOf(last), used: rest * sb.descriptorSize },
    };
  }

  private report(search: LeakSearch): SanitizeReport {
    const { counts } = this;
    return {
      seed: this.options.seed,
      journal: this.log.state,
      directories: counts.directories,
      indexedDirectories: counts.indexed,
      names: counts.names,
      movedNames: counts.moved,
      unindexedDirectories: counts.unindexed,
      symlinkTargets: this.targets,
      attributeNames: this.names.count,
      attributeValues: this.values,
      inlineFiles: this.inlineFiles,
      wipedInodes: this.wiped,
      superblockTexts: this.texts,
      kept: [...this.kept.list(), ...ALWAYS_KEPT],
      warnings: this.warnings,
      search,
    };
  }
}

/** What every sanitised image still tells. */
const ALWAYS_KEPT = [
  {
    what: "numbers",
    count: 0,
    why: "owners, permissions, times, sizes, places, UUIDs and quotas are what a bug report is for",
  },
  { what: "lengths of names, targets and values", count: 0, why: "the layout of blocks depends on them" },
  {
    what: "hash ranges of directory indexes",
    count: 0,
    why: "they tell which part of a large directory a name that is guessed would have been in",
  },
];
