/** A piece of the kernel's fixed arena: `bytes` is the view that I/O lands in, `at` its wasm address. */
export interface Slot {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** Slots start and end on multiples of this many bytes. */
const GRAIN = 64;

interface Piece {
  at: number;
  length: number;
}

/** Hands out pieces of a fixed area of memory: first fit, free pieces sorted by address, neighbours joined. */
export class Arena {
  private readonly memory: ArrayBuffer;
  private readonly free: Piece[];

  /** Manages `length` bytes of `memory` from byte `at`, both multiples of 64. */
  constructor(memory: ArrayBuffer, at: number, length: number) {
    this.memory = memory;
    this.free = [{ at, length }];
  }

  /** Bytes that are free, in however many pieces. */
  get available(): number {
    return this.free.reduce((sum, f) => sum + f.length, 0);
  }

  /**
   * Takes `length` bytes (rounded up to 64) at a multiple of `alignment`, itself one of 64. Contents are arbitrary.
   * Throws RangeError when no piece is that long.
   */
  take(length: number, alignment = GRAIN): Slot {
    const need = rounded(length);
    const i = this.free.findIndex((f) => f.length >= need + gap(f.at, alignment));
    if (i < 0) throw new RangeError(`kernel arena: no ${length} bytes left`);
    const piece = this.free[i];
    const before = gap(piece.at, alignment);
    const at = piece.at + before;
    const rest = { at: at + need, length: piece.length - before - need };
    piece.length = before;
    this.free.splice(before > 0 ? i + 1 : i, before > 0 ? 0 : 1, ...(rest.length > 0 ? [rest] : []));
    return { at, bytes: new Uint8Array(this.memory, at, length) };
  }

  /** Gives a slot back. Throws RangeError where that memory is free already. */
  give(slot: Slot): void {
    const at = slot.at;
    const length = rounded(slot.bytes.length);
    let i = 0;
    while (i < this.free.length && this.free[i].at < at) i++;
    const before = i > 0 ? this.free[i - 1] : null;
    const after = i < this.free.length ? this.free[i] : null;
    if ((before !== null && before.at + before.length > at) || (after !== null && at + length > after.at))
      throw new RangeError(`kernel arena: the slot at ${at} was given back before`);
    const joinsBefore = before !== null && before.at + before.length === at;
    const joinsAfter = after !== null && at + length === after.at;
    if (joinsBefore) {
      before.length += length;
      if (joinsAfter) {
        before.length += after.length;
        this.free.splice(i, 1);
      }
    } else if (joinsAfter) {
      after.at = at;
      after.length += length;
    } else {
      this.free.splice(i, 0, { at, length });
    }
  }
}

/** Bytes from `at` to the next multiple of `alignment`. */
function gap(at: number, alignment: number): number {
  return (alignment - (at % alignment)) % alignment;
}

/** What a slot of `length` bytes takes; at least one grain, so that every slot has an address of its own. */
function rounded(length: number): number {
  if (!(length >= 0 && length <= 0x7fffffff)) throw new RangeError(`kernel arena: a slot of ${length} bytes`);
  return Math.max(Math.ceil(length / GRAIN), 1) * GRAIN;
}
