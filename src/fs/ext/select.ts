import { BlockSet } from "../../bytes/block-set.ts";
import { u32le } from "../../bytes/endian.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { AbortError } from "../../errors.ts";
import { Pace } from "../../io/pace.ts";
import type { Role, Selection, SelectOptions } from "../volume.ts";
import { addAllocated } from "./bitmaps.ts";
import { Checksums } from "./checksum.ts";
import { ExtError } from "./errors.ts";
import { addLayout, markSuperblocks, markTables } from "./groups.ts";
import { hasBlockMap, inodeFlags, inodeLinks, inodeType, inodeXattrBlock } from "./inode.ts";
import {
  FLAG_EA_INODE,
  FLAG_EXTENTS,
  INO,
  INO_BAD_BLOCKS,
  INO_GROUP_QUOTA,
  INO_RESIZE,
  INO_USER_QUOTA,
  OS_HURD,
  SB,
  TYPE_DIRECTORY,
  TYPE_SYMLINK,
} from "./layout.ts";
import type { MapSink } from "./map-walker.ts";
import { Marker } from "./marker.ts";
import { listOrphans } from "./orphans.ts";
import type { Parts } from "./parts.ts";
import {
  CLASSIFY_DATA,
  CLASSIFY_EA_VALUES,
  CLASSIFY_VISIT_ALL,
  CLASSIFY_WIDE,
  InodeScan,
  KIND_DIRECTORY,
  KIND_VISIT,
  KIND_XATTR,
} from "./scan.ts";
import { MapReader } from "./walk.ts";

/** Groups marked before their inodes are scanned; all of them on any volume below 128 TiB (4 KiB blocks). */
const GROUPS_A_ROUND = 1 << 20;
/** Bad-block list entries kept. */
const MOST_BAD_BLOCKS = 1 << 20;

export interface ExtSelectOptions extends SelectOptions {
  /** Take whole bigalloc clusters, deleted data in them included, as native e2image does. */
  readonly nativeSelection?: boolean;
  /** Take inode tables whole: native's rule where its output is a block device. */
  readonly wholeInodeTables?: boolean;
  /** Take also what native loses: the bad-block list's blocks, orphans on a dirty volume, EA inode values. */
  readonly complete?: boolean;
}

/**
 * Decides which blocks of a volume to take; see Volume.select. Facts: e2image's own rules, proved by
 * comparing outputs.
 */
export async function select(parts: Parts, options: ExtSelectOptions): Promise<Selection> {
  const selector = new Selector(parts, options);
  try {
    await selector.run();
  } finally {
    selector.tellWarnings();
  }
  return selector.selection();
}

class Selector {
  private readonly parts: Parts;
  private readonly options: ExtSelectOptions;
  private readonly marker: Marker;
  private readonly maps: MapReader;
  private readonly tables: BlockSet;
  /** Where the map at hand goes: roles of its tree and its contents, and whether contents are marked. */
  private treeRole: Role = "index";
  private contentRole: Role = "data";
  private contents = false;
  /** Inodes whose contents count as metadata. */
  private readonly system: ReadonlySet<number>;
  /** Inodes that are looked at one by one, ascending. */
  private readonly special: readonly number[];
  private badBlocks: number[] = [];
  private told = 0;
  private readonly pace: Pace;

  constructor(parts: Parts, options: ExtSelectOptions) {
    this.parts = parts;
    this.options = options;
    this.pace = new Pace(() => {
      if (options.signal?.aborted) throw new AbortError();
    });
    const { sb, source } = parts;
    this.marker = new Marker(
      sb,
      options.nativeSelection === true,
      options.roles === true,
      options.scramble === true,
    );
    this.tables = new BlockSet(sb.blocks);
    const { marker } = this;
    const sink: MapSink = {
      index: (block) => marker.mark(block, 1, this.treeRole),
      data: (start, length) => {
        if (this.contents) marker.mark(start, length, this.contentRole);
      },
    };
    this.maps = new MapReader(source, sb, sink);
    this.system = new Set([
      INO_USER_QUOTA,
      INO_GROUP_QUOTA,
      u32le(sb.raw, SB.journalInode),
      u32le(sb.raw, SB.projectQuotaInode),
      u32le(sb.raw, SB.orphanFileInode),
    ]);
    const special = new Set(this.system);
    if (options.roles === true) special.add(INO_RESIZE);
    this.special = [...special].filter((ino) => ino !== 0).sort((a, b) => a - b);
  }

