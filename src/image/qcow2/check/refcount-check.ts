import { IoError } from "../../../errors.ts";
import type { DurableFile } from "../../../io/durable.ts";
import { type CheckedImage, refcountMax, StoredRefcounts } from "./checked-image.ts";
import { type Compared, type CompareRepairs, compareWindow, loadWindow } from "./compare.ts";
import { type CopiedRepairs, checkCopiedFlags } from "./copied.ts";
import { Counters } from "./counters.ts";
import { OverlapGuard } from "./overlap.ts";
import { rebuildInWindows, rebuildRefcounts, rebuildRoom } from "./rebuild.ts";
import { CheckFailure, type CheckResult, emptyResult } from "./result.ts";
import type { CheckedSnapshots } from "./snapshot-table.ts";
import { MOST_CLUSTERS, ReferenceWalk, type WalkRepairs } from "./walk.ts";

export interface CheckOptions {
  /** Gets each finding as a line of qemu's words. */
  readonly report?: (line: string) => void;
  /** Bytes of in-memory counts at most; larger images are gone through several times. */
  readonly windowBytes?: number;
}

/** What a repair may change, and where. */
export interface RefcountRepair {
  readonly file: DurableFile;
  /** Counts that are too low, flags, entries; else only counts that are too high (and flags, where that is safe). */
  readonly errors: boolean;
}

interface FirstPass {
  /** Clusters looked at. */
  clusters: number;
  /** Last one in use. */
  highest: number;
  mismatches: number;
  /** The refcount structures have to be made again. */
  rebuild: boolean;
  /** What the walk alone found. */
  counted: CheckResult;
}

/**
 * Reference counts of one image: counts, compares, repairs, window by window. What is repaired is written in place
 * where each single write makes the image better whatever comes after; new refcount structures go to free clusters and
 * one write of the header switches over.
 */
export class RefcountCheck {
  private readonly image: CheckedImage;
  private stored: StoredRefcounts;
  private readonly snapshots: CheckedSnapshots;
  private readonly result: CheckResult;
  private readonly report: (line: string) => void;
  private readonly windowBytes: number | undefined;
  private readonly repair: RefcountRepair | null;
  /** Of a repair. */
  private guard: OverlapGuard | null;
  private unreadableTold = false;

  constructor(
    image: CheckedImage,
    snapshots: CheckedSnapshots,
    result: CheckResult,
    options: CheckOptions,
    repair: RefcountRepair | null,
  ) {
    this.image = image;
    this.stored = new StoredRefcounts(image);
    this.snapshots = snapshots;
    this.result = result;
    this.report = options.report ?? (() => {});
    this.windowBytes = options.windowBytes;
    this.repair = repair;
    this.guard =
      repair === null ? null : new OverlapGuard(image, this.stored, snapshots, repair.file, this.report);
  }

  /** The refcounts as they are stored now. */
  get refcounts(): StoredRefcounts {
    return this.stored;
  }

  /** What a repair must not write on. */
  get overlaps(): OverlapGuard {
    return this.guard!;
  }

  /** Throws CheckFailure, FormatError (tables without end), IoError. */
  run(): void {
    const { image, result } = this;
    if (image.fileClusters > MOST_CLUSTERS) {
      result.errors++;
      throw new CheckFailure("EFBIG");
    }
    result.totalClusters = Math.ceil(image.header.size / image.clusterSize);
    const counters = new Counters(
      refcountMax(image.header.refcountOrder),
      this.wanted(image.fileClusters + 1),
      image.clusterSize,
      this.stored.perBlock,
      this.windowBytes,
    );
    try {
      this.runWith(counters);
    } finally {
      counters.close();
    }
  }

  /** Counters for an image of `clusters` clusters: also for those that new refcount structures may need. */
  private wanted(clusters: number): number {
    if (this.repair?.errors !== true) return clusters;
    return clusters + rebuildRoom(clusters, this.stored, this.image.clusterSize);
  }

