/**
 * Where ext2/3/4 keeps what: byte offsets, magics and feature bits. Source: the kernel's documentation
 * (Documentation/filesystems/ext4) and the public ext2_fs.h layout. All fields are little-endian.
 */

export const SUPERBLOCK_OFFSET = 1024;
export const SUPERBLOCK_SIZE = 1024;
export const EXT_MAGIC = 0xef53;

/** Offsets in the superblock. */
export const SB = {
  inodes: 0,
  blocksLow: 4,
  freeBlocksLow: 12,
  freeInodes: 16,
  firstDataBlock: 20,
  logBlockSize: 24,
  logClusterSize: 28,
  blocksPerGroup: 32,
  clustersPerGroup: 36,
  inodesPerGroup: 40,
  mountTime: 44,
  writeTime: 48,
  magic: 56,
  state: 58,
  checkTime: 64,
  creatorOs: 72,
  revision: 76,
  inodeSize: 88,
  blockGroup: 90,
  compat: 92,
  incompat: 96,
  roCompat: 100,
  uuid: 104,
  label: 120,
  lastMounted: 136,
  reservedGdt: 206,
  journalInode: 224,
  lastOrphan: 232,
  descriptorSize: 254,
  firstMetaGroup: 260,
  createTime: 264,
  blocksHigh: 336,
  freeBlocksHigh: 344,
  flags: 352,
  mmpBlock: 360,
  flexGroups: 372,
  checksumType: 373,
  kibWritten: 376,
  backupGroups: 588,
  projectQuotaInode: 620,
  writeTimeHigh: 628,
  mountTimeHigh: 629,
  createTimeHigh: 630,
  checkTimeHigh: 631,
  checksumSeed: 624,
  orphanFileInode: 640,
  checksum: 1020,
} as const;

export const STATE_CLEAN = 1;
export const STATE_ERRORS = 2;
export const OS_HURD = 1;

export const COMPAT = {
  hasJournal: 0x4,
  sparseSuper2: 0x200,
} as const;

export const INCOMPAT = {
  fileType: 0x2,
  recover: 0x4,
  journalDevice: 0x8,
  metaGroups: 0x10,
  extents: 0x40,
  wide: 0x80,
  mmp: 0x100,
  flexGroups: 0x200,
  eaInode: 0x400,
  checksumSeed: 0x2000,
  largeDirectory: 0x4000,
  inlineData: 0x8000,
  encrypt: 0x10000,
  casefold: 0x20000,
} as const;

export const RO_COMPAT = {
  sparseSuper: 0x1,
  largeFile: 0x2,
  hugeFile: 0x8,
  groupChecksum: 0x10,
  extraInodeSize: 0x40,
  quota: 0x100,
  bigalloc: 0x200,
  metadataChecksum: 0x400,
  project: 0x2000,
} as const;

/** Names e2fsprogs gives the features, by bit. */
export const FEATURE_NAMES: readonly (readonly [
  word: "compat" | "incompat" | "roCompat",
  bit: number,
  name: string,
])[] = [
  ["compat", 0x1, "dir_prealloc"],
  ["compat", 0x2, "imagic_inodes"],
  ["compat", 0x4, "has_journal"],
  ["compat", 0x8, "ext_attr"],
  ["compat", 0x10, "resize_inode"],
  ["compat", 0x20, "dir_index"],
  ["compat", 0x40, "lazy_bg"],
  ["compat", 0x100, "snapshot_bitmap"],
  ["compat", 0x200, "sparse_super2"],
  ["compat", 0x400, "fast_commit"],
  ["compat", 0x800, "stable_inodes"],
  ["compat", 0x1000, "orphan_file"],
  ["incompat", 0x1, "compression"],
  ["incompat", 0x2, "filetype"],
  ["incompat", 0x4, "needs_recovery"],
  ["incompat", 0x8, "journal_dev"],
  ["incompat", 0x10, "meta_bg"],
  ["incompat", 0x40, "extent"],
  ["incompat", 0x80, "64bit"],
  ["incompat", 0x100, "mmp"],
  ["incompat", 0x200, "flex_bg"],
  ["incompat", 0x400, "ea_inode"],
  ["incompat", 0x1000, "dirdata"],
  ["incompat", 0x2000, "metadata_csum_seed"],
  ["incompat", 0x4000, "large_dir"],
  ["incompat", 0x8000, "inline_data"],
  ["incompat", 0x10000, "encrypt"],
  ["incompat", 0x20000, "casefold"],
  ["roCompat", 0x1, "sparse_super"],
  ["roCompat", 0x2, "large_file"],
  ["roCompat", 0x8, "huge_file"],
  ["roCompat", 0x10, "uninit_bg"],
  ["roCompat", 0x20, "dir_nlink"],
  ["roCompat", 0x40, "extra_isize"],
  ["roCompat", 0x80, "snapshot"],
  ["roCompat", 0x100, "quota"],
  ["roCompat", 0x200, "bigalloc"],
  ["roCompat", 0x400, "metadata_csum"],
  ["roCompat", 0x800, "replica"],
  ["roCompat", 0x1000, "read-only"],
  ["roCompat", 0x2000, "project"],
  ["roCompat", 0x4000, "shared_blocks"],
  ["roCompat", 0x8000, "verity"],
  ["roCompat", 0x10000, "orphan_present"],
];

/** Offsets in a group descriptor; the high halves exist with the 64bit feature only. */
export const GD = {
  blockBitmap: 0,
  inodeBitmap: 4,
  inodeTable: 8,
  flags: 18,
  blockBitmapChecksum: 24,
  inodeBitmapChecksum: 26,
  unusedInodes: 28,
  checksum: 30,
  blockBitmapHigh: 32,
  inodeBitmapHigh: 36,
  inodeTableHigh: 40,
  unusedInodesHigh: 50,
  blockBitmapChecksumHigh: 56,
  inodeBitmapChecksumHigh: 58,
} as const;
export const INODE_UNINIT = 1;
export const BLOCK_UNINIT = 2;

/** Offsets in an inode. */
export const INO = {
  mode: 0,
  uid: 2,
  size: 4,
  accessTime: 8,
  changeTime: 12,
  modifyTime: 16,
  deleteTime: 20,
  gid: 24,
  links: 26,
  sectors: 28,
  flags: 32,
  translator: 36,
  blocks: 40,
  xattr: 104,
  sizeHigh: 108,
  sectorsHigh: 116,
  xattrHigh: 118,
  uidHigh: 120,
  gidHigh: 122,
  extraSize: 128,
} as const;
export const I_BLOCK_SIZE = 60;
export const OLD_INODE_SIZE = 128;

export const TYPE_MASK = 0xf000;
export const TYPE_DIRECTORY = 0x4000;
export const TYPE_REGULAR = 0x8000;
export const TYPE_SYMLINK = 0xa000;

export const FLAG_HUGE = 0x40000;
export const FLAG_EXTENTS = 0x80000;
export const FLAG_EA_INODE = 0x200000;
export const FLAG_INLINE = 0x10000000;

export const INO_BAD_BLOCKS = 1;
export const INO_ROOT = 2;
export const INO_USER_QUOTA = 3;
export const INO_GROUP_QUOTA = 4;
export const INO_RESIZE = 7;

export const EXTENT_MAGIC = 0xf30a;
export const EXTENT_HEADER = 12;
export const EXTENT_RECORD = 12;
/** Longest initialised extent; a longer length means "uninitialised, less this". */
export const EXTENT_MAX = 32768;

export const XATTR_MAGIC = 0xea020000;
export const ORPHAN_BLOCK_MAGIC = 0x0b10ca04;
