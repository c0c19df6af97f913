import type { Source } from "../../io/source.ts";
import { parseAttributeList } from "./attribute-list.ts";
import type { BootSector } from "./boot.ts";
import { ENOENT, NtfsError } from "./errors.ts";
import { badState, RECORD_OK, removeFixup } from "./fixup.ts";
import { readAttributeList } from "./inode.ts";
import { AT, ATTR_COMPRESSION_MASK, ATTR_ENCRYPTED, FILE_MFT, MAGIC_FILE } from "./layout.ts";
import { Mft } from "./mft.ts";
import { type Attribute, checkRecord, recordAttributes, recordSequence } from "./record.ts";
import { allocatedClusters, checkRuns, RUN, type Runs } from "./runlist.ts";

/**
 * Opens the master file table: record 0 where the boot sector says, then, extent by extent, what its attribute list names;
 * each extent's record must lie in what is known so far. Throws NtfsError NTFS_BAD_MFT, NTFS_BAD_RECORD, NTFS_BAD_RUNLIST.
 */
export async function openMft(source: Source, boot: BootSector): Promise<Mft> {
  const at = boot.mftLcn * boot.clusterSize;
  const bad = (detail: string, text = "") => new NtfsError("NTFS_BAD_MFT", "$MFT", at, detail, { text });
  const record = new Uint8Array(boot.recordSize);
  const r = at < source.size ? source.read(record, at) : 0;
  if ((r instanceof Promise ? await r : r) < record.length)
    throw bad(`the source ends at byte ${source.size}`, "Error reading $MFT");
  const state = removeFixup(record, MAGIC_FILE);
  if (state !== RECORD_OK) throw badState(state, "NTFS record 0", at);
  const wrong = checkRecord(record, FILE_MFT);
  if (wrong !== null) throw wrong;
  const own = recordAttributes(record, FILE_MFT);
  if (own.damage !== null) throw own.damage;
  const first = own.attributes.find((a) => isData(a) && (!a.nonResident || a.lowestVcn === 0));
  if (first === undefined) throw bad("it has no $DATA", "$MFT/$DATA attribute not found.");
  check(first, bad);
  checkRuns(first.runs, boot.clusters, "$MFT");
  const { initialized, allocated, size } = first;
  if (!(initialized >= 0 && initialized <= size && size <= allocated))
    throw bad(`sizes ${initialized}, ${size}, ${allocated}`);
  const mft = new Mft(source, boot, first.runs, Math.floor(initialized / boot.recordSize));
  const list = own.attributes.find((a) => a.type === AT.attributeList);
  if (list !== undefined) await addExtents(mft, list, bad);
  if (mft.runs.length === 0) throw bad("it has no clusters");
  const end = mft.runs[mft.runs.length - RUN] + mft.runs[mft.runs.length - 1];
  if (end * boot.clusterSize < allocated)
    throw bad(`${end} clusters are mapped of ${allocated} bytes`, "Failed to load runlist for $MFT/$DATA.");
  if (allocatedClusters(mft.runs) > boot.clusters) throw bad("it is larger than its volume");
  return mft;
}

function isData(a: Attribute): boolean {
  return a.type === AT.data && a.nameLength === 0;
}

function check(a: Attribute, bad: (detail: string, text: string) => NtfsError): void {
  if (!a.nonResident) throw bad("it is resident", "$MFT must be non-resident.");
  if ((a.flags & (ATTR_COMPRESSION_MASK | ATTR_ENCRYPTED)) !== 0)
    throw bad(`flags 0x${a.flags.toString(16)}`, "$MFT must be uncompressed and unencrypted.");
}

async function addExtents(
  mft: Mft,
  list: Attribute,
  bad: (detail: string, text: string) => NtfsError,
): Promise<void> {
  const corrupt = (detail: string) => bad(detail, "$MFT has corrupt attribute list.");
  const { entries, damage } = parseAttributeList(await readAttributeList(mft, list), FILE_MFT);
  if (damage !== null) throw damage;
  let clusters = mft.runs.length === 0 ? 0 : mft.runs[mft.runs.length - RUN] + mft.runs[mft.runs.length - 1];
  for (const entry of entries) {
    if (entry.type !== AT.data || entry.name !== "" || entry.lowestVcn === 0) continue;
    if (entry.lowestVcn !== clusters)
      throw corrupt(`an extent at cluster ${entry.lowestVcn} instead of ${clusters}`);
    if (entry.record >= mft.mapped)
      throw new NtfsError(
        "NTFS_BAD_MFT",
        "$MFT",
        -1,
        `its extent in record ${entry.record} cannot be reached`,
        {
          text: `MFT is corrupt, cannot read its unmapped extent record ${entry.record}`,
          errno: ENOENT,
        },
      );
    const r = mft.read(entry.record);
    const bytes = r instanceof Promise ? await r : r;
    const wrong = checkRecord(bytes, entry.record);
    if (wrong !== null) throw wrong;
    if (entry.sequence !== 0 && recordSequence(bytes) !== entry.sequence)
      throw corrupt(`record ${entry.record} has another sequence number than ${entry.sequence}`);
    const extent = recordAttributes(bytes, entry.record).attributes.find(
      (a) => isData(a) && a.instance === entry.instance,
    );
    if (extent === undefined) throw corrupt(`record ${entry.record} has no $DATA`);
    check(extent, bad);
    const { runs } = extent;
    if (extent.lowestVcn !== clusters || runs.length === 0)
      throw corrupt(`the extent in record ${entry.record} starts at cluster ${extent.lowestVcn}`);
    checkRuns(runs, mft.boot.clusters, "$MFT");
    mft.runs = joined(mft.runs, runs);
    mft.forget();
    clusters = runs[runs.length - RUN] + runs[runs.length - 1];
  }
}

function joined(a: Runs, b: Runs): Runs {
  const all = new Float64Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}
