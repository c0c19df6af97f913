import { u32be } from "../../../bytes/endian.ts";
import { LIMIT, SNAPSHOT } from "../layout.ts";
import { entryBytes, entryLengths, joinEntries, PieceReader, wholeExtra } from "../snapshot-entry.ts";
import { textOf, untilZero } from "../text.ts";
import type { CheckedImage } from "./checked-image.ts";
import { CheckFailure, type CheckResult } from "./result.ts";

/** A snapshot as a check needs it. */
export interface CheckedSnapshot {
  readonly id: string;
  readonly name: string;
  /** Byte offset of its L1 table, not checked: two words. */
  readonly l1: { readonly high: number; readonly low: number };
  readonly l1Entries: number;
  /** The entry's bytes, without its padding; extra data beyond what qemu takes is left out. */
  readonly entry: Uint8Array;
  readonly extraLength: number;
}

export interface CheckedSnapshots {
  readonly list: CheckedSnapshot[];
  /** Where the table lies. Bytes. */
  readonly offset: number;
  readonly size: number;
  /** Snapshots at the end that had to be given up: the header has to say so before anything else is done. */
  readonly dropped: number;
}

/** Extra data that version 3 demands. */
const NEEDED_EXTRA = 16;

/**
 * Reads the snapshot table as qemu's check does. Counts what is wrong in `result` and reports it. With `repair`
 * what is too much is left out. Throws CheckFailure where the table cannot be read.
 */
export function readSnapshotTable(
  image: CheckedImage,
  result: CheckResult,
  report: (line: string) => void,
  repair: boolean,
): CheckedSnapshots {
  const fail = (code: "EFBIG" | "EINVAL", ...lines: string[]): never => {
    result.errors++;
    for (const line of lines) report(line);
    throw new CheckFailure(code);
  };
  let count = image.snapshots;
  let dropped = 0;
  if (count > LIMIT.snapshots && repair) {
    dropped = count - LIMIT.snapshots;
    report(`Discarding ${dropped} overhanging snapshots`);
    count = LIMIT.snapshots;
  }
  if (count > LIMIT.snapshots)
    fail(
      "EFBIG",
      "qemu-img: ERROR snapshot table too large",
      `You can force-remove all ${count - LIMIT.snapshots} overhanging snapshots with qemu-img check -r all`,
    );
  const { high, low } = image.snapshotsOffset;
  const start = high * 0x100000000 + low;
  if (start % image.clusterSize !== 0 || high >= 0x80000000 || start + count * SNAPSHOT.fixed >= 2 ** 63)
    fail("EINVAL", "qemu-img: ERROR snapshot table offset invalid");
  const list: CheckedSnapshot[] = [];
  // From the table's start: its offset may be beyond what a number holds to the byte.
  const reader = new PieceReader((into, at) => image.read(into, start + at));
  let at = 0;
  let tableLength = 0;
  let extraDropped = 0;
  for (let i = 0; i < count; i++) {
    const before = at;
    at = Math.ceil(at / 8) * 8;
    tableLength = Math.ceil(tableLength / 8) * 8;
    const head = reader.bytes(at, SNAPSHOT.fixed);
    const { extra, id, name } = entryLengths(head);
    let kept = extra;
    if (extra > LIMIT.snapshotExtra) {
      if (!repair)
        fail(
          "EFBIG",
          `qemu-img: ERROR failed to read the snapshot table: Too much extra metadata in snapshot table entry ${i}`,
          "You can force-remove this extra metadata with qemu-img check -r all",
        );
      report(
        `Discarding too much extra metadata in snapshot table entry ${i} (${extra} > ${LIMIT.snapshotExtra})`,
      );
      extraDropped++;
      kept = LIMIT.snapshotExtra;
    }
    const entry = new Uint8Array(SNAPSHOT.fixed + kept + id + name);
    entry.set(head);
    entry.set(reader.bytes(at + SNAPSHOT.fixed, kept), SNAPSHOT.fixed);
    const texts = reader.bytes(at + SNAPSHOT.fixed + extra, id + name);
    entry.set(texts, SNAPSHOT.fixed + kept);
    at += SNAPSHOT.fixed + extra + id + name;
    tableLength += entry.length;
    if (tableLength > LIMIT.snapshotTable || at > 0x7fffffff) {
      if (!repair)
        fail(
          "EFBIG",
          "qemu-img: ERROR failed to read the snapshot table: Snapshot table is too big",
          `You can force-remove all ${count - i} overhanging snapshots with qemu-img check -r all`,
        );
      report(`Discarding ${count - i} overhanging snapshots (snapshot table is too big)`);
      dropped += count - i;
      at = before;
      break;
    }
    list.push({
      id: textOf(texts.subarray(0, id)),
      name: textOf(texts.subarray(id)),
      l1: { high: u32be(head, SNAPSHOT.l1Offset), low: u32be(head, SNAPSHOT.l1Offset + 4) },
      l1Entries: u32be(head, SNAPSHOT.l1Entries),
      entry,
      extraLength: kept,
    });
  }
  result.corruptions += dropped + extraDropped;
  if (image.header.version >= 3)
    list.forEach((s, i) => {
      if (s.extraLength >= NEEDED_EXTRA) return;
      result.corruptions++;
      report(`${repair ? "Repairing" : "ERROR"} snapshot table entry ${i} is incomplete`);
    });
  return { list, offset: start, size: count === 0 ? 0 : at, dropped };
}

/**
 * Bytes of a table of snapshots: every entry gets the extra data qemu writes. `diskSize` is for entries without one.
 */
export function serializeSnapshots(list: readonly CheckedSnapshot[], diskSize: number): Uint8Array {
  return joinEntries(
    list.map((s) => {
      const fixed = s.entry.subarray(0, SNAPSHOT.fixed);
      const texts = s.entry.subarray(SNAPSHOT.fixed + s.extraLength);
      const stored = s.entry.subarray(SNAPSHOT.fixed, SNAPSHOT.fixed + s.extraLength);
      const { id } = entryLengths(fixed);
      return entryBytes(
        fixed,
        wholeExtra(fixed, stored, diskSize),
        untilZero(texts.subarray(0, id)),
        untilZero(texts.subarray(id)),
      );
    }),
  );
}
