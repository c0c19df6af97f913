import { putU16be, putU32be, putU64be, u16be, u32be, u64be } from "../../../bytes/endian.ts";
import { FormatError } from "../../../errors.ts";
import { LIMIT, SNAPSHOT } from "../layout.ts";
import type { ImageFile } from "./image-file.ts";

const STRUCTURE = "qcow2 snapshot table";
const PIECE = 65536;
/** Extra data that qemu writes: state size, disk size, instruction count. */
const EXTRA = 24;

/** A snapshot as the table has it. Sizes and offsets in bytes. */
export interface SnapshotEntry {
  /** Id and name as they are stored: bytes, mostly UTF-8. */
  readonly id: Uint8Array;
  readonly name: Uint8Array;
  readonly l1Offset: number;
  readonly l1Entries: number;
  /** The disk's size in the snapshot. */
  readonly diskSize: number;
  /** The fixed fields; offsets and lengths in it are not looked at. */
  readonly fixed: Uint8Array;
  /** Extra data, at least what qemu writes; what is not known is kept. */
  readonly extra: Uint8Array;
}

/** Where a table lies and what it says. */
export interface SnapshotTable {
  readonly list: readonly SnapshotEntry[];
  /** Bytes of the table in the file. */
  readonly size: number;
}

/**
 * Reads `count` entries from `offset`; entries without a disk size get `diskSize`. Throws FormatError where an entry is damaged
 * or exceeds qemu's limits.
 */
export function parseSnapshots(
  file: ImageFile,
  offset: number,
  count: number,
  diskSize: number,
): SnapshotTable {
  const list: SnapshotEntry[] = [];
  let buffer = new Uint8Array(0);
  let base = offset;
  let at = offset;
  const bytes = (from: number, length: number): Uint8Array => {
    if (from + length > file.size) throw new FormatError(STRUCTURE, from, "lies beyond the end of the file");
    if (from < base || from + length > base + buffer.length) {
      buffer = new Uint8Array(Math.max(PIECE, length));
      base = from;
      file.read(buffer, from);
    }
    return buffer.slice(from - base, from - base + length);
  };
  for (let i = 0; i < count; i++) {
    at = Math.ceil(at / 8) * 8;
    const fixed = bytes(at, SNAPSHOT.fixed);
    const extraLength = u32be(fixed, SNAPSHOT.extraLength);
    if (extraLength > LIMIT.snapshotExtra)
      throw new FormatError(STRUCTURE, at, `${extraLength} bytes of extra data`);
    const l1Entries = u32be(fixed, SNAPSHOT.l1Entries);
    if (l1Entries * 8 > LIMIT.l1) throw new FormatError(STRUCTURE, at, `L1 table of ${l1Entries} entries`);
    const stored = bytes(at + SNAPSHOT.fixed, extraLength);
    const extra = new Uint8Array(Math.max(EXTRA, extraLength));
    extra.set(stored);
    if (extraLength < 8) putU64be(extra, 0, u32be(fixed, SNAPSHOT.vmStateSize32));
    if (extraLength < 16) putU64be(extra, 8, diskSize);
    // No instruction count.
    if (extraLength < 24) extra.fill(0xff, 16, 24);
    const idLength = u16be(fixed, SNAPSHOT.idLength);
    const nameLength = u16be(fixed, SNAPSHOT.nameLength);
    const texts = bytes(at + SNAPSHOT.fixed + extraLength, idLength + nameLength);
    list.push({
      id: texts.subarray(0, idLength),
      name: texts.subarray(idLength),
      l1Offset: u64be(fixed, SNAPSHOT.l1Offset),
      l1Entries,
      diskSize: u64be(extra, 8),
      fixed,
      extra,
    });
    at += SNAPSHOT.fixed + extraLength + idLength + nameLength;
    if (at - offset > LIMIT.snapshotTable) throw new FormatError(STRUCTURE, at, "too large");
  }
  return { list, size: at - offset };
}

/** A new entry: no machine state, taken at `time`. */
export function newSnapshot(
  id: string,
  name: Uint8Array,
  l1Offset: number,
  l1Entries: number,
  diskSize: number,
  time: { readonly seconds: number; readonly nanoseconds: number },
): SnapshotEntry {
  const fixed = new Uint8Array(SNAPSHOT.fixed);
  putU32be(fixed, SNAPSHOT.seconds, time.seconds);
  putU32be(fixed, SNAPSHOT.nanoseconds, time.nanoseconds);
  const extra = new Uint8Array(EXTRA);
  putU64be(extra, 8, diskSize);
  return { id: new TextEncoder().encode(id), name, l1Offset, l1Entries, diskSize, fixed, extra };
}

/** The table's bytes. */
export function renderSnapshots(list: readonly SnapshotEntry[]): Uint8Array {
  const lengthOf = (e: SnapshotEntry) => SNAPSHOT.fixed + e.extra.length + e.id.length + e.name.length;
  const size = list.reduce((at, e) => Math.ceil(at / 8) * 8 + lengthOf(e), 0);
  const b = new Uint8Array(size);
  let at = 0;
  for (const e of list) {
    at = Math.ceil(at / 8) * 8;
    b.set(e.fixed, at);
    putU64be(b, at + SNAPSHOT.l1Offset, e.l1Offset);
    putU32be(b, at + SNAPSHOT.l1Entries, e.l1Entries);
    putU16be(b, at + SNAPSHOT.idLength, e.id.length);
    putU16be(b, at + SNAPSHOT.nameLength, e.name.length);
    putU32be(b, at + SNAPSHOT.extraLength, e.extra.length);
    b.set(e.extra, at + SNAPSHOT.fixed);
    b.set(e.id, at + SNAPSHOT.fixed + e.extra.length);
    b.set(e.name, at + SNAPSHOT.fixed + e.extra.length + e.id.length);
    at += lengthOf(e);
  }
  return b;
}
