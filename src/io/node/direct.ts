import * as fs from "node:fs";
import { codeOf, hostError } from "./host-error.ts";

// Writing past the page cache (O_DIRECT).

/** statfs f_type of filesystems that write directly, and fast: ext2/3/4 and XFS. */
const ABLE = new Set([0xef53, 0x58465342]);
/**
 * Direct writes begin and end on multiples of this many bytes: the largest page of a kernel, so that no page holds both
 * bytes written directly and bytes written through the page cache.
 */
export const DIRECT_GRAIN = 64 * 1024;
/** Bytes from which a direct write pays. */
export const DIRECT_LEAST = 256 * 1024;
/** What the memory of a direct write is aligned to. */
export const DIRECT_MEMORY = 4096;

/**
 * A second descriptor, for direct writes, of the file or block device open as `fd`; -1 where it is not known to take
 * them. The caller closes it.
 */
export function openDirect(fd: number): number {
  const { O_WRONLY, O_DIRECT } = fs.constants;
  if (O_DIRECT === undefined) return -1;
  const path = `/proc/self/fd/${fd}`;
  try {
    const st = fs.fstatSync(fd);
    if (!st.isBlockDevice() && !(st.isFile() && ABLE.has(fs.statfsSync(path).type))) return -1;
    return fs.openSync(path, O_WRONLY | O_DIRECT);
  } catch {
    return -1;
  }
}

/**
 * The bytes that a direct write at `at` wrote when it failed: none, which leaves it to the page cache to write them or
 * to find the byte where the disk became full. Throws IoError for a failing disk.
 */
export function leftToCache(error: unknown, label: string, at: number): 0 {
  if (codeOf(error) === "EIO") throw hostError(error, label, "write error", at);
  return 0;
}
