import { u32be } from "../../../bytes/endian.ts";
import { COPIED_HIGH, OFFSET_HIGH, OFFSET_LOW } from "../layout.ts";
import { type CheckedImage, L1_PIECE, type StoredRefcounts, TableBudget } from "./checked-image.ts";
import type { Counters } from "./counters.ts";
import { type CheckResult, hex64 } from "./result.ts";

/** Writes what a repair changes. Offsets in bytes. */
export interface CopiedRepairs {
  /** Entry `index` of the L1 table. */
  writeL1(bytes: Uint8Array, index: number): void;
  /** The L2 table at byte `at` of the image. */
  writeL2(table: Uint8Array, at: number): void;
}

/**
 * Compares the COPIED flags of the active tables with the stored refcounts: set exactly where the count is 1. The
 * window's counters hold the stored refcounts. Entries whose cluster lies in another window are left to that one;
 * the L1 table, and clusters past the end of the image, belong to the first.
 */
export function checkCopiedFlags(
  image: CheckedImage,
  stored: StoredRefcounts,
  counters: Counters,
  clusters: number,
  result: CheckResult,
  report: (line: string) => void,
  repairs: CopiedRepairs | null,
): void {
  const { header } = image;
  const firstWindow = counters.first === 0;
  const entries = image.entriesPerTable;
  const word = repairs === null ? "ERROR" : "Repairing";
  const { raw } = counters.kernel;
  const table = counters.table;
  const budget = new TableBudget();
  counters.total = clusters;

  const known = (cluster: number): number | null => {
    if (counters.has(cluster)) {
      const n = counters.get(cluster);
      if (n === 1 || (n > 1 && n < counters.max)) return n;
    }
    return stored.get(cluster);
  };

  const there = Math.min(header.l1Entries, Math.max(0, Math.ceil((image.fileSize - header.l1Offset) / 8)));
  const piece = new Uint8Array(Math.min(there, L1_PIECE) * 8);
  for (let i = 0; i < there; i += L1_PIECE) {
    const l1 = piece.subarray(0, Math.min(L1_PIECE, there - i) * 8);
    image.read(l1, header.l1Offset + i * 8);
    for (let p = 0; p < l1.length; p += 8) {
      const high = u32be(l1, p);
      const low = u32be(l1, p + 4);
      const offset = (high & OFFSET_HIGH) * 0x100000000 + ((low & OFFSET_LOW) >>> 0);
      if (offset === 0) continue;
      const index = i + p / 8;
      const cluster = Math.floor(offset / image.clusterSize);
      const count = known(cluster);
      if (count === null) continue;
      if (firstWindow && (count === 1) !== ((high & COPIED_HIGH) !== 0)) {
        report(
          `${word} OFLAG_COPIED L2 cluster: l1_index=${index} l1_entry=${hex64(high, low)} refcount=${stored.text(cluster)}`,
        );
        if (repairs === null) result.corruptions++;
        else {
          repairs.writeL1(flagged(l1, p, count === 1), index);
          result.corruptionsFixed++;
        }
      }
      if (offset >= image.fileSize) continue;
      budget.spend(image.clusterSize, "qcow2 L2 table", offset);
      image.read(table.bytes, offset);
      let dirty = 0;
      for (let j = 0; j < entries; j++) {
        j =
          raw.checkCopied(
            table.at,
            j,
            entries,
            header.clusterBits,
            image.entryFlags,
            counters.walkAt,
            counters.at,
            counters.width,
          ) >>> 0;
        if (j >= entries) break;
        const q = j * image.entryBytes;
        const entryHigh = u32be(table.bytes, q);
        const entryLow = u32be(table.bytes, q + 4);
        const data = (entryHigh & OFFSET_HIGH) * 0x100000000 + ((entryLow & OFFSET_LOW) >>> 0);
        const k = Math.floor(data / image.clusterSize);
        if (k >= clusters && !firstWindow) continue;
        const references = header.external ? 1 : known(k);
        if (references === null || (references === 1) === ((entryHigh & COPIED_HIGH) !== 0)) continue;
        report(
          `${word} OFLAG_COPIED data cluster: l2_entry=${hex64(entryHigh, entryLow)} ` +
            `refcount=${header.external ? 1 : stored.text(k)}`,
        );
        if (repairs === null) result.corruptions++;
        else {
          flagged(table.bytes, q, references === 1);
          dirty++;
        }
      }
      if (dirty > 0) {
        repairs!.writeL2(table.bytes, offset);
        result.corruptionsFixed += dirty;
      }
    }
  }
}

/** The first word of the entry at `p`, its COPIED flag set or not; changes it in place, too. */
function flagged(b: Uint8Array, p: number, copied: boolean): Uint8Array {
  if (copied) b[p] |= 0x80;
  else b[p] &= 0x7f;
  return b.slice(p, p + 8);
}
