import { BlockSet } from "../../../bytes/block-set.ts";
import { ExtentList } from "../../../bytes/extents.ts";
import { AbortError } from "../../../errors.ts";
import { Pace } from "../../../io/pace.ts";
import { EIO, ENOENT, NtfsError } from "../errors.ts";
import { extentsOf, type Inode, type NtfsParts, readInode } from "../inode.ts";
import { AT, FILE_BAD_CLUSTERS, FILE_LOG, FILE_MFT, FILE_MIRROR } from "../layout.ts";
import { type Attribute, isExtension } from "../record.ts";
import { checkRuns, HOLE_LCN, joinRuns, RUN, type Runs } from "../runlist.ts";
import { firstLogClusters, logSteps } from "./log.ts";
import { LAST_SYSTEM, OwnerFinder } from "./owners.ts";

/** Runs taken out of a set at a time. */
const RUNS = 4096;
const DIRECTORY_INDEX = "$I30";

/** What a metadata image holds, in the order in which the native tool writes it. Runs without holes. */
export interface MetadataVisitor {
  /** Clusters that are kept as they are. */
  raw(lcn: number, clusters: number): void | Promise<void>;
  /** $LogFile's clusters where a page header may lie: kept again, but where the last cluster kept was this one. */
  again(lcn: number): void | Promise<void>;
  /** $MFT or $MFTMirr, whole. */
  records(runs: Runs): void | Promise<void>;
  /** A directory's index blocks, whole. */
  index(inode: Inode, runs: Runs): void | Promise<void>;
  /** Clusters of the attribute at hand, as the native tool counts them: more or less what it keeps. */
  count(clusters: number): void;
}

export interface MetadataWalkOptions {
  /** Keep all of $LogFile. */
  readonly fullLogFile?: boolean;
  /** `done` of `total` records; called now and then. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
  /**
   * Step over inodes and attributes that are corrupt; without it they end the walk, as in native.
   * Called with what was odd.
   */
  readonly onSkipped?: (line: string) => void;
  /** The records to look at, as an OwnerFinder found them. Without it they are looked for first. */
  readonly owners?: BlockSet;
}

/**
 * Visits what `ntfsclone --metadata` keeps of a volume. Records that cannot be opened are skipped, as in native. Throws
 * NtfsError for corrupt run lists, IoError, AbortError.
 */
export async function walkMetadata(
  parts: NtfsParts,
  visitor: MetadataVisitor,
  options: MetadataWalkOptions = {},
): Promise<void> {
  const { records } = parts.mft;
  const { onProgress } = options;
  const pace = paceOf(options);
  const owners = options.owners ?? (await findOwners(parts, pace));
  const list = new ExtentList();
  for (let from = 0; from < owners.limit; ) {
    list.clear();
    from = owners.runs(from, owners.limit, list, RUNS);
    for (let i = 0; i < list.count; i++)
      for (let number = list.start(i); number < list.end(i); number++) {
        onProgress?.(number, records);
        await visitRecord(parts, number, visitor, options);
        const wait = pace.step();
        if (wait !== undefined) await wait;
      }
  }
  onProgress?.(records, records);
}

function paceOf({ signal }: MetadataWalkOptions): Pace {
  return new Pace(() => {
    if (signal?.aborted) throw new AbortError();
  });
}

async function findOwners(parts: NtfsParts, pace: Pace): Promise<BlockSet> {
  const owners = new BlockSet(parts.mft.records);
  const scan = parts.mft.scan();
  const finder = new OwnerFinder(scan, parts.mft.recordSize);
  try {
    for (;;) {
      const more = scan.next();
      if (!(more instanceof Promise ? await more : more)) return owners;
      finder.find(scan, owners);
      const wait = pace.step();
      if (wait !== undefined) await wait;
    }
  } finally {
    finder.close();
    scan.close();
  }
}

