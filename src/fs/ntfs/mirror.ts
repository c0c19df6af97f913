import { u32le } from "../../bytes/endian.ts";
import type { BootSector } from "./boot.ts";
import { ENOENT, NtfsError } from "./errors.ts";
import { badState, isUsable, removeFixup, stateText } from "./fixup.ts";
import { type NtfsParts, readWholeInode } from "./inode.ts";
import { AT, FILE_MIRROR, MAGIC_FILE, REC } from "./layout.ts";
import { checkWhole } from "./record.ts";

/** Records of $MFTMirr that native compares with those of $MFT, at most. */
const MOST_COMPARED = 16;

/** Records that $MFTMirr holds: 4, or what fits into one cluster. */
export function mirrorRecords(boot: BootSector): number {
  return boot.clusterSize <= 4 * boot.recordSize ? 4 : boot.clusterSize / boot.recordSize;
}

/**
 * Compares the records of $MFTMirr with those of $MFT, as far as they are in use. Returns null where they agree, else
 * what native refuses the volume for. Throws IoError from the source.
 */
export async function compareMirror(parts: NtfsParts): Promise<NtfsError | null> {
  const { source, boot, mft } = parts;
  const size = boot.recordSize;
  const count = Math.min(mirrorRecords(boot), MOST_COMPARED, mft.mapped);
  const at = boot.mirrorLcn * boot.clusterSize;
  const mirror = new Uint8Array(count * size);
  const r = at < source.size ? source.read(mirror, at) : 0;
  const got = r instanceof Promise ? await r : r;
  try {
    const inode = await readWholeInode(parts, FILE_MIRROR);
    const data = inode.attributes.find((a) => a.type === AT.data && a.nonResident);
    const lcn = data?.runs[1] ?? -1;
    if (lcn !== boot.mirrorLcn)
      return new NtfsError("NTFS_MIRROR_DIFFERS", "$MFTMirr", at, `its file starts at cluster ${lcn}`, {
        text: `Bad $MFTMirr lcn 0x${lcn.toString(16)}, want 0x${boot.mirrorLcn.toString(16)}`,
        errno: ENOENT,
      });
    for (let i = 0; i < count; i++) {
      const read = mft.read(i);
      const record = read instanceof Promise ? await read : read;
      const wrong = checkWhole(record, i);
      if (wrong !== null) return wrong;
      const place = at + i * size;
      const bad = (detail: string, text: string) =>
        new NtfsError("NTFS_MIRROR_DIFFERS", `$MFTMirr record ${i}`, place, detail, { text });
      // Native is content with the records that a source has before it ends.
      if (got > 0 && got < (i + 1) * size) return null;
      if (got === 0) return bad(`the source ends at byte ${source.size}`, "Failed to read $MFTMirr");
      const copy = mirror.subarray(i * size, (i + 1) * size);
      const state = removeFixup(copy, MAGIC_FILE);
      if (!isUsable(state))
        return bad(stateText(state), badState(state, i, u32le(copy, 0), place).nativeText);
      const used = Math.min(u32le(record, REC.inUse), size);
      for (let k = 0; k < used; k++)
        if (record[k] !== copy[k])
          return bad(`differs from $MFT at byte ${k}`, `$MFTMirr does not match $MFT (record ${i}).`);
    }
    return null;
  } catch (error) {
    if (error instanceof NtfsError) return error;
    throw error;
  }
}
