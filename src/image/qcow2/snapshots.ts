import { u32be, u64be } from "../../bytes/endian.ts";
import { FormatError, withNative } from "../../errors.ts";
import type { Source } from "../../io/source.ts";
import type { Qcow2Header } from "./header.ts";
import { LIMIT, SNAPSHOT, SNAPSHOT_EXTRA } from "./layout.ts";
import { entryLengths, wholeExtra } from "./snapshot-entry.ts";
import type { OnTruncated } from "./tables.ts";
import { textOf } from "./text.ts";

/** An internal snapshot, as its table entry describes it. Sizes in bytes. */
export interface Snapshot {
  readonly id: string;
  readonly name: string;
  readonly l1Offset: number;
  readonly l1Entries: number;
  /** Seconds since 1970. */
  readonly seconds: number;
  readonly nanoseconds: number;
  /** Time the machine had been running, nanoseconds. */
  readonly clock: bigint;
  /** Instructions it had executed, or null where that was not recorded. */
  readonly icount: bigint | null;
  readonly vmStateSize: number;
  readonly diskSize: number;
}

const STRUCTURE = "qcow2 snapshot table";
const PIECE = 65536;
/** Longest entry: the fixed part, extra data, id and name. */
const LONGEST = SNAPSHOT.fixed + LIMIT.snapshotExtra + 2 * 65535 + 8;

const u64 = (b: Uint8Array, at: number): bigint => (BigInt(u32be(b, at)) << 32n) | BigInt(u32be(b, at + 4));

const recorded = (icount: bigint): bigint | null => (icount === 0xffffffffffffffffn ? null : icount);

/**
 * Reads the snapshot table. Throws FormatError where an entry is damaged or the table exceeds qemu's limits. What lies
 * beyond the end of the file is told to `onTruncated` and reads as zeros; without it that is damage too. Where an
 * entry's L1 table lies is not looked at.
 */
export async function readSnapshots(
  source: Source,
  header: Qcow2Header,
  onTruncated?: OnTruncated,
): Promise<Snapshot[]> {
  const list: Snapshot[] = [];
  let buffer = new Uint8Array(0);
  let at = header.snapshotsOffset;
  let base = at;
  let filled = at;
  /** The bytes [at, at + length) of the image, or null where the file ends before. */
  const bytes = async (length: number): Promise<Uint8Array | null> => {
    if (at < base || at + length > base + buffer.length) {
      const wider = new Uint8Array(Math.min(Math.max(PIECE, length), LONGEST));
      const r = source.read(wider, at);
      const n = r instanceof Promise ? await r : r;
      buffer = onTruncated === undefined ? wider.subarray(0, n) : wider;
      filled = at + n;
      base = at;
    }
    if (at + length > filled && onTruncated !== undefined) onTruncated(STRUCTURE, at);
    return at + length > base + buffer.length ? null : buffer.subarray(at - base, at - base + length);
  };
  for (let i = 0; i < header.snapshots; i++) {
    at = Math.ceil(at / 8) * 8;
    const fixed = await bytes(SNAPSHOT.fixed);
    if (fixed === null) throw new FormatError(STRUCTURE, at, `entry ${i} lies beyond the end of the file`);
    const { extra, id, name } = entryLengths(fixed);
    if (extra > LIMIT.snapshotExtra)
      throw withNative(
        new FormatError(STRUCTURE, at, `${extra} bytes of extra data`),
        `Too much extra metadata in snapshot table entry ${i}\n` +
          "You can force-remove this extra metadata with qemu-img check -r all",
      );
    const length = SNAPSHOT.fixed + extra + id + name;
    const entry = await bytes(length);
    if (entry === null) throw new FormatError(STRUCTURE, at, `entry ${i} is cut short`);
    const texts = SNAPSHOT.fixed + extra;
    const whole = wholeExtra(entry, entry.subarray(SNAPSHOT.fixed, texts), header.size);
    list.push({
      id: textOf(entry.subarray(texts, texts + id)),
      name: textOf(entry.subarray(texts + id)),
      l1Offset: u64be(entry, SNAPSHOT.l1Offset),
      l1Entries: u32be(entry, SNAPSHOT.l1Entries),
      seconds: u32be(entry, SNAPSHOT.seconds),
      nanoseconds: u32be(entry, SNAPSHOT.nanoseconds),
      clock: u64(entry, SNAPSHOT.clock),
      icount: recorded(u64(whole, SNAPSHOT_EXTRA.icount)),
      vmStateSize: u64be(whole, SNAPSHOT_EXTRA.vmStateSize),
      diskSize: u64be(whole, SNAPSHOT_EXTRA.diskSize),
    });
    at += length;
    if (at - header.snapshotsOffset > LIMIT.snapshotTable) throw new FormatError(STRUCTURE, at, "too large");
  }
  return list;
}
