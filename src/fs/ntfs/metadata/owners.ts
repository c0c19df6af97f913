import type { BlockSet } from "../../../bytes/block-set.ts";
import { Kernel, type Slot } from "../../../kernel/kernel.ts";
import { FILE_EXTEND } from "../layout.ts";
import type { RecordScan } from "../mft.ts";

/** Last of the system files, which are looked at whatever they hold: the data of most of them is metadata. */
export const LAST_SYSTEM = FILE_EXTEND;

/**
 * Finds, among the records of a scan, those of files that may own metadata outside of their record: system files, and
 * others with an attribute list, with a non-resident attribute that is no $DATA, or with attributes that are not as
 * they should be. Takes an arena slot: `close` it.
 */
export class OwnerFinder {
  private readonly recordSize: number;
  private readonly slot: Slot;
  private readonly found: Uint32Array;

  constructor(scan: RecordScan, recordSize: number) {
    this.recordSize = recordSize;
    this.slot = Kernel.get().take((scan.bytes.length / recordSize) * 4);
    this.found = new Uint32Array(this.slot.bytes.buffer, this.slot.at, this.slot.bytes.length >>> 2);
  }

  /** Adds the numbers of such records in the batch that `scan` holds. */
  find(scan: RecordScan, into: BlockSet): void {
    const { raw } = Kernel.get();
    const apart = Math.max(0, Math.min(scan.count, LAST_SYSTEM + 1 - scan.first));
    const { address, stateAddress, count, first } = scan;
    const n = raw.ntfsOwners(address, this.recordSize, count, stateAddress, apart, this.slot.at) >>> 0;
    for (let i = 0; i < n; i++) into.add(first + this.found[i]);
  }

  close(): void {
    Kernel.get().give(this.slot);
  }
}