  async run(): Promise<void> {
    const { sb, source, descriptors } = this.parts;
    const { scope } = this.options;
    if (scope === "all") {
      this.marker.blocks.add(0, sb.blocks);
      this.marker.marks = sb.blocks;
      if (this.options.roles !== true) return;
    }
    const whole = scope === "used" || scope === "all";
    this.badBlocks = await this.readBadBlocks();
    markSuperblocks(sb, this.marker, this.options.nativeSelection === true);
    if (whole) this.marker.extra(0, 1, "superblock");
    const checksums = Checksums.of(sb);
    for (let from = 0; from < sb.groups; from += GROUPS_A_ROUND) {
      const to = Math.min(from + GROUPS_A_ROUND, sb.groups);
      for (let g = from; g < to; ) {
        const r = descriptors.load(g);
        if (r instanceof Promise) await r;
        const end = Math.min(to, (Math.floor(g / descriptors.groupsPerLoad) + 1) * descriptors.groupsPerLoad);
        markTables(sb, descriptors, this.marker, this.options.wholeInodeTables === true, g, end);
        if (whole) {
          const wait = this.pace.step();
          if (wait !== undefined) await wait;
          addLayout(sb, descriptors, this.marker, g, end);
          await addAllocated(source, sb, descriptors, checksums, this.marker, g, end);
        }
        g = end;
      }
      try {
        await this.scan(from, to);
      } catch (e) {
        if (!whole || !(e instanceof ExtError)) throw e;
        this.marker.warn(`${e.nativeText} ${e.doing}`);
      }
    }
    if (this.options.complete === true) await this.addLost();
    if (whole && this.options.roles === true) this.restIsData();
  }

  /** Passes on the warnings since the last call. */
  tellWarnings(): void {
    const lines = this.marker.warnings.slice(this.told);
    this.told += lines.length;
    if (lines.length > 0) this.options.onWarnings?.(lines);
  }

  selection(): Selection {
    const { marker } = this;
    return {
      blockSize: this.parts.sb.blockSize,
      blocks: marker.blocks,
      marks: marker.marks,
      roles: marker.roles,
      ...(marker.scrambled === null ? {} : { scrambled: marker.scrambled }),
      warnings: marker.warnings,
    };
  }

  private async scan(fromGroup: number, toGroup: number): Promise<void> {
    const { sb, source, descriptors } = this.parts;
    const { onProgress, scope } = this.options;
    this.tellWarnings();
    if (fromGroup === 0) onProgress?.(0, sb.inodes);
    const flags =
      (scope === "data" ? CLASSIFY_DATA : 0) |
      (sb.wide ? CLASSIFY_WIDE : 0) |
      (this.takesValues() ? CLASSIFY_EA_VALUES : 0) |
      (sb.creatorOs === OS_HURD ? CLASSIFY_VISIT_ALL : 0);
    const scan = new InodeScan(source, sb, descriptors, this.badBlocks, this.tables, fromGroup, toGroup);
    try {
      for (;;) {
        const more = scan.next();
        if (!(more instanceof Promise ? await more : more)) break;
        const wait = this.pace.step();
        if (wait !== undefined) await wait;
        onProgress?.(scan.first - 1 + scan.count, sb.inodes);
        let from = 0;
        for (const ino of this.special) {
          const i = ino - scan.first;
          if (i < from || i >= scan.count) continue;
          const r = this.classified(scan, flags, from, i - from);
          if (r instanceof Promise) await r;
          const v = this.visit(scan.bytes, i * sb.inodeSize, ino);
          if (v instanceof Promise) await v;
          from = i + 1;
        }
        const r = this.classified(scan, flags, from, scan.count - from);
        if (r instanceof Promise) await r;
      }
    } finally {
      scan.close();
    }
  }

  private classified(scan: InodeScan, flags: number, from: number, count: number): void | Promise<void> {
    if (count <= 0) return;
    const n = scan.classify(flags, from, count);
    return this.consume(scan, from, 0, n * 3);
  }

  private consume(scan: InodeScan, from: number, at: number, end: number): void | Promise<void> {
    const { triples: t } = scan;
    const { marker } = this;
    for (let i = at; i < end; i += 3) {
      const kind = t[i + 1] >>> 16;
      if (kind === KIND_VISIT) {
        const index = from + t[i];
        const r = this.visit(scan.bytes, index * this.parts.sb.inodeSize, scan.first + index);
        if (r instanceof Promise) return r.then(() => this.consume(scan, from, i + 3, end));
      } else {
        const role: Role = kind === KIND_DIRECTORY ? "directory" : kind === KIND_XATTR ? "xattr" : "data";
        marker.mark((t[i + 1] & 0xffff) * 0x100000000 + t[i], t[i + 2], role);
      }
    }
  }