  private runWith(counters: Counters): void {
    const { image, result, repair } = this;
    const first = this.countAndCompare(counters);
    let { highest } = first;
    let changed = first.mismatches > 0;
    if (first.rebuild && repair?.errors) {
      highest = this.rebuild(counters, first.clusters, highest);
      changed = true;
    } else if (repair !== null) {
      if (first.rebuild) {
        this.report("ERROR need to rebuild refcount structures");
        result.errors++;
        throw new CheckFailure("EIO");
      }
      if (result.leaks > 0 || result.corruptions > 0) {
        Object.assign(result, first.counted);
        highest = this.compareAll(counters, first.clusters, result, repair.errors);
        changed = true;
      }
    }
    this.checkFlags(counters, changed);
    result.imageEndOffset = (highest + 1) * image.clusterSize;
  }

  /** True where one window has all clusters of the image. */
  private whole(counters: Counters): boolean {
    return counters.first === 0 && counters.number > this.image.fileClusters;
  }

  /** The first pass: tells everything. */
  private countAndCompare(counters: Counters): FirstPass {
    const { image, result } = this;
    const pass = { clusters: 0, highest: 0, mismatches: 0, rebuild: false, counted: result };
    for (let first = 0; first <= image.fileClusters; first += counters.number) {
      const walk = this.walk(counters, first, first === 0, first === 0 ? this.walkRepairs() : null);
      pass.clusters = Math.max(pass.clusters, walk.clusters);
      if (first === 0) {
        pass.counted = { ...result };
        pass.rebuild = walk.rebuild;
      }
      const compared = this.compare(counters, walk.clusters, result, null);
      pass.highest = Math.max(pass.highest, compared.highest);
      pass.mismatches += compared.mismatches;
      pass.rebuild ||= compared.rebuild;
    }
    return pass;
  }

  /** Counts the references to the clusters of the window that starts at `first`; tells what it finds, or nothing. */
  private walk(
    counters: Counters,
    first: number,
    loud: boolean,
    repairs: WalkRepairs | null = null,
  ): ReferenceWalk {
    counters.open(first, this.image.fileSize);
    const walk = new ReferenceWalk(
      this.image,
      this.stored,
      this.snapshots,
      counters,
      loud ? this.result : emptyResult(),
      loud ? this.report : () => {},
      repairs,
    );
    walk.run();
    return walk;
  }

  private walkRepairs(): WalkRepairs | null {
    const { repair, report, image } = this;
    if (repair?.errors !== true) return null;
    return {
      grow: (size) => {
        let refused: string | null = "File too large";
        if (size / image.clusterSize <= MOST_CLUSTERS)
          try {
            repair.file.grow(size);
            refused = repair.file.size() >= size ? null : "Operation not supported";
          } catch (error) {
            if (!(error instanceof IoError)) throw error;
            if (error.code === "ENOSPC") refused = "No space left on device";
          }
        if (refused !== null) report(`qemu-img: Could not resize file: ${refused}`);
        return refused;
      },
      writeEntry: (bytes, at, active) => {
        const own = active ? "active L2 table" : null;
        this.guard!.demand(at, bytes.length, own, this.error, "ERROR: Overlap check failed");
        repair.file.write(bytes, at);
        repair.file.sync();
      },
    };
  }

  private readonly error = (): void => {
    this.result.errors++;
  };

  private compare(
    counters: Counters,
    clusters: number,
    result: CheckResult,
    repairs: CompareRepairs | null,
  ): Compared {
    const { image, stored, report } = this;
    return compareWindow(image, stored, counters, clusters, result, report, repairs, (block) =>
      this.tellUnreadable(block),
    );
  }

  /** As qemu when it meets the first block whose offset is not that of a cluster. */
  private tellUnreadable(block: number): void {
    if (this.unreadableTold || !this.stored.misaligned(block)) return;
    this.unreadableTold = true;
    const index = block === 0 ? "0" : `0x${block.toString(16)}`;
    const why = `Refblock offset 0x${this.stored.offsetText(block)} unaligned (reftable index: ${index})`;
    if (this.guard !== null) this.guard.markCorrupt(why);
    else
      this.report(`qcow2: Image is corrupt: ${why}; further non-fatal corruption events will be suppressed`);
  }

