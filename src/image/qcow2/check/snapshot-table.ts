import { u16be, u32be, u64be } from "../../../bytes/endian.ts";
import { LIMIT, SNAPSHOT } from "../layout.ts";
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

const PIECE = 65536;
/** Extra data that qemu knows: state size, disk size, instruction count. */
const KNOWN_EXTRA = 24;
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
  const reader = new PieceReader(image);
  const decoder = new TextDecoder();
  // From the table's start: its offset may be beyond what a number holds to the byte.
  let at = 0;
  let tableLength = 0;
  let extraDropped = 0;
  for (let i = 0; i < count; i++) {
    const before = at;
    at = Math.ceil(at / 8) * 8;
    tableLength = Math.ceil(tableLength / 8) * 8;
    const head = reader.bytes(start, at, SNAPSHOT.fixed).slice();
    const extra = u32be(head, SNAPSHOT.extraLength);
    const idLength = u16be(head, SNAPSHOT.idLength);
    const nameLength = u16be(head, SNAPSHOT.nameLength);
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
    const entry = new Uint8Array(SNAPSHOT.fixed + kept + idLength + nameLength);
    entry.set(head);
    entry.set(reader.bytes(start, at + SNAPSHOT.fixed, kept), SNAPSHOT.fixed);
    const texts = reader.bytes(start, at + SNAPSHOT.fixed + extra, idLength + nameLength);
    entry.set(texts, SNAPSHOT.fixed + kept);
    at += SNAPSHOT.fixed + extra + idLength + nameLength;
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
      id: decoder.decode(cut(texts.subarray(0, idLength))),
      name: decoder.decode(cut(texts.subarray(idLength))),
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

/** Bytes of a table of snapshots: every entry gets the extra data qemu writes. `diskSize` is for entries without one. */
export function serializeSnapshots(list: readonly CheckedSnapshot[], diskSize: number): Uint8Array {
  const entries = list.map((s) => withExtra(s, diskSize));
  const size = entries.reduce((at, e) => Math.ceil(at / 8) * 8 + e.length, 0);
  const b = new Uint8Array(size);
  let at = 0;
  for (const e of entries) {
    at = Math.ceil(at / 8) * 8;
    b.set(e, at);
    at += e.length;
  }
  return b;
}

function withExtra(s: CheckedSnapshot, diskSize: number): Uint8Array {
  const texts = s.entry.subarray(SNAPSHOT.fixed + s.extraLength);
  const idLength = u16be(s.entry, SNAPSHOT.idLength);
  const id = cut(texts.subarray(0, idLength));
  const name = cut(texts.subarray(idLength));
  const extra = Math.max(s.extraLength, KNOWN_EXTRA);
  const b = new Uint8Array(SNAPSHOT.fixed + extra + id.length + name.length);
  const view = new DataView(b.buffer);
  b.set(s.entry.subarray(0, SNAPSHOT.fixed + s.extraLength));
  view.setUint16(SNAPSHOT.idLength, id.length);
  view.setUint16(SNAPSHOT.nameLength, name.length);
  view.setUint32(SNAPSHOT.extraLength, extra);
  if (s.extraLength < 8)
    view.setBigUint64(SNAPSHOT.extraVmStateSize, BigInt(u32be(s.entry, SNAPSHOT.vmStateSize32)));
  if (s.extraLength < 16) view.setBigUint64(SNAPSHOT.extraDiskSize, BigInt(diskSize));
  // No instruction count.
  if (s.extraLength < KNOWN_EXTRA) b.fill(0xff, SNAPSHOT.fixed + NEEDED_EXTRA, SNAPSHOT.fixed + KNOWN_EXTRA);
  // The 32-bit field has the size of the machine's state only where it fits.
  const state = u64be(b, SNAPSHOT.extraVmStateSize);
  view.setUint32(SNAPSHOT.vmStateSize32, state > 0xffffffff ? 0 : state);
  b.set(id, SNAPSHOT.fixed + extra);
  b.set(name, SNAPSHOT.fixed + extra + id.length);
  return b;
}

/** Text ends at its first NUL. */
function cut(b: Uint8Array): Uint8Array {
  const zero = b.indexOf(0);
  return zero < 0 ? b : b.subarray(0, zero);
}

/** Reads small neighbouring pieces of a file in larger ones. */
class PieceReader {
  private readonly image: CheckedImage;
  private buffer = new Uint8Array(0);
  private base = 0;

  constructor(image: CheckedImage) {
    this.image = image;
  }

  /** The bytes [at, at + length) from `start` on, zeros past the end of the file. Valid until the next call. */
  bytes(start: number, at: number, length: number): Uint8Array {
    if (at < this.base || at + length > this.base + this.buffer.length) {
      this.buffer = new Uint8Array(Math.max(PIECE, length));
      this.base = at;
      this.image.read(this.buffer, start + at);
    }
    return this.buffer.subarray(at - this.base, at - this.base + length);
  }
}
