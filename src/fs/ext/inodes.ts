import type { Source } from "../../io/source.ts";
import type { Descriptors } from "./descriptors.ts";
import { ExtError } from "./errors.ts";
import type { Superblock } from "./superblock.ts";

/** Reads single inodes by number. For all of them, use InodeScan. */
export class InodeReader {
  private readonly source: Source;
  private readonly sb: Superblock;
  private readonly descriptors: Descriptors;

  constructor(source: Source, sb: Superblock, descriptors: Descriptors) {
    this.source = source;
    this.sb = sb;
    this.descriptors = descriptors;
  }

  /** Bytes of inode `ino` (1-based), `inodeSize` of them. Throws ExtError where there is no such inode. */
  async read(ino: number): Promise<Uint8Array> {
    const { sb, source, descriptors } = this;
    if (!(ino >= 1 && ino <= sb.inodes))
      throw new ExtError("EXT_BAD_INODE", "ext inode", -1, `number ${ino} of ${sb.inodes}`);
    const group = Math.floor((ino - 1) / sb.inodesPerGroup);
    // Another reader may have moved the descriptors on while this one waited.
    for (let r = descriptors.load(group); r instanceof Promise; r = descriptors.load(group)) await r;
    const table = descriptors.inodeTable(group);
    if (table === 0)
      throw new ExtError("EXT_MISSING_INODE_TABLE", `ext descriptor of group ${group}`, -1, "no inode table");
    if (table < sb.firstDataBlock || table + sb.inodeBlocks > sb.blocks)
      throw new ExtError(
        "EXT_BAD_INODE_TABLE",
        `ext descriptor of group ${group}`,
        -1,
        `inode table at block ${table} of ${sb.blocks}`,
      );
    const at = table * sb.blockSize + ((ino - 1) % sb.inodesPerGroup) * sb.inodeSize;
    const b = new Uint8Array(sb.inodeSize);
    const n = at < source.size ? source.read(b, at) : 0;
    if ((n instanceof Promise ? await n : n) < b.length)
      throw new ExtError("EXT_SHORT_READ", `ext inode ${ino}`, at, `the source ends at byte ${source.size}`);
    return b;
  }
}
