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

/** _IO(0x12, 104): bytes of the device's logical sector, into an int. */
export const BLKSSZGET = 0x1268;

/**
 * _IOW(0x94, 13, struct file_clone_range), 32 bytes: s64 source descriptor, u64 source offset, u64 length, u64
 * destination offset.
 */
export const FICLONERANGE = 0x4020940d;
export const CLONE_RANGE_WORDS = 4;

/** fcntl(2): the capacity of a pipe, bytes. Fact from linux/fcntl.h. */
export const F_SETPIPE_SZ = 1031;
export const F_GETPIPE_SZ = 1032;

/** splice(2), tee(2): do not wait for room in the pipe. */
export const SPLICE_F_NONBLOCK = 2;

/** pipe2(2). Values of x86-64 and arm64 (asm-generic/fcntl.h). */
export const O_NONBLOCK = 0x800;
export const O_CLOEXEC = 0x80000;

/** send(2): do not wait for room; EPIPE without a signal. */
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;

/** struct pollfd: s32 descriptor, s16 events, s16 what happened. */
export const POLLFD_BYTES = 8;
export const POLLIN = 1;
export const POLLOUT = 4;

/**
 * fcntl(2): asks for a lock of another open file description that conflicts. struct flock: s16 type at 0, s16 whence at
 * 2, s64 start at 8, s64 length at 16, s32 process at 24. Facts from asm-generic/fcntl.h.
 */
export const F_OFD_GETLK = 36;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
export const FLOCK_BYTES = 32;
