let cell: Int32Array | null = null;

/**
 * Blocks the thread for a moment before a non-blocking descriptor is tried again: 0.05 ms at first, doubling to 5 ms
 * with `tries` (0 for the first).
 */
export function pause(tries: number): void {
  cell ??= new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(cell, 0, 0, Math.min(0.05 * 2 ** tries, 5));
}
