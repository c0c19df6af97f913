import type { BlockSet } from "../../bytes/block-set.ts";
import { ExtentList } from "../../bytes/extents.ts";
import { IoError } from "../../errors.ts";
import { Pace } from "../../io/pace.ts";
import type { Target } from "../../io/target.ts";
import { FINISHED, UNTRIED } from "./domain-map.ts";
import type { RescueSource } from "./rescue-source.ts";

/** Bytes copied at a time. */
const PIECE_BYTES = 1024 * 1024;

export interface RescueCloneOptions {
  /** Bytes of a block of `blocks`, and of the clone. */
  readonly blockSize: number;
  readonly size: number;
  /** Passes over what could not be read. */
  readonly retries: number;
  /** Milliseconds that a bad stretch may take in one of these passes. Default: no limit. */
  readonly patience?: number;
  /** The target holds what the source's domain map says is finished: leave that out. */
  readonly resume?: boolean;
  /** May change bytes before they are written. */
  readonly change?: (bytes: Uint8Array, at: number) => void;
  /** Called with the blocks done so far, those left out too; throws AbortError to stop. */
  readonly onProgress?: (blocks: number) => void;
  /** Called every now and then when everything the domain map says is finished has been written. */
  readonly checkpoint?: () => void | Promise<void>;
}

/**
 * Clones blocks of a failing source: first all that reads well, in ascending order; then what failed or was skipped,
 * sector by sector; then, `retries` times, what is still missing. The target must be seekable and is not committed.
 * Throws IoError for anything but read errors, AbortError.
 */
export async function rescueClone(
  source: RescueSource,
  target: Target,
  blocks: BlockSet,
  options: RescueCloneOptions,
): Promise<void> {
  const { blockSize, size, onProgress, change } = options;
  source.startCopying({
    defer: true,
    resume: options.resume === true,
    ...(options.patience === undefined ? {} : { patience: options.patience }),
  });
  const most = Math.max(Math.floor(PIECE_BYTES / blockSize), 1) * blockSize;
  const buffer = new Uint8Array(most);
  const list = new ExtentList();
  let done = 0;
  const pace = new Pace(() => onProgress?.(done));
  const write = (bytes: Uint8Array, at: number): void | Promise<void> => {
    change?.(bytes, at);
    return target.write(bytes, at);
  };
  const breathe = async (): Promise<void> => {
    const wait = pace.step();
    if (wait !== undefined) await wait;
    const r = options.checkpoint?.();
    if (r instanceof Promise) await r;
  };
  for (let from = 0; from < blocks.limit; ) {
    list.clear();
    from = blocks.runs(from, blocks.limit, list, 4096);
    for (let i = 0; i < list.count; i++) {
      const end = Math.min(list.end(i) * blockSize, size);
      for (let at = list.start(i) * blockSize; at < end; ) {
        let to = Math.min(at + most, end);
        if (options.resume === true) {
          const run = source.domain.runAt(at);
          if (run.status === FINISHED) {
            to = Math.min(run.to, end);
            done += (to - at) / blockSize;
            at = to;
            continue;
          }
          to = Math.min(to, run.to);
        }
        const piece = buffer.subarray(0, to - at);
        const r = source.read(piece, at);
        const got = r instanceof Promise ? await r : r;
        if (got < piece.length)
          throw new IoError("ESHORT", `${source.label}: ends at byte ${at + got}`, at + got);
        try {
          const w = write(piece, at);
          if (w instanceof Promise) await w;
        } catch (error) {
          // Read, but in no copy.
          source.domain.set(at, to, UNTRIED);
          throw error;
        }
        done += piece.length / blockSize;
        at = to;
        await breathe();
      }
    }
  }
  await source.settle(write, options.retries, breathe);
  onProgress?.(Math.round(done));
}
