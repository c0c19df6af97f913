import { FormatError } from "../../errors.ts";

/** Every way an NTFS volume can be refused or stop a walk. */
export type NtfsErrorCode =
  | "NTFS_NOT_NTFS"
  | "NTFS_BAD_BOOT"
  | "NTFS_BAD_RECORD"
  | "NTFS_BAD_ATTRIBUTE"
  | "NTFS_BAD_ATTRIBUTE_LIST"
  | "NTFS_STALE_REFERENCE"
  | "NTFS_BAD_RUNLIST"
  | "NTFS_CLUSTER_TWICE"
  | "NTFS_BAD_MFT"
  | "NTFS_MIRROR_DIFFERS"
  | "NTFS_BAD_BITMAP"
  | "NTFS_BITMAP_TOO_SMALL"
  | "NTFS_BITMAP_DIFFERS"
  | "NTFS_BAD_VOLUME_FILE"
  | "NTFS_VERSION"
  | "NTFS_CLUSTER_TOO_LARGE"
  | "NTFS_BAD_INDEX"
  | "NTFS_BAD_STREAM"
  | "NTFS_ENCRYPTED"
  | "NTFS_NO_RECORD"
  | "NTFS_SHORT_READ";

/** What the native tool says and returns at the same place. */
export interface NativeWords {
  /**
   * Lines separated by "\n", without "ERROR: " before and the errno's text after them. Of a volume that cannot be
   * opened they are what the library says besides the tool's own "Opening ... failed". "" where it says nothing.
   */
  readonly text?: string;
  /** The errno it ends with; 0 where there is none. Default EIO. */
  readonly errno?: number;
}

export const EIO = 5;
export const ENOENT = 2;
export const EINVAL = 22;
export const ESPIPE = 29;
export const EOPNOTSUPP = 95;

/** An NTFS volume that breaks its format. */
export class NtfsError extends FormatError {
  declare readonly code: NtfsErrorCode;
  /** What the native tool prints for it ("" where it prints nothing). */
  readonly nativeText: string;
  /** The errno the native tool has at this place; 0 where there is none. */
  readonly errno: number;
  constructor(
    code: NtfsErrorCode,
    structure: string,
    offset: number,
    detail: string,
    native: NativeWords = {},
  ) {
    super(structure, offset, detail, code);
    this.nativeText = native.text ?? "";
    this.errno = native.errno ?? EIO;
  }
}
