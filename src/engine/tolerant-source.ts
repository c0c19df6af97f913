import type { MapRuns } from "../bytes/runs.ts";
import { IoError } from "../errors.ts";
import type { Source } from "../io/source.ts";

/**
 * A source that never fails to read: a block that cannot be read is zeros (or as many bytes as there were), and
 * `onLost` is told its byte offset and why. Not `plain`, so that every byte comes through here.
 */
export class TolerantSource implements Source {
  readonly size: number;
  readonly label: string;
  private readonly base: Source;
  private readonly blockSize: number;
  private readonly onLost: (at: number, error: IoError) => void;

  /** `size` in bytes: what is asked for, which may be more than the base holds. */
  constructor(base: Source, size: number, blockSize: number, onLost: (at: number, error: IoError) => void) {
    this.base = base;
    this.size = size;
    this.label = base.label;
    this.blockSize = blockSize;
    this.onLost = onLost;
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    return this.base.map(from, to);
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    try {
      const r = this.base.read(into, at);
      const n = r instanceof Promise ? await r : r;
      if (n === into.length) return n;
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
    }
    for (let i = 0; i < into.length; i += this.blockSize) {
      const block = into.subarray(i, i + this.blockSize);
      let n = 0;
      try {
        const r = this.base.read(block, at + i);
        n = r instanceof Promise ? await r : r;
        if (n < block.length)
          this.onLost(at + i, new IoError("ESHORT", `${this.label}: source ends here`, at + i + n));
      } catch (error) {
        if (!(error instanceof IoError)) throw error;
        this.onLost(at + i, error);
        n = 0;
      }
      block.fill(0, n);
    }
    return into.length;
  }

  close(): void | Promise<void> {
    return this.base.close();
  }
}
