import type { HostFile } from "../bytes/runs.ts";

/**
 * Everything writable. Nothing a target writes is visible under its final name before `commit`; `abort` leaves
 * no trace of a file. Offsets and lengths are bytes.
 */
export interface Target {
  readonly label: string;
  /** False for a pipe or a download: writes must then come in ascending order; gaps are filled with zeros. */
  readonly seekable: boolean;
  /** True where bytes never written read as zeros (a fresh file, a stream): zero ranges may be left out. */
  readonly fresh: boolean;
  /** Size limit in bytes where the target cannot grow (a device), else Infinity. */
  readonly capacity: number;
  /** Writes all of `bytes` at `at` or throws IoError. The array may be reused once the call has settled. */
  write(bytes: Uint8Array, at: number): void | Promise<void>;
  /** Makes a range read as zeros: nothing on a fresh target, a hole or zeros elsewhere. */
  zero(at: number, length: number): void | Promise<void>;
  /** Reads back what was written (verify, compare in place); absent where the target cannot. */
  read?(into: Uint8Array, at: number): number | Promise<number>;
  /**
   * As `write` for bytes of the host's descriptor `fd` at `host`, which need not be brought here for it (a pipe takes
   * them inside the kernel). Returns how many it could take from the start, 0 for none: the rest is to be written.
   */
  pull?(fd: number, host: number, length: number, at: number): number | Promise<number>;
  /** Ends the output at exactly `size` bytes (ignored by devices) and publishes it. */
  commit(size: number): void | Promise<void>;
  /** Drops the output; safe to call at any time, also after commit (then nothing happens). */
  abort(): void | Promise<void>;
  /** The host file behind it, for bulk copies; absent for streams and downloads. */
  readonly host?: HostFile;
}
