import { putU32be, putU64be, u32be, u64be } from "../../../bytes/endian.ts";
import { FormatError } from "../../../errors.ts";
import { LIMIT, SNAPSHOT, SNAPSHOT_EXTRA } from "../layout.ts";
import { entryBytes, entryLengths, joinEntries, PieceReader, wholeExtra } from "../snapshot-entry.ts";
import type { ImageFile } from "./image-file.ts";

const STRUCTURE = "qcow2 snapshot table";

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
 * Reads `count` entries from `offset`; entries without a disk size get `diskSize`. Throws FormatError where an entry is
 * damaged or exceeds qemu's limits.
 */
export function parseSnapshots(
  file: ImageFile,
  offset: number,
  count: number,
  diskSize: number,
): SnapshotTable {
  const list: SnapshotEntry[] = [];
  const reader = new PieceReader((into, at) => file.read(into, at));
  const bytes = (at: number, length: number): Uint8Array => {
    if (at + length > file.size) throw new FormatError(STRUCTURE, at, "lies beyond the end of the file");
    return reader.bytes(at, length);
  };
  let at = offset;
  for (let i = 0; i < count; i++) {
    at = Math.ceil(at / 8) * 8;
    const fixed = bytes(at, SNAPSHOT.fixed);
    const lengths = entryLengths(fixed);
    if (lengths.extra > LIMIT.snapshotExtra)
      throw new FormatError(STRUCTURE, at, `${lengths.extra} bytes of extra data`);
    const l1Entries = u32be(fixed, SNAPSHOT.l1Entries);
    if (l1Entries * 8 > LIMIT.l1) throw new FormatError(STRUCTURE, at, `L1 table of ${l1Entries} entries`);
    at += SNAPSHOT.fixed;
    const extra = wholeExtra(fixed, bytes(at, lengths.extra), diskSize);
    at += lengths.extra;
    const texts = bytes(at, lengths.id + lengths.name);
    at += texts.length;
    list.push({
      id: texts.subarray(0, lengths.id),
      name: texts.subarray(lengths.id),
      l1Offset: u64be(fixed, SNAPSHOT.l1Offset),
      l1Entries,
      diskSize: u64be(extra, SNAPSHOT_EXTRA.diskSize),
      fixed,
      extra,
    });
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
  const extra = wholeExtra(fixed, new Uint8Array(0), diskSize);
  // Machines that count instructions have executed none.
  extra.fill(0, SNAPSHOT_EXTRA.icount);
  return { id: new TextEncoder().encode(id), name, l1Offset, l1Entries, diskSize, fixed, extra };
}

/** The table's bytes. */
export function renderSnapshots(list: readonly SnapshotEntry[]): Uint8Array {
  return joinEntries(
    list.map((e) => {
      const b = entryBytes(e.fixed, e.extra, e.id, e.name);
      putU64be(b, SNAPSHOT.l1Offset, e.l1Offset);
      putU32be(b, SNAPSHOT.l1Entries, e.l1Entries);
      return b;
    }),
  );
}
