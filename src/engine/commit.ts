import { DATA } from "../bytes/runs.ts";
import type { Source } from "../io/source.ts";

/** Most bytes that are read and written at once. */
const PIECE = 2 * 1024 * 1024;

/** The image that takes the data: a disk that is written in place. */
export interface CommitBase {
  write(bytes: Uint8Array, at: number): void | Promise<void>;
  writeZeros(at: number, length: number): void | Promise<void>;
  /** Makes what was written durable. */
  finish(): void;
}

/** Data of the upper layers of a chain that go into a lower one. */
export interface CommitJob {
  /** The top's disk, read through its chain. */
  readonly top: Pick<Source, "size" | "read" | "map">;
  /** Layers above the base. */
  readonly layers: number;
  readonly base: CommitBase;
  /** Makes the top unallocated; absent where it keeps its data. */
  readonly empty?: () => void;
  /** After each piece: bytes of the disk that are done. May answer with a promise to slow the job down. */
  readonly onProgress?: (done: number, total: number, copied: number) => void | Promise<void>;
}

/**
 * Writes what the layers above the base hold into the base, which must be long enough, and empties the top once that is
 * durable: the disk reads the same at any time, whenever the job ends.
 */
export async function commitLayers(job: CommitJob): Promise<void> {
  await copyToBase(job);
  job.base.finish();
  job.empty?.();
}

async function copyToBase(job: CommitJob): Promise<void> {
  const { top, layers, base } = job;
  const buffer = new Uint8Array(Math.min(PIECE, top.size));
  const report = async (done: number, copied: number): Promise<void> => {
    const p = job.onProgress?.(done, top.size, copied);
    if (p instanceof Promise) await p;
  };
  for (let at = 0; at < top.size; ) {
    const r = top.map(at, top.size);
    const runs = r instanceof Promise ? await r : r;
    for (let i = 0; i < runs.count; i++) {
      const from = runs.at[i];
      const to = from + runs.length[i];
      if (runs.depth[i] >= layers) continue;
      if (runs.state[i] !== DATA) {
        // Explicit zeros, and what is unallocated behind the end of a short layer.
        const w = base.writeZeros(from, to - from);
        if (w instanceof Promise) await w;
        await report(to, 0);
        continue;
      }
      for (let p = from; p < to; ) {
        // Pieces end at multiples of their size.
        const stop = Math.min(to, (Math.floor(p / PIECE) + 1) * PIECE);
        const bytes = buffer.subarray(0, stop - p);
        const n = top.read(bytes, p);
        const got = n instanceof Promise ? await n : n;
        bytes.fill(0, got);
        const w = base.write(bytes, p);
        if (w instanceof Promise) await w;
        p = stop;
        await report(p, bytes.length);
      }
    }
    at = runs.end;
  }
  await report(top.size, 0);
}
