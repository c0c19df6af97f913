import { u16le, u32le } from "../../bytes/endian.ts";
import { ExtError } from "./errors.ts";
import { INO, OLD_INODE_SIZE, XATTR_MAGIC } from "./layout.ts";

const BLOCK_HEADER = 32;
const ENTRY = 16;
const PREFIX: Readonly<Record<number, string>> = {
  1: "user.",
  2: "system.posix_acl_access",
  3: "system.posix_acl_default",
  4: "trusted.",
  6: "security.",
  7: "system.",
  8: "system.richacl",
  9: "encryption.",
  11: "verity.",
};

/** One extended attribute; its value lies in the inode or block, or in an inode of its own. */
export interface XattrEntry {
  readonly name: string;
  readonly size: number;
  /** Set where the value is here. */
  readonly value: Uint8Array | null;
  /** Inode that holds the value, or 0. */
  readonly inode: number;
}

/** Attributes kept in the inode itself, behind its fixed fields. Throws ExtError (EXT_BAD_XATTR). */
export function inodeXattrs(inode: Uint8Array, ino: number): XattrEntry[] {
  if (inode.length <= OLD_INODE_SIZE) return [];
  const start = OLD_INODE_SIZE + u16le(inode, INO.extraSize);
  if (start + 4 > inode.length || (start & 3) !== 0 || u32le(inode, start) !== XATTR_MAGIC) return [];
  return entries(inode, start + 4, start + 4, inode.length, `ext attributes of inode ${ino}`, -1);
}

/** Attributes of an attribute block; `at` is its byte offset in the volume, for messages. */
export function blockXattrs(block: Uint8Array, at: number): XattrEntry[] {
  if (u32le(block, 0) !== XATTR_MAGIC)
    throw new ExtError("EXT_BAD_XATTR", "ext attribute block", at, `magic 0x${u32le(block, 0).toString(16)}`);
  return entries(block, BLOCK_HEADER, 0, block.length, "ext attribute block", at);
}

function entries(
  b: Uint8Array,
  first: number,
  valueBase: number,
  end: number,
  structure: string,
  offset: number,
): XattrEntry[] {
  const bad = (detail: string) => new ExtError("EXT_BAD_XATTR", structure, offset, detail);
  const list: XattrEntry[] = [];
  for (let at = first; at + 4 <= end && u32le(b, at) !== 0; ) {
    if (at + ENTRY > end) throw bad("an entry runs over the end");
    const nameLength = b[at];
    if (at + ENTRY + nameLength > end) throw bad("a name runs over the end");
    const index = b[at + 1];
    const inode = u32le(b, at + 4);
    const size = u32le(b, at + 8);
    const valueAt = valueBase + u16le(b, at + 2);
    if (inode === 0 && valueAt + size > end) throw bad(`a value of ${size} bytes runs over the end`);
    const own = new TextDecoder().decode(b.subarray(at + ENTRY, at + ENTRY + nameLength));
    list.push({
      name: (PREFIX[index] ?? `${index}.`) + own,
      size,
      value: inode === 0 ? b.slice(valueAt, valueAt + size) : null,
      inode,
    });
    at += (ENTRY + nameLength + 3) & ~3;
  }
  return list;
}