  /** Marks what one inode owns. */
  private visit(b: Uint8Array, at: number, ino: number): void | Promise<void> {
    const { sb } = this.parts;
    if (inodeLinks(b, at) === 0) return;
    const xattr = inodeXattrBlock(sb, b, at);
    if (xattr !== 0) this.marker.mark(xattr, 1, "xattr");
    if (!hasBlockMap(sb, b, at)) return;
    const type = inodeType(b, at);
    this.treeRole = "index";
    if (type === TYPE_DIRECTORY) {
      this.contents = true;
      this.contentRole = "directory";
    } else if (type === TYPE_SYMLINK) {
      this.contents = true;
      this.contentRole = "data";
    } else if (this.system.has(ino)) {
      this.contents = true;
      this.contentRole = ino === u32le(sb.raw, SB.journalInode) ? "journal" : "system";
    } else {
      if (ino === INO_RESIZE) this.treeRole = "descriptors";
      this.contentRole = "data";
      this.contents =
        this.options.scope === "data" || (this.takesValues() && (inodeFlags(b, at) & FLAG_EA_INODE) !== 0);
      if (!this.contents && !hasTree(b, at)) return;
    }
    const { scope } = this.options;
    if (scope !== "used" && scope !== "all") return this.maps.walk(b, at, ino);
    // Everything allocated is taken anyway: a map that cannot be followed costs no block.
    try {
      const r = this.maps.walk(b, at, ino);
      return r instanceof Promise ? r.catch((e) => this.survive(e)) : r;
    } catch (e) {
      this.survive(e);
    }
  }

  private takesValues(): boolean {
    return this.options.complete === true && this.options.attributeValues !== false;
  }

  private survive(e: unknown): void {
    if (!(e instanceof ExtError)) throw e;
    this.marker.warn(`${e.nativeText} ${e.doing}`);
  }

  /** The list in inode 1, ascending; empty where it cannot be read, as in native code. */
  private async readBadBlocks(): Promise<number[]> {
    const { sb, source, inodes } = this.parts;
    const list: number[] = [];
    const sink: MapSink = {
      index: () => {},
      data: (start, length) => {
        for (let b = start; b < start + length && list.length < MOST_BAD_BLOCKS; b++)
          if (b >= sb.firstDataBlock && b < sb.blocks) list.push(b);
      },
    };
    try {
      const inode = await inodes.read(INO_BAD_BLOCKS);
      const r = new MapReader(source, sb, sink).walk(inode, 0, INO_BAD_BLOCKS);
      if (r instanceof Promise) await r;
    } catch (e) {
      if (e instanceof ExtError) return [];
      throw e;
    }
    return [...new Set(list)].sort((a, b) => a - b);
  }

  /** What native leaves out although the volume needs it. */
  private async addLost(): Promise<void> {
    const { sb, inodes } = this.parts;
    const { marker } = this;
    const marks = marker.marks;
    const lost = [INO_BAD_BLOCKS, ...(await listOrphans(this.parts, (line) => marker.warn(line)))];
    for (const ino of lost) {
      try {
        const b = await inodes.read(ino);
        if (inodeLinks(b, 0) !== 0) continue;
        this.treeRole = "index";
        this.contentRole = inodeType(b, 0) === TYPE_DIRECTORY ? "directory" : "data";
        this.contents =
          ino !== INO_BAD_BLOCKS && (this.options.scope === "data" || this.contentRole === "directory");
        const xattr = inodeXattrBlock(sb, b, 0);
        if (ino !== INO_BAD_BLOCKS) {
          if (xattr !== 0) marker.mark(xattr, 1, "xattr");
          if (!hasBlockMap(sb, b, 0)) continue;
        }
        const r = this.maps.walk(b, 0, ino);
        if (r instanceof Promise) await r;
      } catch (e) {
        this.survive(e);
      }
    }
    marker.marks = marks;
  }

  /** Whatever is taken and has no other role holds data. */
  private restIsData(): void {
    const { marker } = this;
    const rest = new BlockSet(this.parts.sb.blocks);
    const runs = new ExtentList();
    const each = (set: BlockSet, use: (from: number, to: number) => void) => {
      for (let from = 0; from < set.limit; ) {
        runs.clear();
        from = set.runs(from, set.limit, runs, 65536);
        for (let i = 0; i < runs.count; i++) use(runs.start(i), runs.end(i));
      }
    };
    each(marker.role("data"), (from, to) => rest.add(from, to));
    for (const [role, set] of marker.roles ?? [])
      if (role !== "data") each(set, (from, to) => rest.remove(from, to));
    marker.roles?.set("data", rest);
  }
}

/** True where a regular file's map has blocks of its own. */
function hasTree(b: Uint8Array, at: number): boolean {
  if ((inodeFlags(b, at) & FLAG_EXTENTS) !== 0) return true;
  const o = at + INO.blocks;
  return u32le(b, o + 48) !== 0 || u32le(b, o + 52) !== 0 || u32le(b, o + 56) !== 0;
}
