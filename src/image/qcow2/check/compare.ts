import { type CheckedImage, refcountAt, refcountText, type StoredRefcounts } from "./checked-image.ts";
import type { Counters } from "./counters.ts";
import type { CheckResult } from "./result.ts";

/** What a repair may change: counts that are too high, and those that are too low. */
export interface CompareRepairs {
  readonly leaks: boolean;
  readonly errors: boolean;
  /** Writes the changed refcount block `i`. */
  writeBlock(i: number, block: Uint8Array): void;
}

/** What comparing a window told. */
export interface Compared {
  /** Last cluster that is counted or stored as used; 0 where there is none. */
  readonly highest: number;
  /** Clusters whose counter does not hold what is stored. */
  readonly mismatches: number;
  /** A cluster in use is stored as free, so that the refcount structures have to be made again. */
  readonly rebuild: boolean;
}

/** Tells about refcount blocks that cannot be read, once. */
export type ReportUnreadable = (block: number) => void;

/**
 * Compares the refcounts that are stored with those counted in the window, in ascending order, clusters below
 * `clusters` only.
 */
export function compareWindow(
  image: CheckedImage,
  stored: StoredRefcounts,
  counters: Counters,
  clusters: number,
  result: CheckResult,
  report: (line: string) => void,
  repairs: CompareRepairs | null,
  unreadable: ReportUnreadable,
): Compared {
  const { kernel, table: slot } = counters;
  const order = image.header.refcountOrder;
  const end = Math.min(counters.first + counters.number, clusters);
  let highest = 0;
  let mismatches = 0;
  let rebuild = false;
  let empty = false;
  for (let first = counters.first; first < end; ) {
    const block = Math.floor(first / stored.perBlock);
    const stop = Math.min(end, (block + 1) * stored.perBlock);
    if (stored.unreadable(block)) {
      unreadable(block);
      for (let k = first; k < stop; k++) {
        report(`Can't get refcount for cluster ${k}: Input/output error`);
        result.errors++;
        mismatches++;
      }
      first = stop;
      continue;
    }
    const absent = stored.blockOffset(block) === 0;
    if (!absent || !empty) stored.readBlock(block, slot.bytes);
    empty = absent;
    const entry = first % stored.perBlock;
    const count = stop - first;
    const at = counters.at + (first - counters.first) * counters.width;
    const last = kernel.raw.lastCounter(at, count, counters.width) | 0;
    if (last >= 0) highest = Math.max(highest, first + last);
    let changed = false;
    for (let i = 0; ; i++) {
      i = kernel.raw.compareRefcounts(slot.at, entry, i, count, order, at, counters.width) >>> 0;
      if (i >= count) break;
      const cluster = first + i;
      const before = refcountAt(slot.bytes, entry + i, order);
      const after = counters.get(cluster);
      mismatches++;
      highest = Math.max(highest, cluster);
      const low = before < after;
      if (before === 0) rebuild = true;
      const fix = repairs !== null && before !== 0 && (low ? repairs.errors : repairs.leaks);
      report(
        `${fix ? "Repairing" : low ? "ERROR" : "Leaked"} cluster ${cluster} refcount=${refcountText(slot.bytes, entry + i, order)} reference=${after}`,
      );
      if (fix) {
        kernel.raw.storeRefcounts(
          slot.at,
          entry + i,
          1,
          order,
          counters.at + (cluster - counters.first) * counters.width,
          counters.width,
        );
        changed = true;
        if (low) result.corruptionsFixed++;
        else result.leaksFixed++;
      } else if (low) result.corruptions++;
      else result.leaks++;
    }
    if (changed) {
      repairs!.writeBlock(block, slot.bytes);
      stored.forget();
    }
    first = stop;
  }
  return { highest, mismatches, rebuild };
}

/** Sets the window's counters to the stored refcounts, at most their maximum; 0 where a block cannot be read. */
export function loadWindow(image: CheckedImage, stored: StoredRefcounts, counters: Counters): void {
  const { kernel, table: slot } = counters;
  const end = counters.first + counters.number;
  const max = 2 ** (8 * counters.width) - 1;
  for (let first = counters.first; first < end; ) {
    const block = Math.floor(first / stored.perBlock);
    const stop = Math.min(end, (block + 1) * stored.perBlock);
    if (stored.blockOffset(block) !== 0 && !stored.unreadable(block)) {
      stored.readBlock(block, slot.bytes);
      kernel.raw.loadRefcounts(
        slot.at,
        first % stored.perBlock,
        stop - first,
        image.header.refcountOrder,
        counters.at + (first - counters.first) * counters.width,
        counters.width,
        max,
      );
    }
    first = stop;
  }
}
