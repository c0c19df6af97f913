import { u16le, u32le } from "../../bytes/endian.ts";
import type { Source } from "../../io/source.ts";
import type { PartitionEntry } from "./entry.ts";
import { MBR, MBR_ENTRY, MBR_SIGNATURE, MBR_TYPES, TYPE_EMPTY, TYPES_EXTENDED } from "./layout.ts";

/** Bytes of a boot sector, whatever the size of the disk's sectors. */
const BOOT_SECTOR = 512;
const FIRST_LOGICAL = 5;
/** Logical partitions followed at most (the kernel stops at 256 minors too). */
const MOST_LOGICAL = 250;

/** One entry of a boot sector's table; sectors. */
export interface MbrSlot {
  readonly type: number;
  readonly start: number;
  readonly sectors: number;
}

/**
 * The four entries of a boot sector, or null where its table cannot be one (no signature, or bytes that are
 * code or text).
 */
export function mbrSlots(sector: Uint8Array): MbrSlot[] | null {
  if (sector.length < BOOT_SECTOR || u16le(sector, MBR.signature) !== MBR_SIGNATURE) return null;
  const slots: MbrSlot[] = [];
  for (let i = 0; i < 4; i++) {
    const at = MBR.entries + i * MBR.entrySize;
    const status = sector[at + MBR_ENTRY.status];
    if (status !== 0 && status !== 0x80) return null;
    slots.push({
      type: sector[at + MBR_ENTRY.type],
      start: u32le(sector, at + MBR_ENTRY.start),
      sectors: u32le(sector, at + MBR_ENTRY.sectors),
    });
  }
  return slots;
}

/**
 * Partitions of an MBR: primary ones as 1 to 4, logical ones from 5. `unit` is the bytes of a sector. Null where the
 * entries make no sense for a disk of this size. A chain of extended boot records ends where it loops, leaves the
 * disk or stops making sense.
 */
export async function readMbr(
  source: Source,
  slots: readonly MbrSlot[],
  unit: number,
): Promise<PartitionEntry[] | null> {
  const used = slots.filter((s) => s.type !== TYPE_EMPTY && s.sectors !== 0);
  if (used.length === 0) return null;
  if (used.some((s) => s.start === 0 || s.start * unit >= source.size)) return null;
  const list: PartitionEntry[] = [];
  for (const [i, s] of slots.entries())
    if (s.type !== TYPE_EMPTY && s.sectors !== 0) list.push(entry(i + 1, s.start, s, unit));
  for (const s of used) if (TYPES_EXTENDED.includes(s.type)) await addLogical(source, s, list, unit);
  return list;
}

async function addLogical(
  source: Source,
  extended: MbrSlot,
  list: PartitionEntry[],
  unit: number,
): Promise<void> {
  const seen = new Set<number>();
  const sector = new Uint8Array(BOOT_SECTOR);
  let number = Math.max(FIRST_LOGICAL, ...list.map((p) => p.number + 1));
  let at = extended.start;
  while (!seen.has(at) && seen.size < MOST_LOGICAL && at * unit + BOOT_SECTOR <= source.size) {
    seen.add(at);
    const r = source.read(sector, at * unit);
    if (r instanceof Promise) await r;
    const slots = mbrSlots(sector);
    if (slots === null) return;
    const own = slots.find(
      (s) => s.type !== TYPE_EMPTY && s.sectors !== 0 && !TYPES_EXTENDED.includes(s.type),
    );
    if (own !== undefined) list.push(entry(number++, at + own.start, own, unit));
    const link = slots.find((s) => TYPES_EXTENDED.includes(s.type) && s.sectors !== 0);
    if (link === undefined) return;
    at = extended.start + link.start;
  }
}

function entry(number: number, start: number, slot: MbrSlot, unit: number): PartitionEntry {
  const type = TYPES_EXTENDED.includes(slot.type)
    ? "Extended"
    : (MBR_TYPES[slot.type] ?? `0x${slot.type.toString(16).padStart(2, "0")}`);
  return { number, start: start * unit, size: slot.sectors * unit, type, name: "" };
}
