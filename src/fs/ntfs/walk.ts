import type { BlockSet } from "../../bytes/block-set.ts";
import { AbortError, type ImprintError, IoError } from "../../errors.ts";
import { Pace } from "../../io/pace.ts";
import { Kernel, type Slot } from "../../kernel/kernel.ts";
import { EIO, ENOENT, NtfsError } from "./errors.ts";
import { isUsable } from "./fixup.ts";
import { type Inode, inodeOf, type NtfsParts } from "./inode.ts";
import { FIRST_USER_RECORD } from "./layout.ts";
import { OwnerFinder } from "./metadata/owners.ts";
import type { RecordScan } from "./mft.ts";
import { type Attribute, isExtension, recordInUse } from "./record.ts";
import { HOLE_LCN, RUN, type Runs } from "./runlist.ts";

/** Kinds of runs the kernel finds: attribute type / 16, plus KIND_NAMED where the attribute has a name. */
export const KIND_NAMED = 0x1000;
export const KIND_VISIT = 0xffff;
const TRIPLE_BYTES = 12;
/** A run takes at least three bytes of its record. */
const RUN_BYTES = 3;

/** Where a walk's findings go, in the order of the records. */
export interface WalkSink {
  /**
   * Clusters of an ordinary file's attribute; neighbours of one kind may come as one run. `reach` reports the progress
   * up to the record that owns a cluster of the run, for a message about it; it takes a while.
   */
  run(kind: number, lcn: number, length: number, reach: (cluster: number) => void): void;
  /** Runs of an extent of a system file, or of an inode that had to be looked at by itself. */
  attribute(inode: Inode, attribute: Attribute, runs: Runs): void;
  /** A line for a person: what was skipped. */
  odd(line: string): void;
}

export interface WalkOptions {
  /** `done` of `total` records; called now and then. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
  /** Step over inodes whose run lists are corrupt, instead of refusing the volume as native does. */
  readonly skipCorrupt?: boolean;
  /** Gets the numbers of the records that may own metadata (see OwnerFinder), for a walk over the metadata later. */
  readonly owners?: BlockSet;
}

/**
 * Walks the base records in use and hands over the clusters of their non-resident attributes. Records that cannot be
 * read or opened are skipped, as in native. Throws NtfsError NTFS_BAD_RUNLIST for a run list that is corrupt or
 * leaves the volume; AbortError.
 */
export async function walkClusters(
  parts: NtfsParts,
  sink: WalkSink,
  options: WalkOptions = {},
): Promise<void> {
  const { mft } = parts;
  const { signal, onProgress } = options;
  const pace = new Pace(() => {
    if (signal?.aborted) throw new AbortError();
  });
  const { owners } = options;
  const scan = new RunScan(parts);
  const finder = owners === undefined ? null : new OwnerFinder(scan.records, mft.recordSize);
  try {
    for (;;) {
      const more = scan.next();
      if (!(more instanceof Promise ? await more : more)) break;
      const wait = pace.step();
      if (wait !== undefined) await wait;
      onProgress?.(scan.records.first, mft.records);
      if (owners !== undefined) finder?.find(scan.records, owners);
      const { triples } = scan;
      const end = scan.classify() * 3;
      let i = 0;
      const reach = (cluster: number) =>
        onProgress?.(scan.records.first + scan.ownerOf(cluster, i, end), mft.records);
      for (; i < end; i += 3) {
        const kind = triples[i + 1] >>> 16;
        if (kind !== KIND_VISIT) {
          sink.run(kind, lcnOf(triples, i), triples[i + 2], reach);
          continue;
        }
        onProgress?.(scan.records.first + triples[i], mft.records);
        await visit(parts, scan.records, triples[i], sink, options);
      }
    }
    onProgress?.(mft.records, mft.records);
  } finally {
    finder?.close();
    scan.close();
  }
}

function lcnOf(triples: Uint32Array, i: number): number {
  return (triples[i + 1] & 0xffff) * 0x100000000 + triples[i];
}

/** Batches of records with the runs their files own, as the kernel finds them. Takes arena slots: `close` it. */
export class RunScan {
  readonly records: RecordScan;
  /** Triples (LCN low, LCN high | kind << 16, length), or (index of a record to visit, KIND_VISIT << 16, 0). */
  readonly triples: Uint32Array;
  private readonly clusterSize: number;
  private readonly clusters: number;
  private readonly recordSize: number;
  private readonly found: Slot;

  constructor(parts: NtfsParts) {
    this.records = parts.mft.scan();
    this.clusterSize = parts.boot.clusterSize;
    this.clusters = parts.boot.clusters;
    this.recordSize = parts.mft.recordSize;
    const room = Math.ceil(this.records.bytes.length / RUN_BYTES + this.recordSize) * TRIPLE_BYTES;
    this.found = Kernel.get().take(room);
    this.triples = new Uint32Array(this.found.bytes.buffer, this.found.at, room >>> 2);
  }

