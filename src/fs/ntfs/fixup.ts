import { u16le, u32le } from "../../bytes/endian.ts";
import { Kernel, type Slot } from "../../kernel/kernel.ts";
import { NtfsError } from "./errors.ts";
import { FIXUP_STRIDE, MAGIC_BAAD, MST } from "./layout.ts";

/**
 * A record as it was read: usable, without its magic, torn (written in part), not readable at all, or with an
 * impossible update sequence array: native uses such a record as it is, sequence numbers in it and all.
 */
export const RECORD_OK = 0;
export const RECORD_NO_MAGIC = 1;
export const RECORD_TORN = 2;
export const RECORD_UNREADABLE = 3;
export const RECORD_RAW = 4;

/** True for a record that can be looked into. */
export function isUsable(state: number): boolean {
  return state === RECORD_OK || state === RECORD_RAW;
}

/**
 * Removes the fixups of `count` records of `size` bytes that lie in `slot` from its start, and writes one state a
 * record (RECORD_OK ...) to `states` (in wasm memory too). `magic`: what a record must start with. Returns how many
 * records are not RECORD_OK; those are left as they are.
 */
export function removeFixups(slot: Slot, size: number, count: number, magic: number, states: Slot): number {
  if (count * size > slot.bytes.length || count > states.bytes.length)
    throw new RangeError(`fixups of ${count} records of ${size} bytes in ${slot.bytes.length}`);
  return Kernel.get().raw.ntfsUnfix(slot.at, size, count, magic, states.at) >>> 0;
}

/**
 * Puts the fixups back: counts each record's update sequence number up by one (0 and 0xffff become 1), as a writer
 * does. Records without `magic` or with an impossible update sequence are left alone. Returns how many were done.
 */
export function applyFixups(slot: Slot, size: number, count: number, magic: number): number {
  if (count * size > slot.bytes.length)
    throw new RangeError(`fixups of ${count} records of ${size} bytes in ${slot.bytes.length}`);
  return Kernel.get().raw.ntfsFix(slot.at, size, count, magic) >>> 0;
}

/**
 * Removes the fixups of the one record that `b` is, and returns its state; it stays as it is where that is not
 * RECORD_OK. For single records, without starting the kernel.
 */
export function removeFixup(b: Uint8Array, magic: number): number {
  if (u32le(b, MST.magic) !== magic) return RECORD_NO_MAGIC;
  const from = u16le(b, MST.usaOffset);
  const count = u16le(b, MST.usaCount);
  if ((from & 1) !== 0 || from < 8 || count !== b.length / FIXUP_STRIDE + 1) return RECORD_RAW;
  if (from + count * 2 > FIXUP_STRIDE - 2) return RECORD_RAW;
  const number = u16le(b, from);
  for (let end = FIXUP_STRIDE; end <= b.length; end += FIXUP_STRIDE)
    if (u16le(b, end - 2) !== number) return RECORD_TORN;
  for (let i = 1; i < count; i++) b.copyWithin(i * FIXUP_STRIDE - 2, from + i * 2, from + i * 2 + 2);
  return RECORD_OK;
}

/** What is wrong with a record of that state. */
export function stateText(state: number): string {
  if (state === RECORD_NO_MAGIC) return "its magic is not there";
  return state === RECORD_TORN ? "its update sequence does not match: written in part" : "unreadable";
}

/**
 * The error for record `number`, which begins with `magic` and could not be used. `at`: where it lies, bytes, or -1.
 */
export function badState(state: number, number: number, magic: number, at: number): NtfsError {
  // To native a torn record has the magic BAAD.
  const seen = state === RECORD_TORN ? MAGIC_BAAD : magic;
  return new NtfsError("NTFS_BAD_RECORD", `NTFS record ${number}`, at, stateText(state), {
    text: state === RECORD_UNREADABLE ? "" : `Record ${number} has no FILE magic (0x${seen.toString(16)})`,
  });
}
