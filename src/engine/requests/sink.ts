/**
 * Where a conversion's requests go: an image that is being made, or one that is there. Requests come in ascending
 * order; offsets are bytes of the disk, multiples of 512 like the lengths.
 */
export interface RequestSink {
  /** Stores bytes; they may be reused once the call has settled. */
  write(bytes: Uint8Array, at: number): void | Promise<void>;
  /** Makes a range read as zeros. Null where everything that is not written does so anyway. */
  readonly zero: ((at: number, length: number) => void | Promise<void>) | null;
  /** Everything has been sent: writes what is known only now. Does not commit. Returns the output's size in bytes. */
  finish(): number | Promise<number>;
}
