/**
 * Where NTFS keeps what: byte offsets, magics, attribute types and flags. All fields are little-endian. Source: the
 * public NTFS documentation (linux-ntfs project) and volumes made by mkntfs, checked against ntfs-3g 2022.10.3.
 */

/** Offsets in the boot sector. */
export const BOOT = {
  oemId: 3,
  bytesPerSector: 11,
  sectorsPerCluster: 13,
  reservedSectors: 14,
  fats: 16,
  rootEntries: 17,
  sectors16: 19,
  sectorsPerFat: 22,
  hiddenSectors: 28,
  sectors32: 32,
  sectors: 40,
  mftLcn: 48,
  mirrorLcn: 56,
  clustersPerRecord: 64,
  clustersPerIndexBlock: 68,
  serial: 72,
  endMarker: 510,
} as const;
export const BOOT_SIZE = 512;
export const OEM_ID = "NTFS    ";
/** Largest cluster, bytes. */
export const MOST_CLUSTER = 2 * 1024 * 1024;

/** Largest FILE record, bytes: the update sequence array of a longer one does not fit into its first stride. */
export const MOST_RECORD = 64 * 1024;

/** Magics of multi-sector records, as little-endian u32. */
export const MAGIC_FILE = 0x454c4946;
export const MAGIC_INDX = 0x58444e49;
export const MAGIC_BAAD = 0x44414142;

/** Offsets shared by all records with fixups. */
export const MST = { magic: 0, usaOffset: 4, usaCount: 6 } as const;
/** Bytes a fixup protects, whatever the sector size. */
export const FIXUP_STRIDE = 512;

/** Offsets in a FILE record. */
export const REC = {
  lsn: 8,
  sequence: 16,
  links: 18,
  attributes: 20,
  flags: 22,
  inUse: 24,
  allocated: 28,
  base: 32,
  baseSequence: 38,
  nextInstance: 40,
  number: 44,
} as const;
export const REC_HEADER = 48;
export const RECORD_IN_USE = 1;
export const RECORD_DIRECTORY = 2;

/** Offsets in an attribute record. */
export const ATTR = {
  type: 0,
  length: 4,
  nonResident: 8,
  nameLength: 9,
  nameOffset: 10,
  flags: 12,
  instance: 14,
  // resident
  valueLength: 16,
  valueOffset: 20,
  // non-resident
  lowestVcn: 16,
  highestVcn: 24,
  mappingPairs: 32,
  compressionUnit: 34,
  allocated: 40,
  size: 48,
  initialized: 56,
  compressedSize: 64,
} as const;
export const NON_RESIDENT_HEADER = 64;

export const ATTR_COMPRESSION_MASK = 0x00ff;
export const ATTR_ENCRYPTED = 0x4000;
export const ATTR_SPARSE = 0x8000;

/** Attribute types. */
export const AT = {
  standardInformation: 0x10,
  attributeList: 0x20,
  fileName: 0x30,
  objectId: 0x40,
  securityDescriptor: 0x50,
  volumeName: 0x60,
  volumeInformation: 0x70,
  data: 0x80,
  indexRoot: 0x90,
  indexAllocation: 0xa0,
  bitmap: 0xb0,
  reparsePoint: 0xc0,
  eaInformation: 0xd0,
  ea: 0xe0,
  propertySet: 0xf0,
  loggedUtilityStream: 0x100,
  end: 0xffffffff,
} as const;

/** Offsets in an entry of an attribute list. */
export const ALE = {
  type: 0,
  length: 4,
  nameLength: 6,
  nameOffset: 7,
  lowestVcn: 8,
  reference: 16,
  sequence: 22,
  instance: 24,
  name: 26,
} as const;
/** Largest attribute list, bytes. */
export const MOST_ATTRIBUTE_LIST = 0x40000;

/** Offsets in a $FILE_NAME value (and in the key of a directory's index entry). */
export const FN = {
  parent: 0,
  parentSequence: 6,
  created: 8,
  modified: 16,
  recordChanged: 24,
  accessed: 32,
  allocated: 40,
  size: 48,
  flags: 56,
  nameLength: 64,
  namespace: 65,
  name: 66,
} as const;
export const NAMESPACE = { posix: 0, win32: 1, dos: 2, both: 3 } as const;

/** Offsets in $STANDARD_INFORMATION. */
export const SI = { created: 0, modified: 8, recordChanged: 16, accessed: 24, flags: 32 } as const;

/** Offsets in $VOLUME_INFORMATION. */
export const VI = { major: 8, minor: 9, flags: 10 } as const;
export const VOLUME_DIRTY = 0x0001;

/** Offsets in an $INDEX_ROOT value; an index header follows at `header`. */
export const IR = { type: 0, collation: 4, blockSize: 8, clustersPerBlock: 12, header: 16 } as const;
/** Offsets in an INDX block; its index header is at `header`. */
export const INDX = { vcn: 16, header: 24 } as const;
/** Offsets in an index header. */
export const IH = { entries: 0, length: 4, allocated: 8, flags: 12 } as const;
export const INDEX_HEADER = 16;
/** Offsets in an index entry. */
export const IE = { reference: 0, sequence: 6, length: 8, keyLength: 10, flags: 12, key: 16 } as const;
export const ENTRY_END = 2;

/** Record numbers of the system files. */
export const FILE_MFT = 0;
export const FILE_MIRROR = 1;
export const FILE_LOG = 2;
export const FILE_VOLUME = 3;
export const FILE_ATTR_DEF = 4;
export const FILE_ROOT = 5;
export const FILE_BITMAP = 6;
export const FILE_BOOT = 7;
export const FILE_BAD_CLUSTERS = 8;
export const FILE_SECURE = 9;
export const FILE_UPCASE = 10;
export const FILE_EXTEND = 11;
/** Records below this number belong to the filesystem itself. */
export const FIRST_USER_RECORD = 24;
