import type { CopyIo } from "../engine/copy/copier.ts";
import { IoError, ReadError } from "../errors.ts";
import { readAt, writeAt } from "../io/node/file-io.ts";

/** Copying between descriptors of this process, synchronously. `label` names the target in messages. */
export function descriptorIo(target: number, label: string, share?: CopyIo["share"]): CopyIo {
  return {
    read(into, _guest, fd, host) {
      try {
        return readAt(fd, into, host, "source");
      } catch (error) {
        if (error instanceof IoError)
          throw new ReadError(error.code, error.message, error.offset, error.cause);
        throw error;
      }
    },
    write: (bytes, at) => writeAt(target, bytes, at, label),
    share,
  };
}
