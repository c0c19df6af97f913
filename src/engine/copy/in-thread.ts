import type { Packer } from "../../image/packer.ts";
import { Pace } from "../../io/pace.ts";
import type { Source } from "../../io/source.ts";
import type { Target } from "../../io/target.ts";
import { CHUNK_BYTES, Copier, type CopyCounts, type CopyIo, OwnTurns, unitOf } from "./copier.ts";
import { plannerOf } from "./plan.ts";
import { Window } from "./window.ts";

export interface InThreadJob {
  readonly source: Source;
  readonly packer: Packer;
  readonly skipZero: boolean;
  /** Replaces plain writing to the target (compare, list). */
  readonly write: (bytes: Uint8Array, at: number) => void | Promise<void>;
  /** Called with the bytes walked so far; throws AbortError to stop. */
  readonly onProgress: (walked: number) => void;
}

/** Copies a source through a packer on this thread; works with any source and target. */
export async function copyInThread(job: InThreadJob): Promise<CopyCounts> {
  const io: CopyIo = {
    read: (bytes, from, length, guest) => job.source.read(bytes.subarray(from, from + length), guest),
    write: (bytes, from, length, at) => job.write(bytes.subarray(from, from + length), at),
  };
  const copier = new Copier(job.packer, io, {
    skipZero: job.skipZero,
    ordered: true,
    shareFrom: 0,
    chunkBytes: CHUNK_BYTES,
  });
  try {
    const planner = plannerOf(job.source, job.packer, unitOf(job.packer), CHUNK_BYTES);
    const window = new Window();
    const turns = new OwnTurns();
    const pace = new Pace(() => job.onProgress(copier.counts.walked));
    while (await planner.fill(window)) {
      turns.restart();
      while (await copier.run(window, turns, () => pace.due)) await pace.turn();
      job.onProgress(copier.counts.walked);
    }
    return copier.counts;
  } finally {
    copier.dispose();
  }
}

/** The plain write of a target. */
export function writerOf(target: Target): (bytes: Uint8Array, at: number) => void | Promise<void> {
  return (bytes, at) => target.write(bytes, at);
}
