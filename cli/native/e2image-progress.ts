import type { Progress } from "../../src/engine/api.ts";

/** Seconds before an estimate is worth printing. */
const ESTIMATE_AFTER = 5;
const MEGABYTE = 1024 * 1024;

/** The progress of `e2image -p`: counts of blocks, redrawn with backspaces once a second. */
export class BlockProgress {
  private readonly put: (text: string) => void;
  private readonly now: () => number;
  private blockSize = 1;
  private total = 0;
  private start = 0;
  private second = 0;
  private width = 0;
  private blocks = 0;
  private scanning = false;

  /** `now` is a clock in milliseconds. */
  constructor(put: (text: string) => void, now: () => number = Date.now) {
    this.put = put;
    this.now = now;
  }

  /** Says once that inodes are read now. */
  scan(): void {
    if (!this.scanning) this.put("Scanning inodes...\n");
    this.scanning = true;
  }

  /** `total` in blocks, as native counts them: every marking. */
  begin(total: number, blockSize: number): void {
    this.total = total;
    this.blockSize = blockSize;
    this.start = this.now();
    this.put("Copying ");
    this.draw("");
  }

  update(p: Progress): void {
    if (p.phase !== "copy") return;
    this.blocks = Math.floor(p.done / this.blockSize);
    const seconds = Math.floor((this.now() - this.start) / 1000);
    if (seconds === this.second) return;
    this.second = seconds;
    let estimate = "";
    if (seconds > ESTIMATE_AFTER && this.blocks > 0) {
      const left = ((this.total - this.blocks) * seconds) / this.blocks;
      estimate = ` ${clock(left)} remaining at ${this.rate(seconds)} MB/s`;
    }
    this.draw(estimate);
  }

  end(): void {
    const seconds = Math.floor((this.now() - this.start) / 1000);
    const rate = seconds > 0 ? `at ${this.rate(seconds)} MB/s` : "";
    this.put(`\rCopied ${this.counts()} in ${clock(seconds)} ${rate}       \n`);
  }

  private draw(estimate: string): void {
    const text = this.counts() + estimate;
    const blanks = " ".repeat(Math.max(0, this.width - text.length));
    this.put("\b".repeat(this.width) + text + blanks);
    this.width = text.length + blanks.length;
  }

  private counts(): string {
    const percent = this.total > 0 ? Math.round((100 * this.blocks) / this.total) : 100;
    return `${this.blocks} / ${this.total} blocks (${percent}%)`;
  }

  private rate(seconds: number): string {
    return ((this.blocks * this.blockSize) / MEGABYTE / seconds).toFixed(2);
  }
}

/** Seconds as HH:MM:SS. */
function clock(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  const two = (n: number): string => String(n).padStart(2, "0");
  return `${two(Math.floor(s / 3600))}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}
