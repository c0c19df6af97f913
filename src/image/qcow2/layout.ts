/**
 * QCOW2 on disk: offsets, magics, flags, limits. All fields are big-endian. Facts: the QCOW2 specification
 * (qemu's docs/interop/qcow2.txt), and the limits that qemu-img 7.2 enforces at open.
 */

export const MAGIC = 0x514649fb;

/** Byte offsets of the header's fields. */
export const H = {
  version: 4,
  backingOffset: 8,
  backingLength: 16,
  clusterBits: 20,
  size: 24,
  cryptMethod: 32,
  l1Entries: 36,
  l1Offset: 40,
  tableOffset: 48,
  tableClusters: 56,
  snapshots: 60,
  snapshotsOffset: 64,
  incompatible: 72,
  compatible: 80,
  autoclear: 88,
  refcountOrder: 96,
  headerLength: 100,
  compressionType: 104,
} as const;

export const V2_HEADER_LENGTH = 72;
export const V3_MIN_HEADER_LENGTH = 104;
export const V3_HEADER_LENGTH = 112;

/** Incompatible feature bits. */
export const INCOMPATIBLE = { dirty: 0, corrupt: 1, dataFile: 2, compressionType: 3, extendedL2: 4 } as const;
export const COMPATIBLE_LAZY_REFCOUNTS = 0;
export const AUTOCLEAR = { bitmaps: 0, rawDataFile: 1 } as const;

/**
 * Rows of the feature name table that qemu writes: kind (0 incompatible, 1 compatible, 2 autoclear), bit,
 * name.
 */
export const FEATURE_NAMES: readonly (readonly [number, number, string])[] = [
  [0, INCOMPATIBLE.dirty, "dirty bit"],
  [0, INCOMPATIBLE.corrupt, "corrupt bit"],
  [0, INCOMPATIBLE.dataFile, "external data file"],
  [0, INCOMPATIBLE.compressionType, "compression type"],
  [0, INCOMPATIBLE.extendedL2, "extended L2 entries"],
  [1, COMPATIBLE_LAZY_REFCOUNTS, "lazy refcounts"],
  [2, AUTOCLEAR.bitmaps, "bitmaps"],
  [2, AUTOCLEAR.rawDataFile, "raw external data"],
];
export const FEATURE_ROW = 48;
export const FEATURE_NAME_LENGTH = 46;

/** Header extension types. */
export const EXTENSION = {
  end: 0,
  backingFormat: 0xe2792aca,
  dataFile: 0x44415441,
  crypto: 0x0537be77,
  features: 0x6803f857,
  bitmaps: 0x23852875,
} as const;

export const CRYPT = { none: 0, aes: 1, luks: 2 } as const;
export const COMPRESSION = { zlib: 0, zstd: 1 } as const;

/** High words of table entries (bits 32 to 63). */
export const COPIED_HIGH = 0x80000000;
export const COMPRESSED_HIGH = 0x40000000;
/** Bits 32 to 55 of an offset. */
export const OFFSET_HIGH = 0x00ffffff;
/** Bits 9 to 31 of an offset. */
export const OFFSET_LOW = 0xfffffe00;
/** Bits that must be zero: 56 to 62 of an L1 entry, 56 to 61 of an L2 entry. */
export const L1_RESERVED_HIGH = 0x7f000000;
export const L2_RESERVED_HIGH = 0x3f000000;
/** Bits 0 to 8 of an L1 entry; bits 1 to 8 of an L2 entry. */
export const L1_RESERVED_LOW = 0x000001ff;
export const L2_RESERVED_LOW = 0x000001fe;
/** Bit 0 of an L2 entry: the cluster reads as zeros. */
export const ZERO_LOW = 1;

export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
export const MIN_EXTENDED_L2_CLUSTER_BITS = 14;
export const SUBCLUSTERS = 32;
/** Bytes of an L2 table that qemu looks at together, at most: its requests and runs end where such a slice does. */
export const L2_SLICE_BYTES = 65536;
export const MAX_REFCOUNT_ORDER = 6;

/** Limits that qemu enforces at open. Bytes, unless named otherwise. */
export const LIMIT = {
  l1: 32 * 1024 * 1024,
  refcountTable: 8 * 1024 * 1024,
  snapshots: 65536,
  snapshotTable: 64 * 1024 * 1024,
  snapshotExtra: 1024,
  bitmaps: 65535,
  bitmapDirectory: 65535 * 1024,
  /** Entries. */
  bitmapTable: 0x8000000,
  bitmapName: 1023,
  minGranularityBits: 9,
  maxGranularityBits: 31,
  backingName: 1023,
  backingFormat: 16,
} as const;

/** Fixed part of a snapshot table entry. */
export const SNAPSHOT = {
  l1Offset: 0,
  l1Entries: 8,
  idLength: 12,
  nameLength: 14,
  seconds: 16,
  nanoseconds: 20,
  clock: 24,
  vmStateSize32: 32,
  extraLength: 36,
  fixed: 40,
} as const;

/** Extra data of a snapshot table entry, as long as qemu writes it. */
export const SNAPSHOT_EXTRA = { vmStateSize: 0, diskSize: 8, icount: 16, size: 24 } as const;

/** Entry of the bitmap directory: the fixed part is followed by extra data and the name, padded to 8 bytes. */
export const BITMAP = {
  tableOffset: 0,
  tableEntries: 8,
  flags: 12,
  type: 16,
  granularityBits: 17,
  nameLength: 18,
  extraLength: 20,
  fixed: 24,
  /** The only type there is. */
  dirtyTracking: 1,
} as const;
