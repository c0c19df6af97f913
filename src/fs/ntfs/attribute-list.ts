import { u16le, u32le } from "../../bytes/endian.ts";
import { NtfsError } from "./errors.ts";
import { ALE } from "./layout.ts";
import { i64le, refNumber, utf16 } from "./record.ts";

/** An entry of an attribute list: in which record an extent of an attribute lies. */
export interface ListEntry {
  readonly type: number;
  readonly name: string;
  readonly lowestVcn: number;
  /** Record that holds the extent, and the sequence number that record must have (0: any). */
  readonly record: number;
  readonly sequence: number;
  readonly instance: number;
}

/** Entries of an attribute list, in its order; `damage` is set where it breaks off. `inode` is for messages. */
export function parseAttributeList(
  b: Uint8Array,
  inode: number,
): { readonly entries: ListEntry[]; readonly damage: NtfsError | null } {
  const entries: ListEntry[] = [];
  let at = 0;
  while (at < b.length) {
    const there = at + ALE.instance + 2 <= b.length;
    const length = there ? u16le(b, at + ALE.length) : 0;
    const nameLength = there ? b[at + ALE.nameLength] : 0;
    const nameOffset = there ? b[at + ALE.nameOffset] : 0;
    // As native: whole units of eight bytes, of which an entry may have too few for its own fields.
    const nameFits = nameLength === 0 || nameOffset + nameLength * 2 <= length;
    if (length === 0 || (length & 7) !== 0 || at + length > b.length || !nameFits)
      return {
        entries,
        damage: new NtfsError(
          "NTFS_BAD_ATTRIBUTE_LIST",
          `NTFS attribute list of record ${inode}`,
          -1,
          `an entry of ${length} bytes at ${at} of ${b.length}`,
          { text: `Corrupt attribute list entry in MFT record ${inode}` },
        ),
      };
    entries.push({
      type: u32le(b, at + ALE.type),
      name: nameLength === 0 ? "" : utf16(b, at + nameOffset, nameLength),
      lowestVcn: i64le(b, at + ALE.lowestVcn),
      record: refNumber(b, at + ALE.reference),
      sequence: u16le(b, at + ALE.sequence),
      instance: u16le(b, at + ALE.instance),
    });
    at += length;
  }
  return { entries, damage: null };
}
