import type { Progress } from "../../src/engine/api.ts";
import { formatDuration, formatSize } from "./format.ts";

const PHASES = { scan: "Scanning", copy: "Copying", verify: "Verifying" } as const;
/** Milliseconds between two drawings: at most ten a second. */
const INTERVAL = 100;

/** One line on a terminal that follows a job: share, rate, time left. */
export class ProgressLine {
  private readonly put: (text: string) => void;
  private readonly now: () => number;
  private readonly columns: number;
  private phase: Progress["phase"] | null = null;
  private since = 0;
  private before = 0;
  private drawnAt = Number.NEGATIVE_INFINITY;
  private drawn = false;

  /** `put` writes to the terminal; `now` is a clock in milliseconds. */
  constructor(put: (text: string) => void, now: () => number = () => performance.now(), columns = 80) {
    this.put = put;
    this.now = now;
    this.columns = columns;
  }

  update(p: Progress): void {
    const t = this.now();
    if (p.phase !== this.phase) {
      this.phase = p.phase;
      this.since = t;
      this.before = p.done;
    } else if (t - this.drawnAt < INTERVAL) return;
    this.drawnAt = t;
    this.drawn = true;
    this.put(`\r${this.line(p, (t - this.since) / 1000).slice(0, this.columns - 1)}\x1b[K`);
  }

  /** Takes the line off the terminal. */
  clear(): void {
    if (this.drawn) this.put("\r\x1b[K");
    this.drawn = false;
  }

  private line(p: Progress, seconds: number): string {
    const share = p.total > 0 ? Math.min(1, p.done / p.total) : 0;
    const percent = `${Math.floor(share * 100)} %`.padStart(5);
    if (p.phase === "scan") return `${PHASES.scan} ${percent}`;
    const amount = `${PHASES[p.phase]} ${percent}  ${formatSize(p.done)} of ${formatSize(p.total)}`;
    const rate = seconds > 0.2 ? (p.done - this.before) / seconds : 0;
    if (rate <= 0) return amount;
    const left = seconds > 1 ? `, ${formatDuration((p.total - p.done) / rate)} left` : "";
    return `${amount}, ${formatSize(rate)}/s${left}`;
  }
}
