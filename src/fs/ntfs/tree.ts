import { u16le, u32le } from "../../bytes/endian.ts";
import { NtfsError } from "./errors.ts";
import { type IndexEntry, readIndex } from "./index.ts";
import { extentsOf, type Inode, type NtfsParts, readInode } from "./inode.ts";
import { AT, FILE_ROOT, SI } from "./layout.ts";
import { unpackLznt1 } from "./lznt1.ts";
import { utf16 } from "./record.ts";
import { HOLE_LCN, RUN } from "./runlist.ts";
import { Stream } from "./stream.ts";

const TAG_MOUNT_POINT = 0xa0000003;
const TAG_SYMLINK = 0xa000000c;
/** Windows counts 100 ns from 1601-01-01; this many seconds lie before 1970. */
const SECONDS_TO_1970 = 11644473600;
/** Compression units of files on disk are 16 clusters of at most 4 KiB; this leaves room for odd ones. */
const MOST_UNIT = 1 << 24;

/** What stat says. Times are seconds since 1970. */
export interface NtfsStat {
  readonly record: number;
  readonly type: "file" | "directory" | "symlink";
  /** Bytes of the unnamed stream. */
  readonly size: number;
  readonly links: number;
  readonly created: number;
  readonly modified: number;
  readonly changed: number;
  readonly accessed: number;
  /** DOS file attributes (1 read-only, 2 hidden, 4 system ...). */
  readonly attributes: number;
  readonly compressed: boolean;
  readonly encrypted: boolean;
  readonly sparse: boolean;
  /** Names of its other streams. */
  readonly streams: readonly string[];
}

/** Files and folders of an NTFS volume, read only. Paths are "/"-separated; errors are NtfsError with a code. */
export class NtfsTree {
  private readonly parts: NtfsParts;
  private unitOf: Stream | null = null;
  private unitIndex = -1;
  private unit = new Uint8Array(0);

  constructor(parts: NtfsParts) {
    this.parts = parts;
  }

  node(record: number): Promise<Inode> {
    return readInode(this.parts, record);
  }

  /** The inode a path leads to, or null where a name does not exist. Symlinks are not followed. */
  async resolve(path: string): Promise<Inode | null> {
    let here = await this.node(FILE_ROOT);
    for (const name of path.split("/")) {
      if (name === "" || name === ".") continue;
      if (!here.directory) return null;
      const entry = (await this.list(here)).find((e) => e.name === name);
      if (entry === undefined) return null;
      here = await this.follow(entry);
    }
    return here;
  }

  /** The inode an entry leads to. Throws NTFS_STALE_REFERENCE where another file has its record now. */
  async follow(entry: IndexEntry): Promise<Inode> {
    const inode = await this.node(entry.record);
    if (entry.sequence === 0 || entry.sequence === inode.sequence) return inode;
    throw new NtfsError(
      "NTFS_STALE_REFERENCE",
      `NTFS name "${entry.name}"`,
      -1,
      `record ${entry.record} has sequence number ${inode.sequence}, not ${entry.sequence}`,
    );
  }

  stat(inode: Inode): NtfsStat {
    const standard = inode.attributes.find((a) => a.type === AT.standardInformation);
    const value = standard === undefined || standard.nonResident ? new Uint8Array(48) : standard.value;
    const data = inode.attributes.find((a) => a.type === AT.data && a.name === "");
    const tag = this.reparse(inode);
    const flags = data?.flags ?? 0;
    return {
      record: inode.number,
      type: tag === null ? (inode.directory ? "directory" : "file") : "symlink",
      size: data?.size ?? 0,
      links: u16le(inode.bytes, 18),
      created: seconds(value, SI.created),
      modified: seconds(value, SI.modified),
      changed: seconds(value, SI.recordChanged),
      accessed: seconds(value, SI.accessed),
      attributes: u32le(value, SI.flags),
      compressed: (flags & 0xff) !== 0,
      encrypted: (flags & 0x4000) !== 0,
      sparse: (flags & 0x8000) !== 0,
      streams: [
        ...new Set(inode.attributes.filter((a) => a.type === AT.data && a.name !== "").map((a) => a.name)),
      ],
    };
  }

  /** Names in a folder, in stored order; system files of the root are among them. */
  async list(inode: Inode): Promise<IndexEntry[]> {
    if (!inode.directory)
      throw new NtfsError("NTFS_BAD_INDEX", `NTFS record ${inode.number}`, -1, "not a folder");
    const entries = await readIndex(this.parts, inode);
    return entries.filter((e) => e.name !== "." && e.name !== "..");
  }