  /** Loads the next batch; false at the end. */
  next(): boolean | Promise<boolean> {
    return this.records.next();
  }

  /**
   * Fills `triples` for the batch, or for `count` of its records, and returns how many there are. System files are all
   * named for a visit.
   */
  classify(from = 0, count: number = this.records.count): number {
    const { records } = this;
    return (
      Kernel.get().raw.ntfsRecords(
        records.address + from * this.recordSize,
        this.recordSize,
        count,
        records.stateAddress + from,
        Math.max(0, Math.min(count, FIRST_USER_RECORD - records.first - from)),
        this.clusterSize,
        this.clusters,
        this.found.at,
      ) >>> 0
    );
  }

  /** Which record of the batch owns `cluster`, of the run at index `i` of those in `triples`, which end at `end`. */
  ownerOf(cluster: number, i: number, end: number): number {
    const all = this.triples.slice(0, end);
    let before = clustersIn(all, i);
    let owner = 0;
    for (; owner < this.records.count - 1; owner++) {
      const own = this.classify(owner, 1) * 3;
      for (let k = 0; k < own && this.triples[k + 1] >>> 16 !== KIND_VISIT; k += 3) {
        const lcn = lcnOf(this.triples, k);
        before -= this.triples[k + 2];
        if (before < 0 && cluster >= lcn && cluster < lcn + this.triples[k + 2]) before = -Infinity;
      }
      if (before === -Infinity) break;
    }
    this.triples.set(all);
    return owner;
  }

  close(): void {
    Kernel.get().give(this.found);
    this.records.close();
  }
}

/** Clusters of the runs before index `end`. */
function clustersIn(triples: Uint32Array, end: number): number {
  let n = 0;
  for (let i = 0; i < end; i += 3) if (triples[i + 1] >>> 16 !== KIND_VISIT) n += triples[i + 2];
  return n;
}

/** One record by itself, with native's rules. */
async function visit(
  parts: NtfsParts,
  scan: RecordScan,
  index: number,
  sink: WalkSink,
  options: WalkOptions,
): Promise<void> {
  const size = parts.mft.recordSize;
  const bytes = scan.bytes.slice(index * size, (index + 1) * size);
  if (!isUsable(scan.states[index]) || !recordInUse(bytes) || isExtension(bytes)) return;
  const number = scan.first + index;
  let inode: Inode;
  try {
    inode = await inodeOf(parts, number, bytes);
  } catch (error) {
    if (!isSkipped(error)) throw error;
    if (error.code !== "NTFS_NO_RECORD") sink.odd(`record ${number} is skipped: ${error.message}`);
    return;
  }
  if (inode.damage !== null) sink.odd(`record ${number} is read in part: ${inode.damage.message}`);
  for (const attribute of inode.attributes) {
    if (!attribute.nonResident) continue;
    try {
      const runs = attribute.runsWithin(parts.boot.clusterSize);
      checkPlaces(inode, attribute, runs, parts.boot.clusters);
      sink.attribute(inode, attribute, runs);
    } catch (error) {
      if (options.skipCorrupt !== true || !(error instanceof NtfsError) || error.code !== "NTFS_BAD_RUNLIST")
        throw error;
      sink.odd(error.message);
    }
  }
}

/** Errors that cost an inode and not the walk, as in native: it is corrupt, not there or cannot be read. */
export function isSkipped(error: unknown): error is ImprintError {
  if (error instanceof NtfsError) return error.errno === EIO || error.errno === ENOENT;
  return error instanceof IoError;
}

/** Throws with native's words where a run leaves the volume. */
function checkPlaces(inode: Inode, attribute: Attribute, runs: Runs, clusters: number): void {
  for (let i = 0; i < runs.length; i += RUN) {
    const lcn = runs[i + 1];
    const length = runs[i + 2];
    if (lcn === HOLE_LCN || lcn + length <= clusters) continue;
    const type = attribute.type.toString(16);
    // Native has the bits after the last cluster set, and then no more bits: it stops at the first, or crashes.
    const last = Math.ceil((clusters + 1) / 8) * 8;
    const text =
      lcn < last
        ? twiceText(Math.max(lcn, clusters))
        : `Corrupt runlist in inode ${inode.number} attr ${type} LCN ${lcn.toString(16)} length ${length.toString(16)}`;
    throw new NtfsError(
      "NTFS_BAD_RUNLIST",
      `${attribute.structure} of inode ${inode.number}`,
      -1,
      `clusters ${lcn} to ${lcn + length - 1} of ${clusters}`,
      { text, errno: 0 },
    );
  }
}

/** What native says of a cluster that it meets again. */
export function twiceText(cluster: number): string {
  return `Cluster ${cluster} referenced twice!\nYou didn't shutdown your Windows properly?`;
}
