import { BY_SOURCE, type Pieces, ZEROS } from "../engine/compare-pieces.ts";
import { readPiece } from "../io/node/file-io.ts";
import { Kernel, type Slot } from "../kernel/kernel.ts";

/** Words of the control block. */
const NEXT = 0;
const LIMIT = 1;
const STATE = 2;
const COUNT = 3;
const WORDS = 4;

/** States of a list, as the helper and the main thread see it. */
const OPEN = 0;
const JOINED = 1;
const LEFT = 2;
const CLOSED = 3;

const COLUMNS = 5;

/** Bytes that a thread reads and compares at a time: both sides of them stay in a core's own cache. */
const BLOCK = 256 * 1024;

/**
 * A list of pieces in shared memory, which two threads take turns on. It serves once: no thread can mistake one list for
 * the next. A thread only ever says "same" of a piece it has read whole on both sides.
 */
export class SharedPieces {
  readonly buffer: SharedArrayBuffer;
  readonly count: number;
  private readonly words: Int32Array;
  private readonly columns: Float64Array;
  private readonly same: Uint8Array;

  private constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer, 0, WORDS);
    this.count = this.words[COUNT];
    this.columns = new Float64Array(buffer, 4 * WORDS, COLUMNS * this.count);
    this.same = new Uint8Array(buffer, 4 * WORDS + 8 * COLUMNS * this.count, this.count);
  }

  /** A list to share. */
  static of(p: Pieces): SharedPieces {
    const n = p.count;
    const buffer = new SharedArrayBuffer(4 * WORDS + (8 * COLUMNS + 1) * n);
    const words = new Int32Array(buffer, 0, WORDS);
    words[COUNT] = n;
    words[LIMIT] = n;
    const shared = new SharedPieces(buffer);
    for (const [k, column] of [p.length, p.fdA, p.hostA, p.fdB, p.hostB].entries())
      shared.columns.set(column.subarray(0, n), k * n);
    return shared;
  }

  /** The same list in another thread. */
  static in(buffer: SharedArrayBuffer): SharedPieces {
    return new SharedPieces(buffer);
  }

  /** The helper begins; false when the main thread is through already. */
  join(): boolean {
    return Atomics.compareExchange(this.words, STATE, OPEN, JOINED) === OPEN;
  }

  /** The helper is through. */
  leave(): void {
    Atomics.store(this.words, STATE, LEFT);
    Atomics.notify(this.words, STATE);
  }

  /** The main thread is through: a helper that has not begun will not. True when none is at work any more. */
  close(): boolean {
    const state = Atomics.compareExchange(this.words, STATE, OPEN, CLOSED);
    return state !== JOINED;
  }

  /** Waits for the helper to leave, at most some milliseconds. */
  waitLeft(milliseconds: number): void {
    Atomics.wait(this.words, STATE, JOINED, milliseconds);
  }

  /** No piece from `i` on will be taken. */
  stopAt(i: number): void {
    for (;;) {
      const limit = Atomics.load(this.words, LIMIT);
      if (limit <= i || Atomics.compareExchange(this.words, LIMIT, limit, i) === limit) return;
    }
  }

  /** Number of pieces from `from` on that are known to be the same, `from` included. */
  sameUntil(from: number): number {
    while (from < this.count && Atomics.load(this.same, from) === 1) from++;
    return from;
  }

  /** Copies what was found. */
  marks(into: Uint8Array): void {
    for (let i = 0; i < this.count; i++) into[i] = Atomics.load(this.same, i);
  }

  /** Compares pieces until none is left or `pause` says stop; true while pieces are left. */
  work(slots: Slots, pause: () => boolean): boolean {
    const { words, columns, count } = this;
    for (;;) {
      const i = Atomics.add(words, NEXT, 1);
      if (i >= Atomics.load(words, LIMIT)) return false;
      const length = columns[i];
      const fdA = columns[count + i];
      const fdB = columns[3 * count + i];
      if (fdA !== BY_SOURCE && fdB !== BY_SOURCE) {
        if (slots.same(length, fdA, columns[2 * count + i], fdB, columns[4 * count + i]))
          Atomics.store(this.same, i, 1);
        else this.stopAt(i);
      }
      if (pause()) return true;
    }
  }
}

/** One thread's memory for the two sides of a piece. */
export class Slots {
  private readonly kernel = Kernel.get();
  private readonly a: Slot;
  private readonly b: Slot;

  constructor() {
    this.a = this.kernel.take(BLOCK);
    this.b = this.kernel.take(BLOCK);
  }

  dispose(): void {
    this.kernel.give(this.a);
    this.kernel.give(this.b);
  }

  /** True where both sides could be read and hold the same bytes. */
  same(length: number, fdA: number, hostA: number, fdB: number, hostB: number): boolean {
    for (let at = 0; at < length; at += BLOCK)
      if (!this.sameBlock(Math.min(BLOCK, length - at), fdA, hostA + at, fdB, hostB + at)) return false;
    return true;
  }

  private sameBlock(length: number, fdA: number, hostA: number, fdB: number, hostB: number): boolean {
    const { kernel, a, b } = this;
    if (!read(a, length, fdA, hostA) || !read(b, length, fdB, hostB)) return false;
    if (fdA === ZEROS) return fdB === ZEROS || kernel.isZero(b.at, length);
    if (fdB === ZEROS) return kernel.isZero(a.at, length);
    return kernel.firstDifference(a.at, b.at, length) < 0;
  }
}

/** False where the host cannot give all bytes: why is for the sources to say. */
function read(slot: Slot, length: number, fd: number, host: number): boolean {
  if (fd === ZEROS) return true;
  try {
    return readPiece(fd, slot.bytes, 0, length, host, "") === length;
  } catch {
    return false;
  }
}
