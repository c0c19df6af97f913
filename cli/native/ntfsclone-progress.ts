import { fixed, type Say } from "./ntfsclone-text.ts";

/** Steps from one line to the next. */
const EVERY = 100;

/** The progress lines of ntfsclone: one each hundred steps, and a last one. Computed in floats, as native does. */
export class PercentLines {
  private readonly put: Say;
  private readonly stop: number;
  private readonly unit: number;
  private next: number;

  /** `first`: the first step that is reported, 0 or 1; `stop`: the one that is 100 percent. */
  constructor(put: Say, first: number, stop: number) {
    this.put = put;
    // Native's counter is unsigned.
    this.stop = stop < 0 ? stop + 2 ** 64 : stop;
    this.unit = Math.fround(100 / this.stop);
    this.next = first;
  }

  /** Prints what is due now that step `current` is done. */
  update(current: number): void {
    let text = "";
    for (; this.next <= current; this.next = this.following()) {
      if (this.next === this.stop) text += "100.00 percent completed\n";
      else if (this.next % EVERY === 0) {
        const percent = Math.fround(this.unit * Math.fround(this.next));
        text += `${fixed(percent, 2).padStart(6)} percent completed\r`;
      }
    }
    if (text !== "") this.put(text);
  }

  private following(): number {
    const line = (Math.floor(this.next / EVERY) + 1) * EVERY;
    return this.next < this.stop ? Math.min(line, this.stop) : line;
  }
}
