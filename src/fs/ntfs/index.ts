import { u16le, u32le } from "../../bytes/endian.ts";
import { NtfsError } from "./errors.ts";
import { isUsable, removeFixup, stateText } from "./fixup.ts";
import type { Inode, NtfsParts } from "./inode.ts";
import {
  AT,
  ENTRY_END,
  FIXUP_STRIDE,
  FN,
  IE,
  IH,
  INDEX_HEADER,
  INDX,
  IR,
  MAGIC_INDX,
  NAMESPACE,
} from "./layout.ts";
import { refNumber, utf16 } from "./record.ts";
import { openStream } from "./stream.ts";

/** Index of file names. */
const NAMES = "$I30";
const MOST_BLOCK = 64 * 1024;
/** Flag of a name that belongs to a folder. */
const IS_FOLDER = 0x10000000;

/** A name in a folder. */
export interface IndexEntry {
  readonly name: string;
  /** Record it leads to, and the sequence number that record should have. */
  readonly record: number;
  readonly sequence: number;
  readonly directory: boolean;
  /** 0 POSIX, 1 Win32, 2 DOS, 3 both Win32 and DOS. */
  readonly namespace: number;
}

/**
 * The names in a folder, short names beside long ones left out: those in the record first, then those of each index
 * block in use, in stored order. Throws NtfsError NTFS_BAD_INDEX where a block or an entry is corrupt; IoError.
 */
export async function readIndex(parts: NtfsParts, inode: Inode): Promise<IndexEntry[]> {
  const root = inode.attributes.find((a) => a.type === AT.indexRoot && a.name === NAMES);
  const structure = `NTFS folder ${inode.number}`;
  if (root === undefined || root.nonResident)
    throw new NtfsError("NTFS_BAD_INDEX", structure, -1, "no index of names");
  const { value } = root;
  const entries: IndexEntry[] = [];
  if (value.length < IR.header + INDEX_HEADER)
    throw new NtfsError("NTFS_BAD_INDEX", structure, -1, `an index root of ${value.length} bytes`);
  addEntries(value, IR.header, structure, entries);
  const blocks = openStream(parts, inode, AT.indexAllocation, NAMES);
  if (blocks === null) return entries.filter(isLong);
  const size = u32le(value, IR.blockSize);
  if (size < FIXUP_STRIDE || size > MOST_BLOCK || size % FIXUP_STRIDE !== 0)
    throw new NtfsError("NTFS_BAD_INDEX", structure, -1, `index blocks of ${size} bytes`);
  const used = await readBitmap(parts, inode);
  const count = Math.min(
    Math.floor(blocks.size / size),
    used.length * 8,
    Math.ceil((parts.boot.clusters * parts.boot.clusterSize) / size),
  );
  const block = new Uint8Array(size);
  for (let i = 0; i < count; i++) {
    if (((used[i >>> 3] >>> (i & 7)) & 1) === 0) continue;
    const r = blocks.read(block, i * size);
    if (r instanceof Promise) await r;
    const name = `${structure} index block ${i}`;
    const state = removeFixup(block, MAGIC_INDX);
    if (!isUsable(state)) throw new NtfsError("NTFS_BAD_INDEX", name, -1, stateText(state));
    addEntries(block, INDX.header, name, entries);
  }
  return entries.filter(isLong);
}

function isLong(entry: IndexEntry): boolean {
  return entry.namespace !== NAMESPACE.dos;
}

async function readBitmap(parts: NtfsParts, inode: Inode): Promise<Uint8Array> {
  const stream = openStream(parts, inode, AT.bitmap, NAMES);
  if (stream === null) return new Uint8Array(0);
  // One bit for each block, of which there are no more than clusters' worth of 512 bytes.
  const most = Math.ceil((parts.boot.clusters * parts.boot.clusterSize) / FIXUP_STRIDE / 8);
  const bits = new Uint8Array(Math.min(stream.size, most, 1 << 24));
  const r = stream.read(bits, 0);
  if (r instanceof Promise) await r;
  return bits;
}

/** Adds the entries after the index header at `header`. */
function addEntries(b: Uint8Array, header: number, structure: string, into: IndexEntry[]): void {
  const bad = (detail: string) => new NtfsError("NTFS_BAD_INDEX", structure, -1, detail);
  const end = header + u32le(b, header + IH.length);
  let at = header + u32le(b, header + IH.entries);
  if (end > b.length) throw bad(`entries up to byte ${end} of ${b.length}`);
  for (;;) {
    if (at + IE.key > end) throw bad(`an entry at byte ${at} of ${end}`);
    const length = u16le(b, at + IE.length);
    const flags = u16le(b, at + IE.flags);
    if ((flags & ENTRY_END) !== 0) return;
    const keyLength = u16le(b, at + IE.keyLength);
    if (length < IE.key || at + length > end || IE.key + keyLength > length || keyLength < FN.name)
      throw bad(`an entry of ${length} bytes at byte ${at}, its key has ${keyLength}`);
    const key = at + IE.key;
    const units = b[key + FN.nameLength];
    if (FN.name + units * 2 > keyLength) throw bad(`a name of ${units} units in ${keyLength} bytes`);
    into.push({
      name: utf16(b, key + FN.name, units),
      record: refNumber(b, at + IE.reference),
      sequence: u16le(b, at + IE.sequence),
      directory: (u32le(b, key + FN.flags) & IS_FOLDER) >>> 0 !== 0,
      namespace: b[key + FN.namespace],
    });
    at += length;
  }
}
