/**
 * The journal of an interrupted move, little-endian: a header, the blocks to move as runs, and two slots of which the
 * one with the higher sequence number counts. Everything carries a CRC-32C (no final inversion, from all ones).
 */
export const MAGIC = "IMPRINTM";
export const VERSION = 1;

/** Bytes of the header's page; runs follow. */
export const HEADER_BYTES = 4096;
export const HEADER = {
  magic: 0,
  version: 8,
  /** Bit 0: names are scrambled. Bit 1: a file of the given inode number. */
  flags: 12,
  /** u64: bytes of the file before the move, and its inode number. */
  fileSize: 16,
  inode: 24,
  /** u64, bytes. */
  source: 32,
  destination: 40,
  /** u64, blocks. */
  blocks: 48,
  blockSize: 56,
  chunk: 60,
  uuid: 64,
  /** CRC of the 1024 bytes of the superblock. */
  superblock: 80,
  /** u64: how often native would count a block as marked. */
  marks: 88,
  /** u64: runs of the blocks to move, then runs of the blocks to scramble. */
  runs: 96,
  scrambledRuns: 104,
  /** u64: where the slots start; u32: bytes of one. */
  slots: 112,
  slotBytes: 120,
  runsCrc: 124,
  crc: 128,
} as const;

export const FLAG_SCRAMBLE = 1;
export const FLAG_INODE = 2;

/** A run: u64 first, u64 last + 1. */
export const RUN_BYTES = 16;

/** Bytes of a slot before its data. */
export const SLOT_BYTES = 4096;
export const SLOT = {
  magic: 0,
  sequence: 4,
  /** 0: steps before `step` are done. 1: they are, and what `step` writes is in the slot. */
  kind: 8,
  dataLength: 12,
  dataCrc: 16,
  /** u64. */
  step: 24,
  /** u64: number of the last step that is done and had blocks, plus 1; 0 without one. u32: CRC of what it wrote. */
  lastStep: 32,
  lastCrc: 40,
  /** 256 u32: names of each length so far, with what the slot covers. */
  counters: 64,
  crc: 1088,
} as const;
export const SLOT_MAGIC = 0x544f4c53;
