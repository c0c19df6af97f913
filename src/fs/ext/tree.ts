import { u16le, u32le } from "../../bytes/endian.ts";
import { type DirectoryEntry, parseEntries } from "./directory.ts";
import { ExtError } from "./errors.ts";
import { type FileMap, readFileMap, readMapped } from "./file-map.ts";
import {
  hasBlockMap,
  inodeFlags,
  inodeLinks,
  inodeMode,
  inodeSectors,
  inodeSizeBytes,
  inodeType,
  inodeXattrBlock,
} from "./inode.ts";
import {
  FLAG_INLINE,
  I_BLOCK_SIZE,
  INCOMPAT,
  INO,
  INO_ROOT,
  TYPE_DIRECTORY,
  TYPE_REGULAR,
  TYPE_SYMLINK,
} from "./layout.ts";
import type { Parts } from "./parts.ts";
import { blockXattrs, inodeXattrs } from "./xattr.ts";

const MOST_LINKS = 40;
const MOST_XATTR = 1 << 24;
const MOST_TARGET = 65536;
const INLINE_DATA = "system.data";

/** What stat says. Times are seconds since 1970. */
export interface ExtStat {
  readonly ino: number;
  readonly mode: number;
  readonly type: "file" | "directory" | "symlink" | "other";
  readonly size: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  /** Space taken, bytes. */
  readonly allocated: number;
  readonly accessed: number;
  readonly changed: number;
  readonly modified: number;
}

/** An inode at hand. */
export interface ExtNode {
  readonly ino: number;
  /** Its bytes. */
  readonly inode: Uint8Array;
}

/**
 * Files and folders of an ext volume, read only. Paths are "/"-separated; errors are ExtError with a code.
 */
export class ExtTree {
  private readonly parts: Parts;
  private mapOf = -1;
  private map: FileMap | null = null;

  constructor(parts: Parts) {
    this.parts = parts;
  }

  async node(ino: number): Promise<ExtNode> {
    return { ino, inode: await this.parts.inodes.read(ino) };
  }

  /**
   * The inode a path leads to, or null where a name does not exist. Follows symlinks, the last one too
   * where `follow` says so.
   */
  async resolve(path: string, follow = true): Promise<ExtNode | null> {
    const trail: ExtNode[] = [await this.node(INO_ROOT)];
    const names = path.split("/").reverse();
    let links = 0;
    while (names.length > 0) {
      const name = names.pop()!;
      if (name === "" || name === ".") continue;
      if (name === "..") {
        if (trail.length > 1) trail.pop();
        continue;
      }
      const here = trail[trail.length - 1];
      if (inodeType(here.inode, 0) !== TYPE_DIRECTORY) return null;
      const entry = (await this.list(here)).find((e) => e.name === name);
      if (entry === undefined) return null;
      const next = await this.node(entry.ino);
      if (inodeType(next.inode, 0) === TYPE_SYMLINK && (follow || names.some((n) => n !== ""))) {
        if (++links > MOST_LINKS)
          throw new ExtError(
            "EXT_BAD_DIRECTORY",
            `ext symlink ${next.ino}`,
            -1,
            "too many symlinks in a path",
          );
        const target = await this.readLink(next);
        if (target.startsWith("/")) trail.length = 1;
        names.push(...target.split("/").reverse());
        continue;
      }
      trail.push(next);
    }
    return trail[trail.length - 1];
  }

  stat(node: ExtNode): ExtStat {
    const { ino, inode: b } = node;
    const type = inodeType(b, 0);
    return {
      ino,
      mode: inodeMode(b, 0),
      type:
        type === TYPE_REGULAR
          ? "file"
          : type === TYPE_DIRECTORY
            ? "directory"
            : type === TYPE_SYMLINK
              ? "symlink"
              : "other",
      size: inodeSizeBytes(b, 0),
      uid: u16le(b, INO.uid) | (u16le(b, INO.uidHigh) << 16),
      gid: u16le(b, INO.gid) | (u16le(b, INO.gidHigh) << 16),
      links: inodeLinks(b, 0),
      allocated: inodeSectors(this.parts.sb, b, 0) * 512,
      accessed: u32le(b, INO.accessTime) | 0,
      changed: u32le(b, INO.changeTime) | 0,
      modified: u32le(b, INO.modifyTime) | 0,
    };
  }

