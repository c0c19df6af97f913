/**
 * The normal image of e2image(8), the one that is neither raw nor QCOW2: a header block, then superblock, group
 * descriptors, inode tables, block bitmap and inode bitmap one after the other. Little-endian. Source: the public
 * header lib/ext2fs/e2image.h, and images that e2image 1.47.0 wrote.
 */

export const MAGIC = 0x7f2bb710;
export const DESCRIPTION = "Ext2 Image 1.0";

/** Bytes of the header that have a meaning; the rest of its block is zero. */
export const HEADER_BYTES = 332;

/** Offsets in the header. Texts are NUL-terminated; section offsets are bytes of the image. */
export const HEADER = {
  magic: 0,
  description: 4,
  hostname: 20,
  deviceName: 124,
  fsDevice: 120,
  uuid: 188,
  blockSize: 204,
  imageDevice: 240,
  imageInode: 244,
  time: 248,
  timeHigh: 252,
  superblock: 284,
  inodeTables: 288,
  inodeBitmap: 292,
  blockBitmap: 296,
} as const;

export const HOSTNAME_BYTES = 64;
export const DEVICE_NAME_BYTES = 64;
export const UUID_BYTES = 16;

/** Sections start below this byte: the header has 32 bits for an offset. */
export const OFFSET_LIMIT = 0x100000000;
