import type { Source } from "../../io/source.ts";
import type { PartitionEntry } from "./entry.ts";
import { readGpt } from "./gpt.ts";
import { TYPE_PROTECTIVE } from "./layout.ts";
import { mbrSlots, readMbr } from "./mbr.ts";

export type { PartitionEntry } from "./entry.ts";

export interface PartitionTable {
  readonly kind: "none" | "mbr" | "gpt";
  readonly partitions: readonly PartitionEntry[];
}

/** Sector sizes that are tried for a GPT where nothing says which it is. */
const SECTOR_SIZES: readonly number[] = [512, 4096];

/**
 * Finds the partition table of a disk. GPT is taken where a protective MBR announces it, its backup where
 * the primary is damaged. `sectorSize` (bytes, a power of two from 512) is the unit of both tables; without it an MBR
 * counts in the source's own sectors, or 512, and a GPT is looked for at those, 512 and 4096. Throws FormatError where
 * a GPT is announced and no copy of it can be used; IoError from the source.
 */
export async function readPartitionTable(source: Source, sectorSize?: number): Promise<PartitionTable> {
  const none: PartitionTable = { kind: "none", partitions: [] };
  if (source.size < 1024) return none;
  const sector = new Uint8Array(512);
  const r = source.read(sector, 0);
  if (r instanceof Promise) await r;
  const slots = mbrSlots(sector);
  if (slots === null) return none;
  const unit = sectorSize ?? source.sectorSize ?? 512;
  const gptSizes = sectorSize === undefined ? [...new Set([unit, ...SECTOR_SIZES])] : [sectorSize];
  if (slots.some((s) => s.type === TYPE_PROTECTIVE)) {
    const partitions = await readGpt(source, gptSizes);
    if (partitions !== null) return { kind: "gpt", partitions };
  }
  const partitions = await readMbr(source, slots, unit);
  return partitions === null ? none : { kind: "mbr", partitions };
}
