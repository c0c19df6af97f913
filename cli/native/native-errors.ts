import { ImprintError, IoError } from "../../src/errors.ts";
import { ExtError, nativeErrorText } from "../../src/fs/ext/errors.ts";

/** strerror(3) of the C locale for what opening, reading and writing can meet. */
const STRERROR: Readonly<Record<string, string>> = {
  EACCES: "Permission denied",
  EBUSY: "Device or resource busy",
  EDQUOT: "Disk quota exceeded",
  EFBIG: "File too large",
  EINVAL: "Invalid argument",
  EIO: "Input/output error",
  EISDIR: "Is a directory",
  ELOOP: "Too many levels of symbolic links",
  EMFILE: "Too many open files",
  ENAMETOOLONG: "File name too long",
  ENODEV: "No such device",
  ENOENT: "No such file or directory",
  ENOMEDIUM: "No medium found",
  ENOMEM: "Cannot allocate memory",
  ENOSPC: "No space left on device",
  ENOTDIR: "Not a directory",
  ENOTSUP: "Operation not supported",
  ENXIO: "No such device or address",
  EPERM: "Operation not permitted",
  EPIPE: "Broken pipe",
  EROFS: "Read-only file system",
  ESPIPE: "Illegal seek",
  EOPNOTSUPP: "Operation not supported",
  ESHORT: "Attempt to read block from filesystem resulted in short read",
  ETXTBSY: "Text file busy",
};

/** strerror(3) for an error code, or the code itself where it is not among those known here. */
export function strerror(code: string): string {
  return STRERROR[code] ?? code;
}

const SELF_EXPLANATORY = new Set([
  "EXT_BAD_MAGIC",
  "EXT_INVALID_ARGUMENT",
  "EXT_SHORT_READ",
  "EXT_UNEXPECTED_BLOCK_SIZE",
]);

/** What com_err(3) of e2fsprogs prints for an error; our own message where it has no words for it. */
export function nativeText(error: unknown): string {
  if (error instanceof ExtError) return error.nativeText;
  if (error instanceof ImprintError) {
    const known = STRERROR[error.code] ?? nativeErrorText(error.code);
    if (known !== null) return known;
    return error.message;
  }
  return String(error);
}

/** True where the native words leave out what a person needs: which structure is wrong, and where. */
export function hasDetail(error: unknown): boolean {
  if (!(error instanceof ImprintError) || error instanceof IoError) return false;
  if (nativeText(error) === error.message || STRERROR[error.code] !== undefined) return false;
  return !SELF_EXPLANATORY.has(error.code);
}
