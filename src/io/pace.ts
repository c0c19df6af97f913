/** Milliseconds between two looks at the event loop. */
const PAUSE_EVERY = 40;

/** Lets timers, signals and messages run. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/**
 * Keeps work over synchronous sources and targets open to the outside: nothing else (a signal, a message) is heard
 * while it runs, so it calls `step` between pieces of a few milliseconds.
 */
export class Pace {
  private readonly check: () => void;
  private next = performance.now() + PAUSE_EVERY;

  /** `check` runs after each turn of the event loop and throws (AbortError) to stop the work. */
  constructor(check: () => void) {
    this.check = check;
  }

  /** Lets the event loop turn when that is due. */
  step(): void | Promise<void> {
    if (performance.now() >= this.next) return this.turn();
  }

  private async turn(): Promise<void> {
    await breathe();
    this.check();
    this.next = performance.now() + PAUSE_EVERY;
  }
}
