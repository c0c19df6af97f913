import { HOLE, type MapRuns } from "../../bytes/runs.ts";
import { slice } from "../../io/slice.ts";
import type { Source } from "../../io/source.ts";

/** Bytes a sector. */
const SECTOR = 512;

/**
 * Bytes [at, at + size) of `source` as a disk of whole sectors, as qemu takes a raw file: what the last sector lacks
 * reads as zeros. Closing it leaves `source` open. Throws RangeError where offset or size are no safe integers.
 */
export function sectored(source: Source, at: number, size: number): Source {
  const part = slice(source, at, size);
  const whole = Math.ceil(part.size / SECTOR) * SECTOR;
  return whole === part.size ? part : new Sectored(part, whole);
}

class Sectored implements Source {
  readonly size: number;
  readonly label: string;
  private readonly part: Source;

  constructor(part: Source, size: number) {
    this.part = part;
    this.size = size;
    this.label = part.label;
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const length = Math.max(0, Math.min(into.length, this.size - at));
    const stored = Math.max(0, Math.min(length, this.part.size - at));
    const fill = (n: number): number => {
      into.fill(0, n, length);
      return length;
    };
    if (stored === 0) return fill(0);
    const r = this.part.read(into.subarray(0, stored), at);
    return r instanceof Promise ? r.then(fill) : fill(r);
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    const end = Math.min(to, this.size);
    const r = this.part.map(from, Math.min(end, this.part.size));
    return r instanceof Promise ? r.then((runs) => this.rounded(runs, end)) : this.rounded(r, end);
  }

  /** The rest of the last sector: nothing is stored for it, though it has its place. */
  private rounded(runs: MapRuns, end: number): MapRuns {
    const { plain, size } = this.part;
    if (runs.end !== size || end <= size) return runs;
    runs.push(end - size, HOLE, 0, plain === undefined ? -1 : plain.base + size, plain?.file ?? null);
    return runs;
  }

  close(): void {}
}
