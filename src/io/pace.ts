/** Milliseconds between two looks at the event loop. */
const PAUSE_EVERY = 40;

const host = globalThis as { setImmediate?: (done: () => void) => unknown };

/** Lets timers, signals and messages run. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => {
    // A timer waits for a millisecond at least; the page has nothing else.
    if (host.setImmediate !== undefined) host.setImmediate(resolve);
    else setTimeout(resolve, 0);
  });
}

/**
 * Keeps work over synchronous sources and targets open to the outside: nothing else (a signal, a message) is heard
 * while it runs, so it calls `step` between pieces of a few milliseconds.
 */
export class Pace {
  private readonly check: () => void;
  /** Of Date.now(): the first use of performance.now() costs Node a millisecond. */
  private last = Date.now();

  /** `check` runs after each turn of the event loop and throws (AbortError) to stop the work. */
  constructor(check: () => void) {
    this.check = check;
  }

  /** Whether the event loop should get a turn. */
  get due(): boolean {
    // The absolute value, as that clock can be set.
    return Math.abs(Date.now() - this.last) >= PAUSE_EVERY;
  }

  /** Lets the event loop turn when that is due. */
  step(): void | Promise<void> {
    if (this.due) return this.turn();
  }

  /** Lets the event loop turn now. */
  async turn(): Promise<void> {
    await breathe();
    this.check();
    this.last = Date.now();
  }
}
