/** One partition of a table. Offsets and sizes in bytes. */
export interface PartitionEntry {
  /** 1-based number, as the kernel counts them. */
  readonly number: number;
  readonly start: number;
  readonly size: number;
  /** "Linux filesystem", "EFI system", or the raw type code. */
  readonly type: string;
  readonly name: string;
}
