import { FormatError } from "../../errors.ts";
import type { Target } from "../../io/target.ts";

const CHUNK = 256 * 1024;

/**
 * A stand-in for `target` that compares instead of writing: a second run of a writer over it checks what the first one
 * wrote. Throws FormatError("EVERIFY") at the first difference. Needs a target that can be read.
 */
export function comparingTarget(target: Target): Target {
  let held = new Uint8Array(0);
  let zeros = new Uint8Array(0);
  const compare = async (bytes: Uint8Array, at: number): Promise<void> => {
    if (held.length < bytes.length) held = new Uint8Array(bytes.length);
    const r = target.read!(held.subarray(0, bytes.length), at);
    const n = r instanceof Promise ? await r : r;
    // What lies behind the end of a file is zeros once the file has its size.
    held.fill(0, n, bytes.length);
    for (let i = 0; i < bytes.length; i++)
      if (held[i] !== bytes[i])
        throw new FormatError(target.label, at + i, "what was written does not read back", "EVERIFY");
  };
  return {
    label: target.label,
    // Makes the writer put the header down once, with its final bytes.
    seekable: false,
    fresh: false,
    capacity: target.capacity,
    write: compare,
    async zero(at, length) {
      if (zeros.length === 0) zeros = new Uint8Array(CHUNK);
      for (let done = 0; done < length; done += CHUNK)
        await compare(zeros.subarray(0, Math.min(CHUNK, length - done)), at + done);
    },
    commit() {},
    abort() {},
  };
}