/** Clusters in use as the header of a metadata image counts them. Errors as `walkMetadata`. */
export async function countMetadata(parts: NtfsParts, options: MetadataWalkOptions = {}): Promise<number> {
  let clusters = 0;
  await walkMetadata(
    parts,
    {
      raw: () => {},
      again: () => {},
      records: () => {},
      index: () => {},
      count: (n) => {
        clusters += n;
      },
    },
    options,
  );
  return clusters;
}

async function visitRecord(
  parts: NtfsParts,
  number: number,
  visitor: MetadataVisitor,
  options: MetadataWalkOptions,
): Promise<void> {
  let inode: Inode;
  try {
    inode = await readInode(parts, number);
    if (isExtension(inode.bytes)) return;
  } catch (error) {
    if (!(error instanceof NtfsError)) throw error;
    if (error.errno !== EIO && error.errno !== ENOENT && options.onSkipped === undefined) throw error;
    if (error.code !== "NTFS_NO_RECORD") options.onSkipped?.(`record ${number} is skipped: ${error.message}`);
    return;
  }
  if (inode.damage !== null) options.onSkipped?.(`record ${number} is read in part: ${inode.damage.message}`);
  for (const attribute of inode.attributes) {
    if (!attribute.nonResident) continue;
    try {
      await visitAttribute(parts, inode, attribute, visitor, options);
    } catch (error) {
      if (!(error instanceof NtfsError) || options.onSkipped === undefined) throw error;
      options.onSkipped(error.message);
    }
  }
}

async function visitAttribute(
  parts: NtfsParts,
  inode: Inode,
  attribute: Attribute,
  visitor: MetadataVisitor,
  options: MetadataWalkOptions,
): Promise<void> {
  const { number } = inode;
  const data = attribute.type === AT.data;
  if (data && (number > LAST_SYSTEM || number === FILE_BAD_CLUSTERS)) return;
  const { runs } = attribute;
  checkRuns(runs, parts.boot.clusters, `${attribute.structure} of inode ${number}`);
  if (data && number === FILE_LOG) return visitLog(parts, runs, visitor, options);
  eachRun(runs, (_, length) => visitor.count(length));
  const records = data && (number === FILE_MFT || number === FILE_MIRROR);
  if (!records && (attribute.type !== AT.indexAllocation || attribute.name !== DIRECTORY_INDEX)) {
    for (let i = 0; i < runs.length; i += RUN)
      if (runs[i + 1] !== HOLE_LCN) await visitor.raw(runs[i + 1], runs[i + 2]);
    return;
  }
  // All extents at once, with the first.
  if (attribute.lowestVcn !== 0) return;
  const extents = extentsOf(inode, attribute.type, attribute.name).filter((a) => a.nonResident);
  const all = joinRuns(
    extents.map((a) => a.runs),
    attribute.structure,
  );
  checkRuns(all, parts.boot.clusters, attribute.structure);
  if (records) await visitor.records(all);
  else await visitor.index(inode, all);
}

function eachRun(runs: Runs, use: (lcn: number, length: number) => void): void {
  for (let i = 0; i < runs.length; i += RUN) if (runs[i + 1] !== HOLE_LCN) use(runs[i + 1], runs[i + 2]);
}

async function visitLog(
  parts: NtfsParts,
  runs: Runs,
  visitor: MetadataVisitor,
  options: MetadataWalkOptions,
): Promise<void> {
  const { clusterSize } = parts.boot;
  const kept = (i: number): number =>
    options.fullLogFile === true
      ? runs[i + 2]
      : Math.min(runs[i + 2], firstLogClusters(runs[i], clusterSize));
  for (let i = 0; i < runs.length; i += RUN) {
    if (runs[i + 1] === HOLE_LCN) continue;
    // Native counts each run as if it were the first one.
    visitor.count(kept(0));
    const clusters = kept(i);
    if (clusters > 0) await visitor.raw(runs[i + 1], clusters);
  }
  for (const lcn of logSteps(runs, clusterSize)) {
    visitor.count(1);
    await visitor.again(lcn);
  }
}