  /** A stream of a file, "" for its contents; null where it has none of that name. */
  open(inode: Inode, name = ""): Stream | null {
    const extents = extentsOf(inode, AT.data, name);
    return extents.length === 0 ? null : new Stream(this.parts, extents);
  }

  /**
   * Reads bytes of a stream from `at`, unpacked where it is compressed; returns how many, 0 at its end. Throws
   * NTFS_ENCRYPTED for an encrypted one, NTFS_BAD_STREAM for corrupt compression.
   */
  async read(stream: Stream, into: Uint8Array, at: number): Promise<number> {
    if (stream.encrypted)
      throw new NtfsError("NTFS_ENCRYPTED", stream.structure, -1, "its contents are encrypted (EFS)");
    if (!stream.compressed) {
      const r = stream.read(into, at);
      return r instanceof Promise ? await r : r;
    }
    const size = stream.unitClusters * this.parts.boot.clusterSize;
    const wanted = Math.max(0, Math.min(into.length, stream.size - at));
    for (let done = 0; done < wanted; ) {
      const index = Math.floor((at + done) / size);
      const unit = await this.unpacked(stream, index, size);
      const from = at + done - index * size;
      const n = Math.min(size - from, wanted - done);
      into.set(unit.subarray(from, from + n), done);
      done += n;
    }
    const real = Math.max(0, Math.min(wanted, stream.initialized - at));
    into.fill(0, real, wanted);
    return wanted;
  }

  /** Target of a symlink or a mount point, as Windows shows it; null for other files. */
  readLink(inode: Inode): string | null {
    return this.reparse(inode);
  }

  private async unpacked(stream: Stream, index: number, size: number): Promise<Uint8Array> {
    if (this.unitOf === stream && this.unitIndex === index) return this.unit;
    if (size > MOST_UNIT)
      throw new NtfsError("NTFS_BAD_STREAM", stream.structure, -1, `compression units of ${size} bytes`);
    if (this.unit.length !== size) this.unit = new Uint8Array(size);
    this.unitOf = null;
    const first = index * stream.unitClusters;
    const stored = realClusters(stream, first);
    if (stored === 0) this.unit.fill(0);
    else {
      const packed = new Uint8Array(stored * this.parts.boot.clusterSize);
      const r = stream.readStored(packed, index * size);
      if (r instanceof Promise) await r;
      if (stored === stream.unitClusters) this.unit.set(packed);
      else if (unpackLznt1(packed, this.unit) === null)
        throw new NtfsError(
          "NTFS_BAD_STREAM",
          stream.structure,
          -1,
          `the compressed data at byte ${index * size} are corrupt`,
        );
    }
    this.unitOf = stream;
    this.unitIndex = index;
    return this.unit;
  }

  private reparse(inode: Inode): string | null {
    const point = inode.attributes.find((a) => a.type === AT.reparsePoint && !a.nonResident);
    if (point === undefined || point.valueLength < 16) return null;
    const { value } = point;
    const tag = u32le(value, 0);
    if (tag !== TAG_SYMLINK && tag !== TAG_MOUNT_POINT) return null;
    const names = tag === TAG_SYMLINK ? 20 : 16;
    // The printed name, or the substitute where there is none.
    const printed = u16le(value, 14);
    const [from, length] = printed > 0 ? [u16le(value, 12), printed] : [u16le(value, 8), u16le(value, 10)];
    if (names + from + length > value.length) return null;
    return utf16(value, names + from, length >>> 1);
  }
}

/** Clusters of a compression unit that are stored: those before its hole. */
function realClusters(stream: Stream, first: number): number {
  let n = 0;
  const { runs } = stream;
  const end = first + stream.unitClusters;
  for (let i = 0; i < runs.length; i += RUN) {
    const from = Math.max(runs[i], first);
    const to = Math.min(runs[i] + runs[i + 2], end);
    if (to <= from) continue;
    if (runs[i + 1] === HOLE_LCN) break;
    n += to - from;
  }
  return n;
}

function seconds(b: Uint8Array, at: number): number {
  const ticks = u32le(b, at + 4) * 0x100000000 + u32le(b, at);
  return Math.floor(ticks / 1e7) - SECONDS_TO_1970;
}
