import { u32le } from "../../bytes/endian.ts";
import type { Source } from "../../io/source.ts";
import type { BootSector } from "./boot.ts";
import { NtfsError } from "./errors.ts";
import { RECORD_OK, removeFixup, stateText } from "./fixup.ts";
import { FIRST_USER_RECORD, MAGIC_FILE, REC } from "./layout.ts";
import type { Mft } from "./mft.ts";

/** Names of the first system files, as native messages call them. */
const NAMES = [
  "$MFT",
  "$MFTMirr",
  "$LogFile",
  "$Volume",
  "$AttrDef",
  "root directory",
  "$Bitmap",
  "$Boot",
  "$BadClus",
  "$Secure",
  "$UpCase",
  "$Extend",
];

/** Records that $MFTMirr holds: 4, or what fits into one cluster. */
export function mirrorRecords(boot: BootSector): number {
  return boot.clusterSize <= 4 * boot.recordSize ? 4 : boot.clusterSize / boot.recordSize;
}

/**
 * Compares the records of $MFTMirr with those of $MFT, as far as they are in use. Returns null where they agree, else what
 * native would refuse the volume for. Throws IoError from the source.
 */
export async function compareMirror(source: Source, boot: BootSector, mft: Mft): Promise<NtfsError | null> {
  const size = boot.recordSize;
  const count = Math.min(mirrorRecords(boot), FIRST_USER_RECORD, mft.mapped);
  const at = boot.mirrorLcn * boot.clusterSize;
  const mirror = new Uint8Array(count * size);
  const r = at < source.size ? source.read(mirror, at) : 0;
  const got = r instanceof Promise ? await r : r;
  const name = (i: number) => NAMES[i] ?? "$MFT record";
  for (let i = 0; i < count; i++) {
    const place = at + i * size;
    const bad = (detail: string, text: string) =>
      new NtfsError("NTFS_MIRROR_DIFFERS", `$MFTMirr record ${i}`, place, detail, { text });
    if (got < (i + 1) * size) return bad(`the source ends at byte ${source.size}`, "Failed to read $MFTMirr");
    const copy = mirror.subarray(i * size, (i + 1) * size);
    const invalid = `$MFTMirr error: Invalid mft record for '${name(i)}'.`;
    if (u32le(copy, 0) !== MAGIC_FILE) return bad("no FILE magic", invalid);
    const state = removeFixup(copy, MAGIC_FILE);
    if (state !== RECORD_OK)
      return bad(
        stateText(state),
        `$MFTMirr error: Incomplete multi sector transfer detected in '${name(i)}'.`,
      );
    let record: Uint8Array;
    try {
      const read = mft.read(i);
      record = read instanceof Promise ? await read : read;
    } catch (error) {
      if (!(error instanceof NtfsError)) throw error;
      return new NtfsError("NTFS_BAD_MFT", `NTFS record ${i}`, mft.place(i), "unusable", {
        text: `$MFT error: Invalid mft record for '${name(i)}'.`,
      });
    }
    const used = Math.min(u32le(record, REC.inUse), size);
    for (let k = 0; k < used; k++)
      if (record[k] !== copy[k])
        return bad(`differs from $MFT at byte ${k}`, `$MFTMirr does not match $MFT (record ${i}).`);
  }
  return null;
}
