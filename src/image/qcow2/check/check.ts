import { type CheckedFile, CheckedImage, refcountMax, StoredRefcounts } from "./checked-image.ts";
import { compareWindow, loadWindow } from "./compare.ts";
import { checkCopiedFlags } from "./copied.ts";
import { Counters, NarrowCounters } from "./counters.ts";
import { addResult, CheckFailure, type CheckResult, emptyResult, type FailureCode } from "./result.ts";
import { type CheckedSnapshots, readSnapshotTable } from "./snapshot-table.ts";
import { MOST_CLUSTERS, ReferenceWalk } from "./walk.ts";

export interface CheckOptions {
  /** Gets each finding as a line of qemu's words. */
  readonly report?: (line: string) => void;
  /** Bytes of in-memory counts at most; larger images are gone through several times. */
  readonly windowBytes?: number;
}

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
  const report = options.report ?? (() => {});
  const sum = emptyResult();
  const snapshotResult = emptyResult();
  const result = emptyResult();
  try {
    const snapshots = readSnapshotTable(image, snapshotResult, report, false);
    new RefcountCheck(image, snapshots, result, report, options.windowBytes).run();
  } catch (error) {
    if (!(error instanceof CheckFailure)) throw error;
    addResult(sum, result, true);
    addResult(sum, snapshotResult, false);
    return { result: sum, failure: error.code };
  }
  addResult(sum, result, true);
  addResult(sum, snapshotResult, false);
  return { result: sum, failure: null };
}

/** Reference counts of one image, window by window. */
class RefcountCheck {
  private readonly image: CheckedImage;
  private readonly stored: StoredRefcounts;
  private readonly snapshots: CheckedSnapshots;
  private readonly result: CheckResult;
  private readonly report: (line: string) => void;
  private readonly windowBytes: number | undefined;

  constructor(
    image: CheckedImage,
    snapshots: CheckedSnapshots,
    result: CheckResult,
    report: (line: string) => void,
    windowBytes: number | undefined,
  ) {
    this.image = image;
    this.stored = new StoredRefcounts(image);
    this.snapshots = snapshots;
    this.result = result;
    this.report = report;
    this.windowBytes = windowBytes;
  }

  run(): void {
    const { image, result } = this;
    if (image.fileClusters > MOST_CLUSTERS) {
      result.errors++;
      throw new CheckFailure("EFBIG");
    }
    result.totalClusters = Math.ceil(image.header.size / image.clusterSize);
    const start = { ...result };
    let told = 0;
    for (const width of [1, 2, 4] as const) {
      // Counting again with wider counters tells the same again.
      let line = 0;
      const report = (text: string) => {
        if (line++ < told) return;
        told++;
        this.report(text);
      };
      try {
        this.count(width, report);
        return;
      } catch (error) {
        if (!(error instanceof NarrowCounters) || width === 4) throw error;
        Object.assign(result, start);
      }
    }
  }

  private count(width: 1 | 2 | 4, report: (line: string) => void): void {
    const { image, stored, result } = this;
    const highestCount = refcountMax(image.header.refcountOrder);
    const counters = new Counters(
      width,
      highestCount,
      image.fileClusters + 1,
      image.clusterSize,
      this.windowBytes,
    );
    try {
      let clusters = image.fileClusters;
      let highest = 0;
      let mismatches = 0;
      let loud = true;
      const unreadable = onceUnreadable(stored, image.clusterSize, report);
      for (let first = 0; first <= image.fileClusters; first += counters.room) {
        counters.open(first, counters.room, image.fileSize);
        const walk = new ReferenceWalk(
          image,
          stored,
          this.snapshots,
          counters,
          loud ? result : emptyResult(),
          loud ? report : () => {},
          null,
        );
        walk.run();
        loud = false;
        clusters = walk.clusters;
        const compared = compareWindow(image, stored, counters, clusters, result, report, null, unreadable);
        highest = Math.max(highest, compared.highest);
        mismatches += compared.mismatches;
      }
      const single = counters.room >= clusters;
      for (let first = 0; first < clusters; first += counters.room) {
        if (!single || mismatches > 0) {
          counters.open(first, counters.room, image.fileSize);
          loadWindow(image, stored, counters);
        }
        checkCopiedFlags(image, stored, counters, clusters, result, report, null);
      }
      result.imageEndOffset = (highest + 1) * image.clusterSize;
    } finally {
      counters.close();
    }
  }
}

/** Tells of a refcount block that is no cluster, as qemu does when it meets the first. */
function onceUnreadable(
  stored: StoredRefcounts,
  clusterSize: number,
  report: (line: string) => void,
): (block: number) => void {
  let told = false;
  return (block) => {
    if (told || stored.blockOffset(block) % clusterSize === 0) return;
    told = true;
    report(
      `qcow2: Image is corrupt: Refblock offset 0x${stored.blockOffset(block).toString(16)} unaligned ` +
        `(reftable index: ${block === 0 ? "0" : `0x${block.toString(16)}`}); further non-fatal corruption events will be suppressed`,
    );
  };
}
