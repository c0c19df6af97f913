import { FormatError } from "../../errors.ts";

/** Every way an ext volume can be refused or stop an iteration, with the words e2fsprogs has for it. */
const NATIVE_TEXT = {
  EXT_BAD_MAGIC: "Bad magic number in super-block",
  EXT_REV_TOO_HIGH: "Filesystem revision too high",
  EXT_UNSUPP_FEATURE: "Filesystem has unsupported feature(s)",
  EXT_CORRUPT_SB: "The ext2 superblock is corrupt",
  EXT_BAD_DESC_SIZE: "Block group descriptor size incorrect",
  EXT_UNEXPECTED_BLOCK_SIZE: "Filesystem has unexpected block size",
  EXT_INVALID_ARGUMENT: "Invalid argument passed to ext2 library",
  EXT_SHORT_READ: "Attempt to read block from filesystem resulted in short read",
  EXT_TOO_LARGE: "Filesystem too large for this program",
  EXT_MISSING_INODE_TABLE: "A block group is missing an inode table",
  EXT_BAD_INODE_TABLE: "Corrupt group descriptor: bad block for inode table",
  EXT_NEXT_INODE_READ: "Can't read next inode",
  EXT_BAD_IND_BLOCK: "Illegal indirect block found",
  EXT_BAD_DIND_BLOCK: "Illegal doubly indirect block found",
  EXT_BAD_TIND_BLOCK: "Illegal triply indirect block found",
  EXT_EXTENT_HEADER_BAD: "Corrupt extent header",
  EXT_EXTENT_NO_DOWN: "No 'down' extent",
  EXT_EXTENT_CYCLE: "Found cyclic loop in extent tree",
  EXT_INLINE_DATA: "Cannot iterate data blocks of an inode containing inline data",
  EXT_TREE_LOOP: "Block maps share too many tree blocks",
  EXT_BAD_DIRECTORY: "Directory block is corrupt",
  EXT_BAD_XATTR: "Extended attributes are corrupt",
  EXT_BAD_INODE: "Inode number is out of range",
  EXT_BAD_BITMAP: "Corrupt group descriptor: bad block for block bitmap",
  EXT_BLOCK_BITMAP_READ: "Can't read a block bitmap",
  EXT_INODE_BITMAP_READ: "Can't read an inode bitmap",
  EXT_IMAGE_MAGIC: "Wrong magic number for Ext2 Image Header",
} as const;

export type ExtErrorCode = keyof typeof NATIVE_TEXT;

/** An ext volume that breaks its format. `nativeText` is what e2fsprogs prints for it. */
export class ExtError extends FormatError {
  /** What was being done, in e2fsprogs' words ("while iterating over inode 12"), or "" at open time. */
  readonly doing: string;
  private readonly detail: string;
  constructor(code: ExtErrorCode, structure: string, offset: number, detail: string, doing = "") {
    super(structure, offset, detail, code);
    this.detail = detail;
    this.doing = doing;
  }

  /** The same error, met while doing something. */
  during(doing: string): ExtError {
    return new ExtError(this.code as ExtErrorCode, this.structure, this.offset, this.detail, doing);
  }

  get nativeText(): string {
    return nativeErrorText(this.code) ?? this.message;
  }
}

/** The words e2fsprogs has for an error code of this folder, or null. */
export function nativeErrorText(code: string): string | null {
  return (NATIVE_TEXT as Record<string, string>)[code] ?? null;
}
