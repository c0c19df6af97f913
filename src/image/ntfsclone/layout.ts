/**
 * The special image of ntfsclone(8): a header, then one-byte commands that walk over the clusters of an NTFS volume.
 * Little-endian, packed. Source: images that ntfsclone 2022.10.3 and earlier wrote, and how it reads altered ones.
 */

/** First bytes of every image: NUL, then "ntfsclone-image" without a NUL behind it. */
export const MAGIC = new Uint8Array([0, ...new TextEncoder().encode("ntfsclone-image")]);

/** Offsets in the header. 64-bit fields are signed. */
export const HEADER = {
  magic: 0,
  /** One byte each. */
  major: 16,
  minor: 17,
  /** u32, bytes. */
  clusterSize: 18,
  /** Bytes of the device, which may be more or less than the volume's clusters. */
  deviceSize: 22,
  /** Clusters of the volume, without the backup boot sector behind them. */
  clusters: 30,
  /** Clusters in use, without the one that holds the backup boot sector. */
  inUse: 38,
  /** u32, bytes: where the commands begin. Versions from 10 on. */
  dataOffset: 46,
} as const;

/** Bytes of the header from version 10 on; commands begin there at the earliest. */
export const HEADER_BYTES = 50;
/** Bytes of the header before version 10, and where the commands begin then. */
export const OLD_HEADER_BYTES = 46;
/** Where the commands begin in images written today: the header, rounded up to 8. */
export const DATA_OFFSET = 56;

/** The first version with `dataOffset`, the one written here, and the last one that can be read. */
export const MAJOR = 10;
export const MINOR = 1;

/** Command: this many clusters (signed 64-bit count behind it) are not stored. */
export const GAP = 0;
export const GAP_BYTES = 9;
/** Command: one cluster follows. One that reaches the device's end is as long as the device has bytes there. */
export const NEXT = 1;
