import { u32le } from "../../bytes/endian.ts";
import type { Source } from "../../io/source.ts";
import { parseAttributeList } from "./attribute-list.ts";
import type { BootSector } from "./boot.ts";
import { EINVAL, EIO, ENOENT, ESPIPE, NtfsError } from "./errors.ts";
import { badState, isUsable, removeFixup } from "./fixup.ts";
import { readAttributeList } from "./inode.ts";
import { AT, ATTR_COMPRESSION_MASK, ATTR_ENCRYPTED, FILE_MFT, MAGIC_FILE } from "./layout.ts";
import { Mft } from "./mft.ts";
import { type Attribute, checkWhole, recordAttributes, recordSequence } from "./record.ts";
import { allocatedClusters, checkRuns, endOf, type Runs } from "./runlist.ts";

/** Records without which nothing can be read: the system files up to the bitmap. */
const LEAST_RECORDS = 4;

type Refuse = (detail: string, text?: string, errno?: number) => NtfsError;

/**
 * Opens the master file table: record 0 where the boot sector says, then, extent by extent, what its attribute
 * list names; each extent's record must lie in what is known so far. Throws NtfsError NTFS_BAD_MFT,
 * NTFS_BAD_RECORD, NTFS_BAD_RUNLIST.
 */
export async function openMft(source: Source, boot: BootSector): Promise<Mft> {
  const at = boot.mftLcn * boot.clusterSize;
  const bad: Refuse = (detail, text = "", errno = EIO) =>
    new NtfsError("NTFS_BAD_MFT", "$MFT", at, detail, { text, errno });
  // Native wants room behind its start before it reads it.
  if (boot.mftLcn + 1 >= boot.clusters)
    throw bad(`it starts at cluster ${boot.mftLcn} of ${boot.clusters}`, "", EINVAL);
  const record = new Uint8Array(boot.recordSize);
  const r = at < source.size ? source.read(record, at) : 0;
  if ((r instanceof Promise ? await r : r) < record.length)
    throw bad(
      `the source ends at byte ${source.size}`,
      "Error reading $MFT: Input/output error\nFailed to load $MFT: Input/output error",
    );
  const state = removeFixup(record, MAGIC_FILE);
  if (!isUsable(state)) throw badState(state, FILE_MFT, u32le(record, 0), at);
  const wrong = checkWhole(record, FILE_MFT);
  if (wrong !== null) throw wrong;
  const own = recordAttributes(record, FILE_MFT).attributes;
  const list = own.find((a) => a.type === AT.attributeList);
  const first = own.find((a) => isData(a));
  if (first === undefined) throw bad("it has no $DATA", "Failed to open ntfs attribute", ENOENT);
  if (!own.some((a) => a.type === AT.standardInformation))
    throw bad("it has no standard information", "Failed to get standard information of $MFT", ENOENT);
  const runs = checkedRuns(first, boot, bad);
  if (first.lowestVcn !== 0 || runs.length === 0)
    throw bad(`its first extent starts at cluster ${first.lowestVcn}`, DECOMPRESS);
  const { initialized, allocated, size } = first;
  const mft = new Mft(source, boot, runs, { size, initialized });
  if (list !== undefined) await addExtents(mft, list, bad);
  const clusters = endOf(mft.runs);
  if (clusters * boot.clusterSize < allocated)
    throw bad(`${clusters} clusters for ${allocated} bytes`, "Failed to load runlist for $MFT/$DATA.");
  if (allocatedClusters(mft.runs) > boot.clusters) throw bad("it is larger than its volume");
  if (mft.mapped < LEAST_RECORDS)
    throw bad(
      `sizes ${initialized}, ${size}, ${allocated}`,
      "Failed to open inode $MFTMirr",
      mft.records < 2 ? ESPIPE : EIO,
    );
  return mft;
}

const DECOMPRESS = "ntfs_mapping_pairs_decompress() failed";

function isData(a: Attribute): boolean {
  return a.type === AT.data && a.nameLength === 0;
}

function checkedRuns(a: Attribute, boot: BootSector, bad: Refuse): Runs {
  if (!a.nonResident) throw bad("it is resident", "$MFT must be non-resident.");
  if ((a.flags & (ATTR_COMPRESSION_MASK | ATTR_ENCRYPTED)) !== 0)
    throw bad(`flags 0x${a.flags.toString(16)}`, "Failed to open ntfs attribute");
  try {
    const runs = a.runsWithin(boot.clusterSize);
    if (a.lowestVcn === 0 && runs.length > 0 && runs[1] !== boot.mftLcn)
      throw bad(`it starts at cluster ${runs[1]}`, "The MFT is not self-contained", ENOENT);
    checkRuns(runs, boot.clusters, "$MFT");
    return runs;
  } catch (error) {
    if (error instanceof NtfsError && error.code !== "NTFS_BAD_MFT") throw bad(error.message, DECOMPRESS);
    throw error;
  }
}

async function addExtents(mft: Mft, list: Attribute, bad: Refuse): Promise<void> {
  const corrupt = (detail: string) => bad(detail, "$MFT has corrupt attribute list.");
  const { entries, damage } = parseAttributeList(await readAttributeList(mft, list), FILE_MFT);
  let clusters = endOf(mft.runs);
  for (const entry of entries) {
    if (entry.type !== AT.data || entry.name !== "" || entry.lowestVcn === 0) continue;
    if (entry.lowestVcn !== clusters)
      throw corrupt(`an extent at cluster ${entry.lowestVcn} instead of ${clusters}`);
    if (entry.record >= mft.mapped)
      throw bad(
        `its extent in record ${entry.record} cannot be reached`,
        `MFT is corrupt, cannot read its unmapped extent record ${entry.record}`,
      );
    const r = mft.read(entry.record);
    const bytes = r instanceof Promise ? await r : r;
    const wrong = checkWhole(bytes, entry.record);
    if (wrong !== null) throw wrong;
    if (entry.sequence !== 0 && recordSequence(bytes) !== entry.sequence)
      throw corrupt(`record ${entry.record} has another sequence number than ${entry.sequence}`);
    const extent = recordAttributes(bytes, entry.record).attributes.find(
      (a) => isData(a) && a.instance === entry.instance,
    );
    if (extent === undefined) throw corrupt(`record ${entry.record} has no $DATA`);
    const runs = checkedRuns(extent, mft.boot, bad);
    if (extent.lowestVcn !== clusters || runs.length === 0)
      throw corrupt(`the extent in record ${entry.record} starts at cluster ${extent.lowestVcn}`);
    mft.append(runs);
    clusters = endOf(runs);
  }
  if (damage !== null) throw damage;
}
