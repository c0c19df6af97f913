import { putU32be, putU64be, u32be } from "../../../bytes/endian.ts";
import { IoError } from "../../../errors.ts";
import type { DurableFile } from "../../../io/durable.ts";
import { HeaderState } from "../edit/header-rewrite.ts";
import { H, INCOMPATIBLE } from "../layout.ts";
import type { CheckOutcome } from "./check.ts";
import { CheckedImage } from "./checked-image.ts";
import { type CheckOptions, RefcountCheck } from "./refcount-check.ts";
import { addResult, CheckFailure, type CheckResult, emptyResult, type FailureCode } from "./result.ts";
import { type CheckedSnapshots, readSnapshotTable, serializeSnapshots } from "./snapshot-table.ts";
import { freeStored, freeStretch, takeStretch } from "./stored-writer.ts";

export interface RepairOptions extends CheckOptions {
  /** "leaks": clusters that are counted too often; "all": also everything that can lose data. */
  readonly repair: "leaks" | "all";
}

/**
 * Checks a QCOW2 image and repairs it in place, as `qemu-img check -r`: the result tells what was repaired, and what
 * is left. Every write makes the image better or leaves it as it was, whatever comes after it, and what others depend
 * on is flushed first. The dirty and corrupt marks go where nothing is left. Where the host has no room, the failure is
 * ENOSPC. Throws as `checkImage`, and IoError where the host cannot write for other reasons.
 */
export function repairImage(file: DurableFile, options: RepairOptions): CheckOutcome {
  const image = new CheckedImage(file);
  const report = options.report ?? (() => {});
  const errors = options.repair === "all";
  const snapshotResult = emptyResult();
  const result = emptyResult();
  let failure: FailureCode | null = null;
  dropStale(file, image);
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
      rewriteSnapshots(file, image, check, snapshots, snapshotResult, report);
      snapshotResult.corruptionsFixed += snapshotResult.corruptions;
      snapshotResult.corruptions = 0;
    }
  } catch (error) {
    if (error instanceof CheckFailure) failure = error.code;
    else if (error instanceof IoError && error.code === "ENOSPC") failure = error.code;
    else throw error;
  }
  addResult(result, snapshotResult, false);
  if (failure === null && result.errors === 0 && result.corruptions === 0) clearMarks(file);
  return { result, failure };
}

/**
 * What a program clears when it opens an image to change it: autoclear bits it does not know, and bitmaps that are out
 * of step with the data.
 */
function dropStale(file: DurableFile, image: CheckedImage): void {
  const { header } = image;
  const b = new Uint8Array(header.clusterSize);
  const n = file.read(b, 0);
  const state = new HeaderState(b.subarray(0, n), header);
  const stale = header.bitmaps !== null && !header.bitmapsValid;
  if (stale) state.apply({ bitmaps: null });
  if (!state.clearUnknownAutoclear() && !stale) return;
  file.write(state.render(header.clusterSize), 0);
  file.sync();
  image.reload();
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
  result: CheckResult,
  report: (line: string) => void,
): void {
  const { refcounts, overlaps } = check;
  const table = serializeSnapshots(snapshots.list, image.header.size);
  const clusters = Math.ceil(table.length / image.clusterSize);
  let offset = 0;
  if (clusters > 0) {
    offset = freeStretch(image, refcounts, clusters) * image.clusterSize;
    overlaps.demand(
      offset,
      table.length,
      null,
      () => result.errors++,
      "ERROR failed to update snapshot table: Input/output error",
    );
    takeStretch(image, refcounts, file, offset / image.clusterSize, clusters);
    file.grow(offset + clusters * image.clusterSize);
    file.write(table, offset);
  }
  file.sync();
  const b = new Uint8Array(12);
  putU32be(b, 0, snapshots.list.length);
  putU64be(b, 4, offset);
  file.write(b, H.snapshots);
  file.sync();
  const refused = freeStored(image, refcounts, file, snapshots.offset, snapshots.size);
  if (refused !== null) report(`qcow2_free_clusters failed: ${refused}`);
  file.sync();
}
