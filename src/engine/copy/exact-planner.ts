import { DATA } from "../../bytes/runs.ts";
import { type Iterations, type Part, SECTOR } from "./iterations.ts";
import { CHUNK_EXTENTS, CHUNKS, EXTENTS, type Window } from "./window.ts";

/** Bytes that qemu-img convert reads at once: no extent is longer. */
export const ITERATION_BYTES = 2 * 1024 * 1024;

/**
 * As `Planner`, for exact copies: every extent is one stretch that qemu-img would read and write at once, and a chunk
 * holds whole stretches, `ITERATION_BYTES` of them at most.
 */
export class ExactPlanner {
  private readonly iterations: Iterations;
  private readonly parts: readonly Part[];
  private pending = false;

  constructor(iterations: Iterations, parts: readonly Part[]) {
    this.iterations = iterations;
    this.parts = parts;
  }

  /** Fills `w` with the next chunks; false when nothing is left. */
  async fill(w: Window): Promise<boolean> {
    const it = this.iterations;
    let n = 0;
    let chunks = 0;
    let used = 0;
    w.first[0] = 0;
    const close = () => {
      if (n > w.first[chunks]) w.first[++chunks] = n;
      used = 0;
    };
    for (;;) {
      if (!this.pending) {
        const r = it.next();
        if (!(typeof r === "boolean" ? r : await r)) break;
        if (it.state !== DATA) continue;
      }
      this.pending = false;
      const room = it.count * SECTOR;
      if (used + room > ITERATION_BYTES || n - w.first[chunks] >= CHUNK_EXTENTS) close();
      if (chunks === CHUNKS || n === EXTENTS) {
        this.pending = true;
        break;
      }
      w.guest[n] = it.sector * SECTOR;
      w.length[n] = Math.min(room, this.parts[it.part].source.size - it.at);
      w.host[n] = it.host;
      w.fd[n] = it.file === null ? -1 : it.file.fd;
      n++;
      used += room;
    }
    close();
    w.chunks = chunks;
    w.extents = n;
    return chunks > 0;
  }
}
