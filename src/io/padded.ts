import { MapRuns, ZERO } from "../bytes/runs.ts";
import type { Source } from "./source.ts";

/** A source of `size` bytes: another one (or none) with zeros behind it. Closing it leaves the other open. */
export class PaddedSource implements Source {
  readonly size: number;
  readonly label: string;
  private readonly inner: Source | null;
  /** Bytes that the other source has a say in. */
  private readonly reach: number;

  constructor(inner: Source | null, size: number) {
    this.inner = inner;
    this.size = size;
    this.label = inner?.label ?? "nothing";
    this.reach = Math.min(inner?.size ?? 0, size);
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const n = Math.max(0, Math.min(into.length, this.size - at));
    const held = Math.max(0, Math.min(n, this.reach - at));
    into.fill(0, held, n);
    if (held === 0) return n;
    const r = this.inner!.read(held === into.length ? into : into.subarray(0, held), at);
    const fill = (got: number): number => {
      into.fill(0, got, held);
      return n;
    };
    return r instanceof Promise ? r.then(fill) : fill(r);
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    if (from < this.reach) return this.inner!.map(from, Math.min(to, this.reach));
    const runs = new MapRuns(from);
    runs.push(Math.min(to, this.size) - from, ZERO);
    return runs;
  }

  close(): void {}
}
