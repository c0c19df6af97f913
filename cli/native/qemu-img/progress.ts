import { print } from "../../ui/out.ts";

/** What -p shows: `    (12.01/100%)` and a carriage return, on standard output. Without -p nothing is printed. */
export class QemuProgress {
  private readonly shown: boolean;
  private readonly step: number;
  private last = 0;

  /** `step`: least rise of the share, in percent, between two prints; 1 for convert, 2 for compare. */
  constructor(shown: boolean, step = 1) {
    this.shown = shown;
    this.step = step;
    if (shown) this.draw(0);
  }

  /** `done` of `total`, in any unit. Calls may come as often as one likes. */
  update(done: number, total: number): void {
    if (!this.shown) return;
    const percent = total > 0 ? Math.min(100, (done / total) * 100) : 100;
    if (percent - this.last < this.step && !(percent === 100 && this.last < 100)) return;
    this.draw(percent);
  }

  /** The job is done: convert says so twice. */
  complete(): void {
    this.update(1, 1);
    if (this.shown) this.draw(100);
  }

  /** Ends the line. Once, when the job is over. */
  end(): void {
    if (this.shown) print("\n");
  }

  private draw(percent: number): void {
    this.last = percent;
    print(`    (${percent.toFixed(2)}/100%)\r`);
  }
}
