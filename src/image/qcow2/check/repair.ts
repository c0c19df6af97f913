import { putU32be, putU64be, u32be } from "../../../bytes/endian.ts";
import type { DurableFile } from "../../../io/durable.ts";
import { AUTOCLEAR, H, INCOMPATIBLE } from "../layout.ts";
import type { CheckOutcome } from "./check.ts";
import { CheckedImage } from "./checked-image.ts";
import { type CheckOptions, RefcountCheck } from "./refcount-check.ts";
import { addResult, CheckFailure, emptyResult, type FailureCode } from "./result.ts";
import { type CheckedSnapshots, readSnapshotTable, serializeSnapshots } from "./snapshot-table.ts";
import { allocateStored, freeStored } from "./stored-writer.ts";

export interface RepairOptions extends CheckOptions {
  /** "leaks": clusters that are counted too often; "all": also everything that can lose data. */
  readonly repair: "leaks" | "all";
}

/**
 * Checks a QCOW2 image and repairs it in place, as `qemu-img check -r`: the result tells what was repaired, and what
 * is left. Every write makes the image better or leaves it as it was, whatever comes after it, and what others depend
 * on is flushed first. The dirty and corrupt marks go where nothing is left. Throws as `checkImage`, and IoError where the
 * host cannot write.
 */
export function repairImage(file: DurableFile, options: RepairOptions): CheckOutcome {
  const image = new CheckedImage(file);
  const report = options.report ?? (() => {});
  const errors = options.repair === "all";
  const snapshotResult = emptyResult();
  const result = emptyResult();
  let failure: FailureCode | null = null;
  dropUnknownAutoclear(file, image);
  try {
    const snapshots = readSnapshotTable(image, snapshotResult, report, errors);
    if (snapshots.dropped > 0) {
      const count = new Uint8Array(4);
      putU32be(count, 0, snapshots.list.length);
      file.write(count, H.snapshots);
      file.sync();
      snapshotResult.corruptionsFixed += snapshots.dropped;
      snapshotResult.corruptions -= snapshots.dropped;
    }
    const check = new RefcountCheck(image, snapshots, result, options, { file, errors });
    check.run();
    if (errors && snapshotResult.corruptions > 0) {
      rewriteSnapshots(file, image, check, snapshots);
      snapshotResult.corruptionsFixed += snapshotResult.corruptions;
      snapshotResult.corruptions = 0;
    }
  } catch (error) {
    if (!(error instanceof CheckFailure)) throw error;
    failure = error.code;
  }
  addResult(result, snapshotResult, false);
  if (failure === null && result.errors === 0 && result.corruptions === 0) clearMarks(file);
  return { result, failure };
}

/** Bits of an image that a program must clear which does not know them. */
function dropUnknownAutoclear(file: DurableFile, image: CheckedImage): void {
  if (image.header.version < 3) return;
  const b = new Uint8Array(8);
  file.read(b, H.autoclear);
  const known = (1 << AUTOCLEAR.bitmaps) | (1 << AUTOCLEAR.rawDataFile);
  const low = u32be(b, 4);
  if (u32be(b, 0) === 0 && (low & ~known) === 0) return;
  putU32be(b, 0, 0);
  putU32be(b, 4, low & known);
  file.write(b, H.autoclear);
  file.sync();
}

/** The image is as it should be: it is neither dirty nor corrupt any more. */
function clearMarks(file: DurableFile): void {
  const head = new Uint8Array(H.incompatible + 8);
  file.read(head, 0);
  if (u32be(head, H.version) < 3) return;
  const low = u32be(head, H.incompatible + 4);
  const marks = (1 << INCOMPATIBLE.dirty) | (1 << INCOMPATIBLE.corrupt);
  if ((low & marks) === 0) return;
  file.sync();
  const b = head.slice(H.incompatible + 4);
  putU32be(b, 0, low & ~marks);
  file.write(b, H.incompatible + 4);
  file.sync();
}

/** Writes the snapshot table to new clusters, switches the header over and frees the table before. */
function rewriteSnapshots(
  file: DurableFile,
  image: CheckedImage,
  check: RefcountCheck,
  snapshots: CheckedSnapshots,
): void {
  const { refcounts } = check;
  const table = serializeSnapshots(snapshots.list, image.header.size);
  const clusters = Math.ceil(table.length / image.clusterSize);
  const offset = clusters === 0 ? 0 : allocateStored(image, refcounts, file, clusters) * image.clusterSize;
  if (clusters > 0) {
    file.grow(offset + clusters * image.clusterSize);
    file.write(table, offset);
  }
  file.sync();
  const b = new Uint8Array(12);
  putU32be(b, 0, snapshots.list.length);
  putU64be(b, 4, offset);
  file.write(b, H.snapshots);
  file.sync();
  freeStored(image, refcounts, file, snapshots.offset, snapshots.size);
  file.sync();
}
