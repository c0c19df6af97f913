import { putU16be, putU32be, putU64be, u16be, u32be, u64be } from "../../bytes/endian.ts";
import { FormatError } from "../../errors.ts";
import { readZeroFilled, type Source } from "../../io/source.ts";
import type { Qcow2Header } from "./header.ts";
import { BITMAP, LIMIT } from "./layout.ts";
import { textOf } from "./text.ts";

/** A persistent dirty bitmap, as its directory entry describes it. Sizes and offsets in bytes. */
export interface BitmapEntry {
  readonly name: string;
  /** The name as it is stored. */
  readonly nameBytes: Uint8Array;
  /** Guest bytes of a bit are 2 to the power of this. */
  readonly granularityBits: number;
  /** BITMAP_FLAGS. */
  readonly flags: number;
  readonly tableOffset: number;
  readonly tableEntries: number;
}

/** Flags of a bitmap: not closed cleanly (its data means nothing); records every write (enabled). */
export const BITMAP_FLAGS = { inUse: 1, auto: 2 } as const;

/** A bitmap directory or table that breaks the format. `text`: qemu's words. */
export class BitmapError extends FormatError {
  readonly text: string;
  constructor(offset: number, text: string) {
    super("qcow2 bitmaps", offset, text);
    this.text = text;
  }
}

/** Most bytes of one bitmap: qemu 7.2 opens no image with a longer one. */
const MOST_BYTES = 0x20000000;
const RESERVED_FLAGS = 0xfffffffc;

/** A table's entry: the cluster's bits are all clear, all set, or stored at an offset (the number itself). */
export const ALL_CLEAR = 0;
export const ALL_SET = 1;

/** What qemu says of a bitmap that was not closed cleanly and is to be used. */
export function inconsistentText(name: string): string {
  return (
    `Bitmap '${name}' is inconsistent and cannot be used\n` +
    "Try block-dirty-bitmap-remove to delete this bitmap from disk"
  );
}

/** True for a bitmap that was not closed cleanly. */
export function isInUse(bitmap: BitmapEntry): boolean {
  return (bitmap.flags & BITMAP_FLAGS.inUse) !== 0;
}

/** Whether qemu would refuse a bitmap of a disk of `size` bytes for its length, in an image of such clusters. */
export function bitmapTooLarge(size: number, granularityBits: number, clusterSize: number): boolean {
  const bytes = bitmapBytes(size, granularityBits);
  return bytes > MOST_BYTES || bytes > LIMIT.bitmapTable * clusterSize;
}

/** Bytes of a bitmap over `size` guest bytes. */
export function bitmapBytes(size: number, granularityBits: number): number {
  return Math.ceil(Math.ceil(size / 2 ** granularityBits) / 8);
}

/** Entries of the table of such a bitmap. */
export function bitmapTableEntries(size: number, granularityBits: number, clusterSize: number): number {
  return Math.ceil(bitmapBytes(size, granularityBits) / clusterSize);
}

/** Bytes of a directory entry whose name has so many bytes. */
export function bitmapEntryLength(nameLength: number): number {
  return Math.ceil((BITMAP.fixed + nameLength) / 8) * 8;
}

/** What the directory of an image must agree with. */
type Within = Pick<Qcow2Header, "clusterSize" | "size">;

/**
 * Parses a bitmap directory of `count` bitmaps at byte `offset` of its image. Throws BitmapError with qemu's words
 * where qemu would not open it.
 */
export function parseBitmapDirectory(
  directory: Uint8Array,
  count: number,
  offset: number,
  header: Within,
): BitmapEntry[] {
  const fail = (text: string): never => {
    throw new BitmapError(offset, text);
  };
  if (directory.length === 0) fail("Requested bitmap directory size is zero");
  const list: BitmapEntry[] = [];
  for (let at = 0; at < directory.length; ) {
    if (at + BITMAP.fixed > directory.length) fail("Broken bitmap directory");
    if (list.length >= count) fail("More bitmaps found than specified in header extension");
    const nameLength = u16be(directory, at + BITMAP.nameLength);
    const extra = u32be(directory, at + BITMAP.extraLength);
    const end = at + Math.ceil((BITMAP.fixed + nameLength + extra) / 8) * 8;
    if (end > directory.length) fail("Broken bitmap directory");
    if (extra !== 0) fail("Bitmap extra data is not supported");
    const nameBytes = directory.slice(at + BITMAP.fixed, at + BITMAP.fixed + nameLength);
    const entry: BitmapEntry = {
      name: textOf(nameBytes),
      nameBytes,
      granularityBits: directory[at + BITMAP.granularityBits],
      flags: u32be(directory, at + BITMAP.flags),
      tableOffset: u64be(directory, at + BITMAP.tableOffset),
      tableEntries: u32be(directory, at + BITMAP.tableEntries),
    };
    if (directory[at + BITMAP.type] !== BITMAP.dirtyTracking || !valid(entry, header))
      fail(`Bitmap '${entry.name}' doesn't satisfy the constraints`);
    list.push(entry);
    at = end;
  }
  if (list.length !== count) fail("Less bitmaps found than specified in header extension");
  return list;
}

