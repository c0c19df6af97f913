import { IoError } from "../../errors.ts";

/** What a failed system call reports: Node's error, or anything else that was thrown. */
interface SystemError {
  readonly code?: string;
  readonly message?: string;
}

const TEXTS: Readonly<Record<string, string>> = {
  EIO: "input/output error",
  ENOSPC: "no space left on device",
  EDQUOT: "disk quota exceeded",
  EFBIG: "file too large",
  EROFS: "read-only file system",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  ENOENT: "no such file or directory",
  ENOTDIR: "not a directory",
  EISDIR: "is a directory",
  ELOOP: "too many levels of symbolic links",
  EPIPE: "broken pipe",
  EBUSY: "device or resource busy",
  ENXIO: "no such device",
  ENOMEDIUM: "no medium found",
  EMFILE: "too many open files",
  ENAMETOOLONG: "file name too long",
};

/** The error code of a system call that threw ("ENOSPC"), or "EIO" where it has none. */
export function codeOf(error: unknown): string {
  const code = (error as SystemError | null)?.code;
  return typeof code === "string" ? code : "EIO";
}

/** `LABEL: DOING[ at byte N]: TEXT` as an IoError with the system's code. */
export function hostError(error: unknown, label: string, doing: string, offset = -1): IoError {
  if (error instanceof IoError) return error;
  const code = codeOf(error);
  const text = TEXTS[code] ?? (error as SystemError | null)?.message ?? String(error);
  const where = offset >= 0 ? ` at byte ${offset}` : "";
  return new IoError(code, `${label}: ${doing}${where}: ${text}`, offset, error);
}
