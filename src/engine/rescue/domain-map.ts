/**
 * What of a source was read, as the map files of GNU ddrescue say it: each byte is not tried yet, part of a block that
 * failed (not trimmed, not scraped), bad, or finished.
 */
export const UNTRIED = "?";
export const UNTRIMMED = "*";
export const UNSCRAPED = "/";
export const BAD = "-";
export const FINISHED = "+";
export type DomainStatus =
  | typeof UNTRIED
  | typeof UNTRIMMED
  | typeof UNSCRAPED
  | typeof BAD
  | typeof FINISHED;

export function isDomainStatus(text: string): text is DomainStatus {
  return text.length === 1 && "?*/-+".includes(text);
}

/** A run of bytes with one status. */
export interface DomainRun {
  readonly from: number;
  readonly to: number;
  readonly status: DomainStatus;
}

/** The status of every byte in [0, size). Neighbours of one status are one run. */
export class DomainMap {
  readonly size: number;
  /** Where runs begin, ascending from 0, and their status; a run ends where the next one begins. */
  private readonly starts: number[] = [0];
  private readonly states: DomainStatus[] = [UNTRIED];

  constructor(size: number) {
    this.size = size;
  }

  /** Number of runs. */
  get count(): number {
    return this.size === 0 ? 0 : this.starts.length;
  }

  /** Gives [from, to) a status. */
  set(from: number, to: number, status: DomainStatus): void {
    const end = Math.min(to, this.size);
    const begin = Math.max(0, from);
    if (begin >= end) return;
    const first = this.indexOf(begin);
    const last = this.indexOf(end - 1);
    if (first === last && this.states[first] === status) return;
    const starts: number[] = [];
    const states: DomainStatus[] = [];
    const push = (at: number, s: DomainStatus): void => {
      const before = states.length > 0 ? states[states.length - 1] : this.states[first - 1];
      if (before === s) return;
      starts.push(at);
      states.push(s);
    };
    if (this.starts[first] < begin) push(this.starts[first], this.states[first]);
    push(begin, status);
    if (end < this.end(last)) push(end, this.states[last]);
    let after = last + 1;
    const tail = states.length > 0 ? states[states.length - 1] : this.states[first - 1];
    if (after < this.states.length && this.states[after] === tail) after++;
    this.starts.splice(first, after - first, ...starts);
    this.states.splice(first, after - first, ...states);
  }

  statusAt(at: number): DomainStatus {
    return this.states[this.indexOf(at)];
  }

  /** The run that holds byte `at`. */
  runAt(at: number): DomainRun {
    const i = this.indexOf(at);
    return { from: this.starts[i], to: this.end(i), status: this.states[i] };
  }

  /** Whether all of [from, to) has the status. */
  is(from: number, to: number, status: DomainStatus): boolean {
    const i = this.indexOf(from);
    return this.states[i] === status && this.end(i) >= to;
  }

  /** Runs that touch [from, to), cut to it, ascending. The map must not change meanwhile. */
  *runs(from = 0, to = this.size): IterableIterator<DomainRun> {
    for (let i = this.indexOf(from); i < this.count && this.starts[i] < to; i++)
      yield {
        from: Math.max(from, this.starts[i]),
        to: Math.min(to, this.end(i)),
        status: this.states[i],
      };
  }

  /** Bytes with the status. */
  bytes(status: DomainStatus): number {
    let n = 0;
    for (const r of this.runs()) if (r.status === status) n += r.to - r.from;
    return n;
  }

  private end(i: number): number {
    return i + 1 < this.starts.length ? this.starts[i + 1] : this.size;
  }

  private indexOf(at: number): number {
    let low = 0;
    let high = this.starts.length - 1;
    while (low < high) {
      const mid = (low + high + 1) >>> 1;
      if (this.starts[mid] <= at) low = mid;
      else high = mid - 1;
    }
    return low;
  }
}
