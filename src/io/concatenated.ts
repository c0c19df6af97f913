import { HOLE, MapRuns, type RunState } from "../bytes/runs.ts";
import { inPieces } from "./pieces.ts";
import type { Source } from "./source.ts";

const SECTOR = 512;

/** Several sources as one, each padded with zeros to whole sectors of 512 bytes. Closing closes none of them. */
export class Concatenated implements Source {
  readonly size: number;
  readonly label: string;
  readonly parts: readonly Source[];
  /** First byte of each part, and the end of the last. */
  private readonly starts: number[] = [0];

  constructor(parts: readonly Source[]) {
    this.parts = parts;
    this.label = parts.map((p) => p.label).join(", ");
    for (const p of parts) this.starts.push(this.starts.at(-1)! + Math.ceil(p.size / SECTOR) * SECTOR);
    this.size = this.starts.at(-1)!;
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const length = Math.max(0, Math.min(into.length, this.size - at));
    return inPieces(length, (done) => this.readPart(into, at, done, length));
  }

  /** Reads what one part has of [at + done, at + length); returns how much that is. */
  private readPart(into: Uint8Array, at: number, done: number, length: number): number | Promise<number> {
    const i = this.indexOf(at + done);
    const n = Math.min(length - done, this.starts[i + 1] - at - done);
    const from = at + done - this.starts[i];
    const part = into.subarray(done, done + n);
    const stored = Math.max(0, Math.min(n, this.parts[i].size - from));
    part.fill(0, stored);
    if (stored === 0) return n;
    const r = this.parts[i].read(part.subarray(0, stored), from);
    const pad = (got: number): number => {
      part.fill(0, got);
      return n;
    };
    return typeof r === "number" ? pad(r) : r.then(pad);
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    const i = this.indexOf(from);
    const base = this.starts[i];
    const end = Math.min(to, this.starts[i + 1]);
    const shifted = (r: MapRuns | null): MapRuns => {
      const runs = new MapRuns(from);
      for (let k = 0; r !== null && k < r.count; k++) {
        const file = r.file[k] < 0 ? null : r.files[r.file[k]];
        runs.push(r.length[k], r.state[k] as RunState, r.depth[k], r.host[k], file);
      }
      if (runs.end >= base + this.parts[i].size) runs.push(end - runs.end, HOLE);
      return runs;
    };
    const stored = Math.min(end - base, this.parts[i].size);
    if (from - base >= stored) return shifted(null);
    const r = this.parts[i].map(from - base, stored);
    return r instanceof Promise ? r.then(shifted) : shifted(r);
  }

  close(): void {}

  private indexOf(at: number): number {
    let i = 0;
    while (i + 1 < this.parts.length && at >= this.starts[i + 1]) i++;
    return i;
  }
}
