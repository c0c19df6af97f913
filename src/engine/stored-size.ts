import { ZERO } from "../bytes/runs.ts";
import { type StatusRun, statusOf } from "../image/qcow2/block-status.ts";
import type { Source } from "../io/source.ts";

/**
 * Bytes of a disk that a new image with units of `unit` bytes has to store: every unit that is not known to be zero in
 * all of its bytes. `emptyUntil(at, end)`, where it is given, skips what holds nothing for sure.
 */
export async function storedSize(
  disk: Source,
  unit: number,
  emptyUntil?: (at: number, end: number) => number,
): Promise<number> {
  const status = statusOf(disk);
  const run: StatusRun = { state: ZERO, length: 0, host: -1, file: null };
  let stored = 0;
  for (let at = 0; at < disk.size; ) {
    if (emptyUntil !== undefined) {
      const next = emptyUntil(at, disk.size);
      if (next > at) {
        at = next;
        continue;
      }
    }
    const wait = status(at, disk.size, false, run);
    if (wait !== null) await wait;
    let { length } = run;
    if (run.state > ZERO) {
      // The rest of the last unit is stored with it.
      length = Math.ceil((at + length) / unit) * unit - at;
      stored += (at % unit) + length;
    }
    at += length;
  }
  return stored;
}
