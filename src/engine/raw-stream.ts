import { DATA } from "../bytes/runs.ts";
import { ReadError } from "../errors.ts";
import type { Source } from "../io/source.ts";
import type { Target } from "../io/target.ts";

/** Bytes read and written at a time. */
const PIECE = 512 * 1024;
/** Bytes that a target pulls at a time. */
const MOST_PULLED = 16 * 1024 * 1024;
/** Below it, reading and writing costs no more than pulling. */
const LEAST_PULLED = 64 * 1024;

export interface RawStreamJob {
  readonly source: Source;
  /** A stream that can pull. */
  readonly target: Target;
  /** Byte of the output at which the source's first byte goes. */
  readonly offset: number;
  /** Called with the stored bytes walked so far; throws AbortError to stop. */
  readonly onProgress: (walked: number) => void;
}

/**
 * Writes the bytes that a source stores to a stream at their own places; long runs that lie in plain host files go
 * there without passing through here. Does not commit. Returns the bytes written. Throws IoError, ReadError.
 */
export async function streamRaw(job: RawStreamJob): Promise<number> {
  const { source, target, offset } = job;
  const buffer = new Uint8Array(PIECE);
  let done = 0;
  for (let from = 0; from < source.size; ) {
    const r = source.map(from, source.size);
    const b = r instanceof Promise ? await r : r;
    for (let i = 0; i < b.count; i++) {
      if (b.state[i] !== DATA) continue;
      const end = b.at[i] + b.length[i];
      const fd = b.host[i] < 0 || b.file[i] < 0 ? -1 : b.files[b.file[i]].fd;
      for (let at = b.at[i]; at < end; ) {
        if (fd >= 0 && end - at >= LEAST_PULLED) {
          const n = Math.min(end - at, MOST_PULLED);
          const p = target.pull?.(fd, b.host[i] + (at - b.at[i]), n, at + offset) ?? 0;
          const pulled = p instanceof Promise ? await p : p;
          at += pulled;
          done += pulled;
          if (pulled > 0) job.onProgress(done);
          if (pulled === n) continue;
        }
        const part = buffer.subarray(0, Math.min(end - at, PIECE));
        const got = source.read(part, at);
        const n = got instanceof Promise ? await got : got;
        if (n !== part.length)
          throw new ReadError("ESHORT", `${source.label}: ends at byte ${at + n}, more was to come`, at + n);
        const w = target.write(part, at + offset);
        if (w instanceof Promise) await w;
        at += n;
        done += n;
      }
    }
    job.onProgress(done);
    if (b.end <= from) break;
    from = b.end;
  }
  return done;
}
