import { putU16be, putU32be, u16be, u32be, u64be } from "../../bytes/endian.ts";
import { SNAPSHOT, SNAPSHOT_EXTRA } from "./layout.ts";

// An entry of the snapshot table: fixed fields, extra data, id, name; each entry starts at a multiple of 8 bytes.

const PIECE = 65536;

/** Lengths of the parts behind an entry's fixed fields, as these say. */
export function entryLengths(fixed: Uint8Array): { extra: number; id: number; name: number } {
  return {
    extra: u32be(fixed, SNAPSHOT.extraLength),
    id: u16be(fixed, SNAPSHOT.idLength),
    name: u16be(fixed, SNAPSHOT.nameLength),
  };
}

/**
 * The extra data of an entry with what qemu takes for fields that are missing: the short size of the machine's state,
 * `diskSize` (bytes), and no instruction count (all ones).
 */
export function wholeExtra(fixed: Uint8Array, stored: Uint8Array, diskSize: number): Uint8Array {
  const extra = new Uint8Array(Math.max(SNAPSHOT_EXTRA.size, stored.length));
  extra.set(stored);
  const view = new DataView(extra.buffer);
  const { vmStateSize, diskSize: disk, icount, size } = SNAPSHOT_EXTRA;
  if (stored.length < disk) view.setBigUint64(vmStateSize, BigInt(u32be(fixed, SNAPSHOT.vmStateSize32)));
  if (stored.length < icount) view.setBigUint64(disk, BigInt(diskSize));
  if (stored.length < size) extra.fill(0xff, icount, size);
  return extra;
}

/** The bytes of an entry; lengths and the short size of the machine's state are those of its parts. */
export function entryBytes(
  fixed: Uint8Array,
  extra: Uint8Array,
  id: Uint8Array,
  name: Uint8Array,
): Uint8Array {
  const b = new Uint8Array(SNAPSHOT.fixed + extra.length + id.length + name.length);
  b.set(fixed);
  putU16be(b, SNAPSHOT.idLength, id.length);
  putU16be(b, SNAPSHOT.nameLength, name.length);
  putU32be(b, SNAPSHOT.extraLength, extra.length);
  // The 32-bit field has the size only where it fits.
  const state = u64be(extra, SNAPSHOT_EXTRA.vmStateSize);
  putU32be(b, SNAPSHOT.vmStateSize32, state > 0xffffffff ? 0 : state);
  b.set(extra, SNAPSHOT.fixed);
  b.set(id, SNAPSHOT.fixed + extra.length);
  b.set(name, SNAPSHOT.fixed + extra.length + id.length);
  return b;
}

/** A table of entries. */
export function joinEntries(entries: readonly Uint8Array[]): Uint8Array {
  const aligned = (at: number) => Math.ceil(at / 8) * 8;
  const b = new Uint8Array(entries.reduce((at, e) => aligned(at) + e.length, 0));
  let at = 0;
  for (const e of entries) {
    at = aligned(at);
    b.set(e, at);
    at += e.length;
  }
  return b;
}

/** Reads small neighbouring pieces in larger ones. */
export class PieceReader {
  private readonly read: (into: Uint8Array, at: number) => void;
  private buffer = new Uint8Array(0);
  private base = 0;

  /** `read` fills all of `into` from byte `at`. */
  constructor(read: (into: Uint8Array, at: number) => void) {
    this.read = read;
  }

  /** The bytes [at, at + length). */
  bytes(at: number, length: number): Uint8Array {
    if (at < this.base || at + length > this.base + this.buffer.length) {
      this.buffer = new Uint8Array(Math.max(PIECE, length));
      this.base = at;
      this.read(this.buffer, at);
    }
    return this.buffer.slice(at - this.base, at - this.base + length);
  }
}
