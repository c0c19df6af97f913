import type { CopyIo } from "../engine/copy/copier.ts";
import { IoError, ReadError } from "../errors.ts";
import { readPiece, writePiece } from "../io/node/file-io.ts";

/** What messages call both ends of a copy. */
export interface CopyLabels {
  readonly source: string;
  readonly target: string;
}

/** Copying between descriptors of this process, synchronously. */
export function descriptorIo(target: number, labels: CopyLabels, share?: CopyIo["share"]): CopyIo {
  return {
    read(bytes, from, length, _guest, fd, host) {
      try {
        return readPiece(fd, bytes, from, length, host, labels.source);
      } catch (error) {
        if (error instanceof IoError)
          throw new ReadError(error.code, error.message, error.offset, error.cause);
        throw error;
      }
    },
    write: (bytes, from, length, at) => writePiece(target, bytes, from, length, at, labels.target),
    share,
  };
}
