import { MapRuns } from "../bytes/runs.ts";
import type { Source } from "./source.ts";

/** Options of `slice`. */
export interface SliceOptions {
  /** What messages call it; the parent's label by default. */
  readonly label?: string;
  /** Closing the slice closes the source under it. Default false: several slices may share one source. */
  readonly owns?: boolean;
}

/**
 * Bytes [at, at + size) of `source` as a source of its own, clipped to what the source has. Maps, host offsets and
 * `plain` are those of the source, shifted. Throws RangeError for an offset or size that is not a safe integer.
 */
export function slice(source: Source, at: number, size: number, options: SliceOptions = {}): Source {
  if (!(Number.isSafeInteger(at) && at >= 0 && Number.isSafeInteger(size) && size >= 0))
    throw new RangeError(`${source.label}: no slice of ${size} bytes at ${at}`);
  const room = Math.max(source.size - at, 0);
  return new Slice(source, at, Math.min(size, room), options);
}

class Slice implements Source {
  readonly size: number;
  readonly label: string;
  readonly plain?: NonNullable<Source["plain"]>;
  private readonly parent: Source;
  private readonly base: number;
  private readonly owns: boolean;

  constructor(parent: Source, base: number, size: number, options: SliceOptions) {
    this.parent = parent;
    this.base = base;
    this.size = size;
    this.label = options.label ?? parent.label;
    this.owns = options.owns ?? false;
    const plain = parent.plain;
    if (plain !== undefined) this.plain = { file: plain.file, base: plain.base + base };
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const room = this.size - at;
    if (room <= 0) return 0;
    return this.parent.read(room < into.length ? into.subarray(0, room) : into, this.base + at);
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    if (to > this.size) to = this.size;
    if (from >= to) return new MapRuns(from);
    const runs = this.parent.map(this.base + from, this.base + to);
    return runs instanceof Promise
      ? runs.then((r) => this.shifted(r, from, to))
      : this.shifted(runs, from, to);
  }

  close(): void | Promise<void> {
    if (this.owns) return this.parent.close();
  }

  private shifted(runs: MapRuns, from: number, to: number): MapRuns {
    const out = new MapRuns(from);
    for (let i = 0; i < runs.count && out.end < to; i++) {
      const file = runs.file[i] < 0 ? null : runs.files[runs.file[i]];
      const length = Math.min(runs.length[i], to - out.end);
      out.push(length, runs.state[i] as 0 | 1 | 2, runs.depth[i], runs.host[i], file);
    }
    return out;
  }
}
