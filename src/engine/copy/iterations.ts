import { DATA, HOLE, type HostFile, type RunState, ZERO } from "../../bytes/runs.ts";
import { type StatusRun, type StatusSource, statusOf } from "../../image/qcow2/block-status.ts";
import type { Source } from "../../io/source.ts";

export const SECTOR = 512;

/** Sectors that qemu-img asks about at a time. */
const MOST_ASKED = Math.floor(0x7fffffff / SECTOR);

/** One part of a conversion's input. */
export interface Part {
  readonly source: Source;
  /**
   * Sectors that the source's own clusters have; 1 where it has none. A run never ends within one,
   * where it can help it.
   */
  readonly alignment: number;
}

export interface IterationRules {
  /** Sectors that are read at once. */
  readonly buffer: number;
  /** Compressed output: sectors of a cluster, else 0. Data then come cluster by cluster. */
  readonly cluster: number;
  /** The output has a backing file: what a part leaves to its own backing file is left to the output's. */
  readonly backed: boolean;
  /** Sectors of the output's backing file, -1 where there is none or its size is not known. */
  readonly backingSectors: number;
  /** Zeros are written as data (-S 0): they come in pieces of the buffer too. */
  readonly zerosToo: boolean;
  /** Told of a stretch whose status could not be read; it is taken for data. Absent: the error is thrown. */
  readonly onStatusError?: (error: unknown, sector: number) => void;
}

/**
 * The stretches in which qemu-img convert (7.2) walks its sources: each is read and written at once. Parts follow each
 * other, each rounded up to whole sectors. Facts: observed on qemu-img.
 */
export class Iterations {
  /** The stretch that `next` found; sectors. */
  sector = 0;
  count = 0;
  /** HOLE: left to the output's backing file. */
  state: RunState = DATA;
  /** Index of the part it begins in, and its first byte there. */
  part = 0;
  at = 0;
  /** Where its bytes lie as they are, or -1. */
  host = -1;
  file: HostFile | null = null;
  /** Sectors of all parts together. */
  readonly total: number;
  /** Sectors of each part. */
  readonly sectors: readonly number[];
  private readonly parts: readonly Part[];
  private readonly rules: IterationRules;
  private readonly status: StatusSource["status"][];
  private readonly run: StatusRun = { state: DATA, length: 0, host: -1, file: null };
  private position = 0;
  /** First sector of the part at hand. */
  private base = 0;
  private current = 0;
  /** The run at hand: its end, state, and where it began. */
  private runEnd = 0;
  private runState: RunState = DATA;
  private runStart = 0;

  constructor(parts: readonly Part[], rules: IterationRules) {
    this.parts = parts;
    this.rules = rules;
    this.sectors = parts.map((p) => Math.ceil(p.source.size / SECTOR));
    this.total = this.sectors.reduce((a, b) => a + b, 0);
    this.status = parts.map((p) => statusOf(p.source));
  }

  /** Goes to the next stretch; false at the end. */
  next(): boolean | Promise<boolean> {
    if (this.position >= this.total) return false;
    if (this.position < this.runEnd) return this.cut();
    const asked = this.ask();
    if (asked === null) return this.cut();
    return asked.then(() => this.cut());
  }

  /** Sectors of the next question, cut at the end of the output's backing file. */
  private wanted(): number {
    const n = Math.min(this.total - this.position, MOST_ASKED);
    const { backingSectors } = this.rules;
    if (backingSectors >= 0 && this.position < backingSectors)
      return Math.min(n, backingSectors - this.position);
    return n;
  }

  private ask(): Promise<void> | null {
    while (this.position >= this.base + this.sectors[this.current]) this.base += this.sectors[this.current++];
    const at = (this.position - this.base) * SECTOR;
    const { source } = this.parts[this.current];
    const end = Math.min(at + this.wanted() * SECTOR, source.size);
    const { onStatusError } = this.rules;
    const failed = (error: unknown): void => {
      if (onStatusError === undefined) throw error;
      onStatusError(error, this.position);
      const { run } = this;
      run.state = DATA;
      run.length = SECTOR;
      run.host = -1;
      run.file = null;
    };
    let r: Promise<void> | null = null;
    try {
      r = this.status[this.current](at, end, this.rules.backed, this.run);
    } catch (error) {
      failed(error);
    }
    if (r !== null) return r.catch(failed).then(() => this.take());
    this.take();
    return null;
  }

  private take(): void {
    const { run, rules } = this;
    const { alignment } = this.parts[this.current];
    let n = Math.min(Math.ceil(run.length / SECTOR), this.wanted());
    const tail = (this.position - this.base + n) % alignment;
    if (n > tail) n -= tail;
    const past = rules.backingSectors >= 0 && this.position >= rules.backingSectors;
    if (run.state === ZERO) this.runState = past ? HOLE : ZERO;
    else if (run.state === DATA) this.runState = DATA;
    else this.runState = rules.backed ? HOLE : DATA;
    this.runStart = this.position;
    this.runEnd = this.position + n;
  }

  private cut(): true {
    const { rules, run } = this;
    let n = Math.min(this.wanted(), this.runEnd - this.position);
    let state = this.runState;
    if (state === DATA) n = Math.min(n, rules.buffer);
    if (rules.cluster > 0) {
      if (n < rules.cluster) {
        n = Math.min(rules.cluster, this.total - this.position);
        state = this.runState = DATA;
      } else n -= n % rules.cluster;
    }
    if (rules.zerosToo && state === ZERO) n = Math.min(n, rules.buffer);
    this.sector = this.position;
    this.count = n;
    this.state = state;
    while (this.position >= this.base + this.sectors[this.current]) this.base += this.sectors[this.current++];
    this.part = this.current;
    this.at = (this.position - this.base) * SECTOR;
    const into = (this.position - this.runStart) * SECTOR;
    const plain =
      run.host >= 0 && into + Math.min(n * SECTOR, this.parts[this.part].source.size - this.at) <= run.length;
    this.host = plain ? run.host + into : -1;
    this.file = plain ? run.file : null;
    this.position += n;
    return true;
  }
}
