import { u32be } from "../../bytes/endian.ts";
import { readZeroFilled, type Source } from "../../io/source.ts";
import type { Qcow2Header } from "./header.ts";
import { OFFSET_LOW } from "./layout.ts";

/** What a file lacks at its end: a structure, and where it should be (bytes). */
export interface Missing {
  readonly structure: string;
  readonly at: number;
}

/**
 * Whether a file ends before what its header and reference counts say: a download that was cut short, say. Looks at the
 * end of the refcount table only, so that it costs next to nothing; null where nothing is missing that way.
 */
export async function cutShort(source: Source, header: Qcow2Header): Promise<Missing | null> {
  const { size } = source;
  if (header.l1Offset + header.l1Entries * 8 > size) return { structure: "L1 table", at: header.l1Offset };
  if (header.tableOffset >= size) return { structure: "refcount table", at: header.tableOffset };
  if (header.snapshots > 0 && header.snapshotsOffset >= size)
    return { structure: "snapshot table", at: header.snapshotsOffset };
  const { clusterSize, refcountOrder } = header;
  const table = await readZeroFilled(source, header.tableOffset, header.tableClusters * clusterSize);
  const i = lastWord(table) >> 1;
  if (i < 0) return null;
  const at = u32be(table, i * 8) * 0x100000000 + ((u32be(table, i * 8 + 4) & OFFSET_LOW) >>> 0);
  // Rubbish points anywhere.
  if (at % clusterSize !== 0 || at > Number.MAX_SAFE_INTEGER) return null;
  if (at >= size) return { structure: "refcount block", at };
  const block = await readZeroFilled(source, at, clusterSize);
  let last = 4 * lastWord(block) + 3;
  if (last < 0) return null;
  while (block[last] === 0) last--;
  // The byte holds several entries, or is part of one.
  let entry = Math.floor((last * 8) / 2 ** refcountOrder);
  if (refcountOrder < 3) entry += Math.floor((31 - Math.clz32(block[last])) / 2 ** refcountOrder);
  const cluster = (i * clusterSize * 8) / 2 ** refcountOrder + entry;
  return cluster * clusterSize >= size ? { structure: "cluster", at: cluster * clusterSize } : null;
}

/** Index of the last 32-bit word that is not zero, or -1. */
function lastWord(b: Uint8Array): number {
  const words = new Uint32Array(b.buffer, b.byteOffset, b.length >>> 2);
  let i = words.length - 1;
  while (i >= 0 && words[i] === 0) i--;
  return i;
}
