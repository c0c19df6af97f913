import { print } from "../../ui/out.ts";

/** Least rise of the share, in percent, between two prints. */
const STEP = 1;

/** What -p shows: `    (12.01/100%)` and a carriage return, on standard output. Without -p nothing is printed. */
export class QemuProgress {
  private readonly shown: boolean;
  private last = 0;

  constructor(shown: boolean) {
    this.shown = shown;
    if (shown) this.draw(0);
  }

  /** `done` of `total`, in any unit. Calls may come as often as one likes. */
  update(done: number, total: number): void {
    if (!this.shown) return;
    const percent = total > 0 ? Math.min(100, (done / total) * 100) : 100;
    if (percent - this.last < STEP && !(percent === 100 && this.last < 100)) return;
    this.draw(percent);
  }

  /** Prints 100 % and a newline where the job got that far; a newline where it failed. Once, at the end. */
  end(): void {
    if (this.shown) print("\n");
  }

  private draw(percent: number): void {
    this.last = percent;
    print(`    (${percent.toFixed(2)}/100%)\r`);
  }
}
