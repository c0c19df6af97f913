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

/**
 * Finds the partition table of a disk. GPT is taken where a protective MBR announces it, its backup where
 * the primary is damaged. Throws FormatError where a GPT is announced and no copy of it can be used;
 * IoError from the source.
 */
export async function readPartitionTable(source: Source): Promise<PartitionTable> {
  const none: PartitionTable = { kind: "none", partitions: [] };
  if (source.size < 1024) return none;
  const sector = new Uint8Array(512);
  const r = source.read(sector, 0);
  if (r instanceof Promise) await r;
  const slots = mbrSlots(sector);
  if (slots === null) return none;
  if (slots.some((s) => s.type === TYPE_PROTECTIVE)) {
    const partitions = await readGpt(source);
    if (partitions !== null) return { kind: "gpt", partitions };
  }
  const partitions = await readMbr(source, slots);
  return partitions === null ? none : { kind: "mbr", partitions };
}