  /** Compares the whole image, whose counts may still be there, and repairs; returns the last cluster in use. */
  private compareAll(counters: Counters, clusters: number, result: CheckResult, errors: boolean): number {
    const file = this.repair!.file;
    const repairs: CompareRepairs = {
      errors,
      leaks: true,
      writeBlock: (i, block) => {
        const offset = this.stored.blockOffset(i);
        this.guard!.demand(offset, block.length, "refcount block", this.error);
        file.write(block, offset);
      },
    };
    let highest = 0;
    if (this.whole(counters)) highest = this.compare(counters, clusters, result, repairs).highest;
    else
      for (let first = 0; first <= this.image.fileClusters; first += counters.number) {
        this.walk(counters, first, false);
        highest = Math.max(highest, this.compare(counters, clusters, result, repairs).highest);
      }
    file.sync();
    return highest;
  }

  /** Makes the refcount structures again, and counts again; returns the last cluster in use. */
  private rebuild(counters: Counters, clusters: number, highest: number): number {
    const { image, result } = this;
    const { file } = this.repair!;
    const before = { ...result };
    this.report("Rebuilding refcount structure");
    file.sync();
    if (this.whole(counters) && counters.number >= this.wanted(clusters))
      rebuildRefcounts(image, this.stored, counters, file, clusters, this.guard!, this.error);
    else
      rebuildInWindows(image, this.stored, counters, file, clusters, this.guard!, this.error, (first) => {
        this.walk(counters, first, false);
      });
    image.reload();
    image.measure();
    this.stored = new StoredRefcounts(image);
    this.guard = new OverlapGuard(image, this.stored, this.snapshots, file, this.report);
    result.corruptions = 0;
    result.leaks = 0;
    // What the structures before took is free now.
    const again = this.walk(counters, 0, true);
    const fresh = emptyResult();
    highest = this.compareAll(counters, again.clusters, fresh, false);
    result.corruptionsFixed += Math.max(0, before.corruptions - result.corruptions);
    result.leaksFixed += Math.max(0, before.leaks - result.leaks);
    result.leaks += fresh.leaks;
    return highest;
  }

  /** The COPIED flags. `changed`: the counters do not hold what is stored. */
  private checkFlags(counters: Counters, changed: boolean): void {
    const { image, stored, result, report, repair } = this;
    if (!changed && this.whole(counters) && counters.plain) return;
    const sound = result.errors + result.corruptions + result.leaks === 0;
    const repairs = repair !== null && (repair.errors || sound) ? this.copiedRepairs(repair.file) : null;
    const clusters = image.fileClusters + 1;
    if (!changed && this.whole(counters))
      checkCopiedFlags(image, stored, counters, clusters, result, report, repairs);
    else
      for (let first = 0; first <= image.fileClusters; first += counters.number) {
        counters.open(first, image.fileSize);
        loadWindow(image, stored, counters);
        checkCopiedFlags(image, stored, counters, clusters, result, report, repairs);
      }
    if (repairs !== null) repair!.file.sync();
  }

  private copiedRepairs(file: DurableFile): CopiedRepairs {
    const { image } = this;
    return {
      writeL1: (bytes, index) => {
        // qemu writes the whole sector.
        const { l1Offset, l1Entries } = image.header;
        const first = index - (index % 64);
        this.guard!.demand(
          l1Offset + first * 8,
          Math.min(512, (l1Entries - first) * 8),
          "active L1 table",
          this.error,
        );
        file.write(bytes, l1Offset + index * 8);
      },
      writeL2: (table, at) => {
        this.guard!.demand(
          at,
          image.clusterSize,
          "active L2 table",
          this.error,
          "ERROR: Could not write L2 table; metadata overlap check failed: Input/output error",
        );
        file.write(table, at);
      },
    };
  }
}