  /** Names in a directory, in stored order, "." and ".." left out. */
  async list(node: ExtNode): Promise<DirectoryEntry[]> {
    const { sb, source } = this.parts;
    const hasType = (sb.incompat & INCOMPAT.fileType) !== 0;
    const entries: DirectoryEntry[] = [];
    if (inodeType(node.inode, 0) !== TYPE_DIRECTORY)
      throw new ExtError("EXT_BAD_DIRECTORY", `ext inode ${node.ino}`, -1, "not a directory");
    if ((inodeFlags(node.inode, 0) & FLAG_INLINE) !== 0) {
      const data = await this.inlineData(node);
      // The first four bytes hold the parent's number; what does not fit into i_block follows as a second
      // area.
      parseEntries(data, 4, Math.min(data.length, I_BLOCK_SIZE), sb.blockSize, hasType, 0, entries);
      parseEntries(data, I_BLOCK_SIZE, data.length, sb.blockSize, hasType, 0, entries);
      return entries;
    }
    const map = await this.fileMap(node);
    let total = 0;
    for (let i = 0; i < map.count; i++) {
      total += map.length[i];
      if (total > sb.blocks)
        throw new ExtError("EXT_TREE_LOOP", `ext directory ${node.ino}`, -1, "larger than its volume");
      for (let k = 0; k < map.length[i]; k++) {
        const at = (map.physical[i] + k) * sb.blockSize;
        if ((map.logical[i] + k) * sb.blockSize >= inodeSizeBytes(node.inode, 0)) break;
        const block = new Uint8Array(sb.blockSize);
        const r = at < source.size ? source.read(block, at) : 0;
        const n = r instanceof Promise ? await r : r;
        if (n < sb.blockSize)
          throw new ExtError(
            "EXT_SHORT_READ",
            "ext directory block",
            at,
            `the source ends at ${source.size}`,
          );
        parseEntries(block, 0, sb.blockSize, sb.blockSize, hasType, at, entries);
      }
    }
    return entries.filter((e) => e.name !== "." && e.name !== "..");
  }

  /** Reads bytes of a file from `at`; returns how many, 0 at its end. */
  async read(node: ExtNode, into: Uint8Array, at: number): Promise<number> {
    const size = inodeSizeBytes(node.inode, 0);
    const n = Math.max(0, Math.min(into.length, size - at));
    const piece = into.subarray(0, n);
    if (n === 0) return 0;
    if ((inodeFlags(node.inode, 0) & FLAG_INLINE) !== 0) {
      piece.fill(0);
      piece.set((await this.inlineData(node)).subarray(at, at + n));
      return n;
    }
    await readMapped(this.parts.source, this.parts.sb, await this.fileMap(node), piece, at);
    return n;
  }

  /** Target of a symlink. */
  async readLink(node: ExtNode): Promise<string> {
    const { inode: b } = node;
    const size = inodeSizeBytes(b, 0);
    if (inodeType(b, 0) !== TYPE_SYMLINK || size > MOST_TARGET)
      throw new ExtError("EXT_BAD_INODE", `ext inode ${node.ino}`, -1, "not a symlink");
    const inline = (inodeFlags(b, 0) & FLAG_INLINE) !== 0;
    if (!inline && !hasBlockMap(this.parts.sb, b, 0))
      return new TextDecoder().decode(b.subarray(INO.blocks, INO.blocks + Math.min(size, I_BLOCK_SIZE)));
    const target = new Uint8Array(size);
    await this.read(node, target, 0);
    return new TextDecoder().decode(target);
  }

  /** Extended attributes by full name; inline contents are not among them. */
  async xattrs(node: ExtNode): Promise<Map<string, Uint8Array>> {
    const found = new Map<string, Uint8Array>();
    const { sb, source } = this.parts;
    const entries = inodeXattrs(node.inode, node.ino);
    const block = inodeXattrBlock(sb, node.inode, 0);
    if (block !== 0) {
      if (block < sb.firstDataBlock || block >= sb.blocks)
        throw new ExtError("EXT_BAD_XATTR", `ext inode ${node.ino}`, -1, `attribute block ${block}`);
      const b = new Uint8Array(sb.blockSize);
      const r = source.read(b, block * sb.blockSize);
      if (r instanceof Promise) await r;
      entries.push(...blockXattrs(b, block * sb.blockSize));
    }
    for (const e of entries) {
      if (e.name === INLINE_DATA) continue;
      found.set(e.name, e.value ?? (await this.eaValue(e.inode, e.size)));
    }
    return found;
  }

  private async eaValue(ino: number, size: number): Promise<Uint8Array> {
    if (size > MOST_XATTR)
      throw new ExtError("EXT_BAD_XATTR", `ext inode ${ino}`, -1, `an attribute value of ${size} bytes`);
    const value = new Uint8Array(size);
    await this.read(await this.node(ino), value, 0);
    return value;
  }

  /** Contents kept in the inode: 60 bytes of i_block and what follows in the "system.data" attribute. */
  private async inlineData(node: ExtNode): Promise<Uint8Array> {
    const size = Math.min(inodeSizeBytes(node.inode, 0), this.parts.sb.inodeSize);
    const data = new Uint8Array(size);
    data.set(node.inode.subarray(INO.blocks, INO.blocks + Math.min(size, I_BLOCK_SIZE)));
    if (size > I_BLOCK_SIZE) {
      const more = inodeXattrs(node.inode, node.ino).find((e) => e.name === INLINE_DATA)?.value;
      if (more !== undefined && more !== null) data.set(more.subarray(0, size - I_BLOCK_SIZE), I_BLOCK_SIZE);
    }
    return data;
  }

  private async fileMap(node: ExtNode): Promise<FileMap> {
    if (this.mapOf === node.ino && this.map !== null) return this.map;
    const { source, sb } = this.parts;
    const map = hasBlockMap(sb, node.inode, 0)
      ? await readFileMap(source, sb, node.inode, node.ino)
      : await readFileMap(source, sb, new Uint8Array(sb.inodeSize), node.ino);
    this.mapOf = node.ino;
    this.map = map;
    return map;
  }
}
