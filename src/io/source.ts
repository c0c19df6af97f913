import type { HostFile, MapRuns } from "../bytes/runs.ts";
import { IoError } from "../errors.ts";

/**
 * Everything readable: a device, a file, a partition, an opened image, a volume restricted to its metadata.
 * Offsets and sizes are bytes (safe to 2^53 - 1).
 */
export interface Source {
  readonly size: number;
  /** What messages call it: usually the path as the person typed it. */
  readonly label: string;
  /** Bytes of a logical sector, where the host knows (block devices): the unit of partition tables. */
  readonly sectorSize?: number;
  /**
   * Fills `into` from byte `at`; returns the bytes read, short only at the end of the source. Answers
   * synchronously where the host can; callers do `const n = r instanceof Promise ? await r : r`.
   * Throws IoError on a host error, FormatError where the image is to blame.
   */
  read(into: Uint8Array, at: number): number | Promise<number>;
  /**
   * Runs of [from, to) in ascending order, starting exactly at `from`. May stop early (bounded memory): call
   * again with the batch's `end` until it reaches `to`. Never empty while from < to.
   */
  map(from: number, to: number): MapRuns | Promise<MapRuns>;
  close(): void | Promise<void>;
  /** Set where byte x of this source is byte x + base of a plain host file, as it is. */
  readonly plain?: { readonly file: HostFile; readonly base: number };
  /**
   * As `plain`, for bytes that may be taken from the file where they can be read there; for others
   * only `read` has an answer.
   */
  readonly underlying?: { readonly file: HostFile; readonly base: number };
}

/** Input that can only be read from front to back (standard input). */
export interface SequentialSource {
  readonly label: string;
  /** Next bytes, at most `into.length`; 0 at the end. */
  next(into: Uint8Array): number | Promise<number>;
  close(): void | Promise<void>;
}

/** Reads exactly `into.length` bytes; throws IoError("ESHORT") where the source ends before. */
export async function readFully(source: Source, into: Uint8Array, at: number): Promise<void> {
  const r = source.read(into, at);
  const n = r instanceof Promise ? await r : r;
  if (n !== into.length)
    throw new IoError(
      "ESHORT",
      `${source.label}: ends at byte ${at + n}, ${into.length - n} bytes missing`,
      at + n,
    );
}

/** Reads `length` bytes from `at` into a new array; bytes past the end of the source are zeros. */
export async function readZeroFilled(source: Source, at: number, length: number): Promise<Uint8Array> {
  const b = new Uint8Array(length);
  const r = source.read(b, at);
  if (r instanceof Promise) await r;
  return b;
}
