/** strerror(3) of the C locale, and the number, of the host errors that opening, reading and writing can meet. */
const ERRORS: Readonly<Record<string, readonly [number, string]>> = {
  EPERM: [1, "Operation not permitted"],
  ENOENT: [2, "No such file or directory"],
  EIO: [5, "Input/output error"],
  ENXIO: [6, "No such device or address"],
  ENOMEM: [12, "Cannot allocate memory"],
  EACCES: [13, "Permission denied"],
  EBUSY: [16, "Device or resource busy"],
  EEXIST: [17, "File exists"],
  ENODEV: [19, "No such device"],
  ENOTDIR: [20, "Not a directory"],
  EISDIR: [21, "Is a directory"],
  EINVAL: [22, "Invalid argument"],
  EMFILE: [24, "Too many open files"],
  ETXTBSY: [26, "Text file busy"],
  EFBIG: [27, "File too large"],
  ENOSPC: [28, "No space left on device"],
  EROFS: [30, "Read-only file system"],
  EPIPE: [32, "Broken pipe"],
  ENAMETOOLONG: [36, "File name too long"],
  ELOOP: [40, "Too many levels of symbolic links"],
  ENOTSUP: [95, "Operation not supported"],
  EOPNOTSUPP: [95, "Operation not supported"],
  EDQUOT: [122, "Disk quota exceeded"],
  ENOMEDIUM: [123, "No medium found"],
  ESHORT: [5, "Input/output error"],
};

/** strerror's words for an error code ("ENOENT"), or null where the code is not one of the host's. */
export function hostText(code: string): string | null {
  return ERRORS[code]?.[1] ?? null;
}

/** "-28 (No space left on device)": how qemu prints an error number. */
export function numberedText(code: string): string {
  const [number, text] = ERRORS[code] ?? ERRORS["EIO"];
  return `-${number} (${text})`;
}
