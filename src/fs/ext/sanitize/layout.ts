/**
 * Offsets that only rewriting needs. Source: the kernel's documentation (Documentation/filesystems/ext4) and
 * what the installed e2fsck and kernel accept. All fields are little-endian but for the journal's.
 */

/** Text in the superblock: [offset, length]. */
export const SB_TEXT = {
  label: [120, 16],
  lastMounted: [136, 64],
  firstErrorFunction: [424, 32],
  lastErrorFunction: [480, 32],
  mountOptions: [512, 64],
} as const;
export const SB_HASH_SEED = 236;
export const SB_FIRST_INODE = 84;
export const SB_FLAGS = 352;
export const SB_FLAG_UNSIGNED_HASH = 2;

export const INODE_GENERATION = 100;
export const INODE_CHECKSUM = 124;
export const INODE_CHECKSUM_HIGH = 130;
/** extra_isize from which on the upper half of an inode's checksum exists. */
export const EXTRA_WITH_CHECKSUM = 4;
export const FLAG_ENCRYPTED = 0x800;
export const FLAG_INDEXED = 0x1000;
export const FLAG_CASEFOLD = 0x40000000;

export const DIRENT_HEADER = 8;
export const DIRENT_TAIL = 12;
/** Words of a checksum tail: an empty record of 12 bytes whose type says so. */
export const TAIL_WORD = 0xde00000c;

/** The root of a hash tree lies behind the records of "." and "..". */
export const DX_ROOT_INFO = 24;
export const DX_ROOT_LIMITS = 32;
/** Inner nodes hide behind one empty record. */
export const DX_NODE_LIMITS = 8;
export const DX_ENTRY = 8;
export const DX_BLOCK_MASK = 0x0fffffff;
export const HASH_UNSIGNED = 3;
export const HASH_SIPHASH = 6;

export const XATTR_ENTRY = 16;
export const XATTR_BLOCK_HEADER = 32;
export const XATTR_BLOCK_HASH = 12;
export const XATTR_BLOCK_CHECKSUM = 16;
/** Name spaces by index. */
export const XATTR_USER = 1;
export const XATTR_ACL_ACCESS = 2;
export const XATTR_ACL_DEFAULT = 3;
export const XATTR_SECURITY = 6;
export const XATTR_SYSTEM = 7;
export const XATTR_ENCRYPTION = 9;
export const XATTR_VERITY = 11;

export const MMP_MAGIC = 0x004d4d50;
export const MMP_TEXT = { node: [16, 64], device: [80, 32] } as const;
export const MMP_CHECKSUM = 1020;

/** The journal; big-endian. */
export const JBD = {
  magic: 0xc03b3998,
  type: 4,
  sequence: 8,
  superblockSize: 1024,
  blockSize: 12,
  length: 16,
  first: 20,
  firstSequence: 24,
  start: 28,
  compat: 36,
  incompat: 40,
  uuid: 48,
  fastCommitBlocks: 84,
  checksum: 252,
} as const;
export const JBD_DESCRIPTOR = 1;
export const JBD_COMMIT = 2;
export const JBD_SUPERBLOCK_V1 = 3;
export const JBD_SUPERBLOCK_V2 = 4;
export const JBD_REVOKE = 5;
export const JBD_INCOMPAT = { revoke: 1, wide: 2, checksumV2: 8, checksumV3: 0x10 } as const;
export const JBD_TAG = { escaped: 1, sameUuid: 2, deleted: 4, last: 8 } as const;
