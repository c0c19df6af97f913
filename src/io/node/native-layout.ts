/**
 * Numbers and struct layouts of the Linux calls in native.ts, for 64-bit machines (x86-64 and arm64 agree on all of
 * them). Facts from the kernel's uapi headers: linux/fs.h, linux/falloc.h, asm-generic/ioctl.h.
 *
 * An ioctl number is direction << 30 | argument size << 16 | type << 8 | number; direction 1 means that the caller
 * writes to the kernel, 2 that it reads.
 */

export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** sync_file_range(2): start writing dirty pages that are not being written yet. */
export const SYNC_FILE_RANGE_WRITE = 2;

export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;

/** _IOR(0x12, 114, size_t): the device's size in bytes, into a u64. */
export const BLKGETSIZE64 = 0x80081272;

/**
 * _IOW(0x94, 13, struct file_clone_range), 32 bytes: s64 source descriptor, u64 source offset, u64 length, u64
 * destination offset.
 */
export const FICLONERANGE = 0x4020940d;
export const CLONE_RANGE_WORDS = 4;
