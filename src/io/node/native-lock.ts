import { nativeLibrary, UNAVAILABLE } from "./native.ts";
import { F_OFD_GETLK, F_UNLCK, F_WRLCK, FLOCK_BYTES } from "./native-layout.ts";

type Fcntl = (fd: number, command: number, argument: Uint8Array) => number;

let fcntl: Fcntl | null | undefined;

/**
 * Whether `length` bytes of a file from `at` hold a lock (fcntl(2), of either kind) that is not this open file
 * description's: 1, 0, or UNAVAILABLE where the host does not say. koffi is loaded.
 */
export function lockedByOthers(fd: number, at: number, length: number): number {
  if (fcntl === undefined)
    try {
      fcntl = (nativeLibrary()?.func("int fcntl(int, int, void *)") ?? null) as Fcntl | null;
    } catch {
      fcntl = null;
    }
  if (fcntl == null) return UNAVAILABLE;
  const lock = new DataView(new ArrayBuffer(FLOCK_BYTES));
  lock.setInt16(0, F_WRLCK, true);
  lock.setBigInt64(8, BigInt(at), true);
  lock.setBigInt64(16, BigInt(length), true);
  if (fcntl(fd, F_OFD_GETLK, new Uint8Array(lock.buffer)) !== 0) return UNAVAILABLE;
  return lock.getInt16(0, true) === F_UNLCK ? 0 : 1;
}
