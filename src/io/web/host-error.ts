import { IoError } from "../../errors.ts";

const CODES: Readonly<Record<string, string>> = {
  QuotaExceededError: "ENOSPC",
  NotAllowedError: "EACCES",
  NoModificationAllowedError: "EBUSY",
  NotFoundError: "ENOENT",
  NotReadableError: "EIO",
};

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "the browser has no more room for it",
  EACCES: "the browser was not given permission",
  EBUSY: "the file is in use",
  ENOENT: "the file is gone",
  EIO: "the file changed or cannot be read any more",
};

/** An IoError for what a browser's file interface threw. */
export function hostError(what: string, cause: unknown, offset = -1): IoError {
  const name = cause instanceof Error || cause instanceof DOMException ? cause.name : "";
  const code = CODES[name] ?? "EIO";
  const detail =
    name in CODES ? REASONS[code] : cause instanceof Error ? cause.message || cause.name : String(cause);
  return new IoError(code, `${what}: ${detail}`, offset, cause);
}
