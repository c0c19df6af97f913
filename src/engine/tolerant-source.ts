import { BlockSet } from "../bytes/block-set.ts";
import type { MapRuns } from "../bytes/runs.ts";
import { IoError } from "../errors.ts";
import type { Source } from "../io/source.ts";

/**
 * A source that never fails to read: a block that cannot be read is zeros (or as many bytes as there were), and
 * `onLost` is told its byte offset and why, once. Not `plain`, so that every byte that cannot be
 * read comes through here.
 */
export class TolerantSource implements Source {
  readonly size: number;
  readonly label: string;
  readonly underlying?: NonNullable<Source["underlying"]>;
  private readonly base: Source;
  private readonly blockSize: number;
  private readonly onLost: (at: number, error: IoError) => void;
  /** Blocks that `onLost` has been told of. */
  private readonly told: BlockSet;

  /**
   * `size` in bytes: what is asked for, which may be more than the base holds. `pulled`: what can be read may be taken
   * from the host file itself.
   */
  constructor(
    base: Source,
    size: number,
    blockSize: number,
    onLost: (at: number, error: IoError) => void,
    pulled = false,
  ) {
    this.base = base;
    this.size = size;
    this.label = base.label;
    this.blockSize = blockSize;
    this.onLost = onLost;
    if (pulled && base.size >= size && base.plain !== undefined) this.underlying = base.plain;
    this.told = new BlockSet(Math.ceil(size / blockSize));
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    return this.base.map(from, to);
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    try {
      const r = this.base.read(into, at);
      if (r instanceof Promise)
        return r.then(
          (n) => (n === into.length ? n : this.readBlocks(into, at)),
          (error: unknown) => {
            if (error instanceof IoError) return this.readBlocks(into, at);
            throw error;
          },
        );
      if (r === into.length) return r;
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
    }
    return this.readBlocks(into, at);
  }

  close(): void | Promise<void> {
    return this.base.close();
  }

  private async readBlocks(into: Uint8Array, at: number): Promise<number> {
    for (let i = 0; i < into.length; ) {
      const end = Math.min(into.length, i + this.blockSize - ((at + i) % this.blockSize));
      const block = into.subarray(i, end);
      let n = 0;
      try {
        const r = this.base.read(block, at + i);
        n = r instanceof Promise ? await r : r;
        if (n < block.length)
          this.lost(at + i, new IoError("ESHORT", `${this.label}: source ends here`, at + i + n));
      } catch (error) {
        if (!(error instanceof IoError)) throw error;
        this.lost(at + i, error);
        n = 0;
      }
      block.fill(0, n);
      i = end;
    }
    return into.length;
  }

  private lost(at: number, error: IoError): void {
    if (this.told.add(Math.floor(at / this.blockSize)) > 0) this.onLost(at, error);
  }
}
