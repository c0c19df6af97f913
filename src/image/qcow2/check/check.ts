import { type CheckedFile, CheckedImage } from "./checked-image.ts";
import { type CheckOptions, RefcountCheck } from "./refcount-check.ts";
import { addResult, CheckFailure, type CheckResult, emptyResult, type FailureCode } from "./result.ts";
import { readSnapshotTable } from "./snapshot-table.ts";

export type { CheckOptions } from "./refcount-check.ts";
export type { CheckResult } from "./result.ts";

export interface CheckOutcome {
  readonly result: CheckResult;
  /** Why the check could not be brought to its end; null where it could. */
  readonly failure: FailureCode | null;
}

/**
 * Checks a QCOW2 image without changing it, with qemu's findings in qemu's words and order: counts what refers to
 * each cluster, compares that with the stored refcounts, then the COPIED flags with these. The header must be one
 * that qemu opens: throws FormatError or UnsupportedError where not, IoError where the host cannot read.
 */
export function checkImage(file: CheckedFile, options: CheckOptions = {}): CheckOutcome {
  const image = new CheckedImage(file);
  const snapshotResult = emptyResult();
  const result = emptyResult();
  let failure: FailureCode | null = null;
  try {
    const snapshots = readSnapshotTable(image, snapshotResult, options.report ?? (() => {}), false);
    new RefcountCheck(image, snapshots, result, options, null).run();
  } catch (error) {
    if (!(error instanceof CheckFailure)) throw error;
    failure = error.code;
  }
  addResult(result, snapshotResult, false);
  return { result, failure };
}
