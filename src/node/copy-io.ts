import type { CopyIo } from "../engine/copy/copier.ts";
import { IoError, ReadError } from "../errors.ts";
import { readPiece } from "../io/node/file-io.ts";
import { allocate } from "../io/node/native.ts";
import { DirectWriter } from "./direct-writer.ts";

/** Bytes allocated at a time ahead of an output that grows from its front to its end. */
const AHEAD = 64 * 1024 * 1024;
/** Bytes from which allocating one write's own range pays. */
const ALLOCATE_FROM = 128 * 1024;

/** What messages call both ends of a copy. */
export interface CopyLabels {
  readonly source: string;
  readonly target: string;
}

/**
 * What a fresh file on a filesystem that allocates late (ext4) gains from: "ahead" for an output without holes, whose
 * end the caller cuts off when it is done, "exact" for one with holes.
 */
export type Allocation = "none" | "ahead" | "exact";

/** Where a copy goes. */
export interface CopyTarget {
  readonly fd: number;
  /** A descriptor for writes past the page cache, or -1. */
  readonly direct: number;
  /** All that is written will be flushed: past the page cache is then always better. */
  readonly flushed: boolean;
}

/** Copying between descriptors of this process, synchronously. */
export function descriptorIo(
  target: CopyTarget,
  labels: CopyLabels,
  allocation: Allocation,
  share?: CopyIo["share"],
): CopyIo {
  const prepare = allocator(target.fd, allocation);
  const writer = new DirectWriter(target, labels.target);
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
    write(bytes, from, length, at) {
      prepare(at, length);
      writer.write(bytes, from, length, at);
    },
    share,
  };
}

/** Called with each range before it is written. */
function allocator(target: number, allocation: Allocation): (at: number, length: number) => void {
  let able = allocation !== "none";
  let end = 0;
  if (allocation !== "ahead")
    return (at, length) => {
      if (able && length >= ALLOCATE_FROM) able = allocate(target, at, length);
    };
  return (at, length) => {
    if (!able || at + length <= end) return;
    const from = Math.max(end, at - (at % AHEAD));
    end = Math.ceil((at + length) / AHEAD) * AHEAD;
    able = allocate(target, from, end - from);
  };
}
