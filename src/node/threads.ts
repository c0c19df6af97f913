import type { Turns } from "../engine/copy/copier.ts";
import type { LayoutSpec } from "../engine/copy/spec.ts";
import { AbortError } from "../errors.ts";
import type { Allocation, CopyLabels, CopyTarget } from "./copy-io.ts";

/** Words of the control block. */
const NEXT = 0;
const TURN = 1;
const FAILED = 2;
const WALKED = 3;
const SLEEPERS = 4;
const WORDS = 8;

/** Milliseconds between two looks at the failure flag while waiting for a turn. */
const WAIT_MS = 100;
/**
 * Looks at the turn before a thread goes to sleep for it: turns are short, and waking a thread costs more than a few.
 */
const LOOKS = 2000;
/** Milliseconds that the main thread waits for a turn before it looks at its event loop meanwhile. */
const PATIENCE_MS = 20;

/** What threads of one copy share: the next chunk, whose turn it is, whether somebody failed. */
export class SharedTurns implements Turns {
  readonly buffer: SharedArrayBuffer;
  private readonly words: Int32Array;
  private readonly listens: boolean;

  /** `listens`: a thread whose event loop must go on (the main one hears there that a helper died, or a signal). */
  constructor(listens: boolean, buffer = new SharedArrayBuffer(4 * WORDS)) {
    this.listens = listens;
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
  }

  /** Before a new window; no thread may be at work. */
  restart(): void {
    this.words[NEXT] = 0;
    this.words[TURN] = 0;
  }

  take(): number {
    return Atomics.add(this.words, NEXT, 1);
  }

  await(chunk: number): void | Promise<void> {
    if (this.has(chunk, this.listens ? PATIENCE_MS : WAIT_MS)) return;
    if (this.listens) return this.listen(chunk);
    while (!this.has(chunk, WAIT_MS));
  }

  private async listen(chunk: number): Promise<void> {
    do await new Promise((resolve) => setImmediate(resolve));
    while (!this.has(chunk, PATIENCE_MS));
  }

  /** Whether it is this chunk's turn now or within some milliseconds. */
  private has(chunk: number, milliseconds: number): boolean {
    for (let i = 0; i < LOOKS; i++) if (Atomics.load(this.words, TURN) >= chunk && !this.failed) return true;
    const end = performance.now() + milliseconds;
    for (;;) {
      if (this.failed) throw new AbortError("another thread of this job failed");
      const turn = Atomics.load(this.words, TURN);
      if (turn >= chunk) return true;
      const left = end - performance.now();
      if (left <= 0) return false;
      Atomics.add(this.words, SLEEPERS, 1);
      Atomics.wait(this.words, TURN, turn, left);
      Atomics.sub(this.words, SLEEPERS, 1);
    }
  }

  done(chunk: number): void {
    Atomics.store(this.words, TURN, chunk + 1);
    if (Atomics.load(this.words, SLEEPERS) > 0) Atomics.notify(this.words, TURN);
  }

  /** Makes every thread stop at its next chunk. */
  fail(): void {
    Atomics.store(this.words, FAILED, 1);
    Atomics.store(this.words, NEXT, 0x3fffffff);
    Atomics.notify(this.words, TURN);
  }

  get failed(): boolean {
    return Atomics.load(this.words, FAILED) !== 0;
  }

  /** Progress of helper threads, in units of 64 KiB. */
  addWalked(bytes: number): void {
    Atomics.add(this.words, WALKED, Math.round(bytes / 65536));
  }

  get walked(): number {
    return Atomics.load(this.words, WALKED) * 65536;
  }
}

/** What a helper thread is told at the start of a job. */
export interface HelperJob {
  readonly turns: SharedArrayBuffer;
  readonly window: SharedArrayBuffer;
  readonly state: SharedArrayBuffer;
  readonly layout: LayoutSpec;
  readonly target: CopyTarget;
  readonly labels: CopyLabels;
  readonly allocation: Allocation;
  readonly skipZero: boolean;
  readonly ordered: boolean;
}

/** Messages to a helper: a job, or "go" for each window of it. */
export type ToHelper = { readonly job: HelperJob } | { readonly go: true };

/** Classes of errors.ts that are told apart on the way from one thread to another. */
export type ErrorKind = "ReadError" | "IoError" | "AbortError" | "Error";

/** Messages from a helper: a window is finished, or the job failed. */
export type FromHelper =
  | { readonly done: { readonly walked: number; readonly written: number } }
  | {
      readonly error: {
        readonly kind: ErrorKind;
        readonly code: string;
        readonly message: string;
        readonly offset: number;
      };
    };