function valid(e: BitmapEntry, header: Within): boolean {
  if (e.tableEntries === 0 || e.tableEntries > LIMIT.bitmapTable) return false;
  if (e.tableOffset === 0 || e.tableOffset % header.clusterSize !== 0) return false;
  if (e.granularityBits < LIMIT.minGranularityBits || e.granularityBits > LIMIT.maxGranularityBits)
    return false;
  if ((e.flags & RESERVED_FLAGS) !== 0 || e.nameBytes.length > LIMIT.bitmapName) return false;
  const bytes = e.tableEntries * header.clusterSize;
  if (bytes > MOST_BYTES) return false;
  return isInUse(e) || header.size <= bytes * 8 * 2 ** e.granularityBits;
}

/** The directory's bytes. */
export function serializeBitmapDirectory(list: readonly BitmapEntry[]): Uint8Array {
  const b = new Uint8Array(list.reduce((sum, e) => sum + bitmapEntryLength(e.nameBytes.length), 0));
  let at = 0;
  for (const e of list) {
    putU64be(b, at + BITMAP.tableOffset, e.tableOffset);
    putU32be(b, at + BITMAP.tableEntries, e.tableEntries);
    putU32be(b, at + BITMAP.flags, e.flags);
    b[at + BITMAP.type] = BITMAP.dirtyTracking;
    b[at + BITMAP.granularityBits] = e.granularityBits;
    putU16be(b, at + BITMAP.nameLength, e.nameBytes.length);
    b.set(e.nameBytes, at + BITMAP.fixed);
    at += bitmapEntryLength(e.nameBytes.length);
  }
  return b;
}

/**
 * Reads the bitmaps an image has; none where there is no bitmap extension or it is out of step with the data
 * (`header.bitmapsValid` false), as qemu does. Throws BitmapError.
 */
export async function readBitmaps(source: Source, header: Qcow2Header): Promise<BitmapEntry[]> {
  if (header.bitmaps === null || !header.bitmapsValid) return [];
  const { count, size, offset } = header.bitmaps;
  const directory = await readZeroFilled(source, offset, size);
  return parseBitmapDirectory(directory, count, offset, header);
}

/**
 * Parses a bitmap table: ALL_CLEAR, ALL_SET or a byte offset for each cluster of bits. Throws BitmapError where an
 * entry has reserved bits set or is not aligned.
 */
export function parseBitmapTable(table: Uint8Array, offset: number, clusterSize: number): Float64Array {
  const entries = new Float64Array(table.length >>> 3);
  for (let i = 0; i < entries.length; i++) {
    const high = u32be(table, i * 8);
    const low = u32be(table, i * 8 + 4);
    if (high === 0 && low <= 1) {
      entries[i] = low;
      continue;
    }
    const at = high * 0x100000000 + ((low & 0xfffffe00) >>> 0);
    if (high & 0xff000000 || low & 0x1ff || at % clusterSize !== 0)
      throw new BitmapError(offset + i * 8, "Invalid argument");
    entries[i] = at;
  }
  return entries;
}

/** Reads and parses the table of a bitmap. Throws BitmapError. */
export async function readBitmapTable(
  source: Source,
  header: Pick<Qcow2Header, "clusterSize">,
  entry: BitmapEntry,
): Promise<Float64Array> {
  const bytes = await readZeroFilled(source, entry.tableOffset, entry.tableEntries * 8);
  return parseBitmapTable(bytes, entry.tableOffset, header.clusterSize);
}

/**
 * Throws BitmapError where qemu would not open an image because of its bitmaps; the directory and the tables are read,
 * the bits are not.
 */
export async function checkBitmapsLoad(source: Source, header: Qcow2Header): Promise<void> {
  const seen = new Set<string>();
  for (const entry of await readBitmaps(source, header)) {
    const inUse = isInUse(entry);
    const known = seen.has(entry.name);
    if (known && inUse) continue;
    if (known) throw new BitmapError(header.bitmaps!.offset, `Bitmap already exists: ${entry.name}`);
    seen.add(entry.name);
    if (inUse) continue;
    try {
      await readBitmapTable(source, header, entry);
    } catch (error) {
      if (!(error instanceof BitmapError)) throw error;
      throw new BitmapError(
        error.offset,
        `Could not read bitmap_table table from image for bitmap '${entry.name}': Invalid argument`,
      );
    }
    if (entry.tableEntries !== bitmapTableEntries(header.size, entry.granularityBits, header.clusterSize))
      throw new BitmapError(
        entry.tableOffset,
        `Could not read bitmap '${entry.name}' from image: Invalid argument`,
      );
  }
}
