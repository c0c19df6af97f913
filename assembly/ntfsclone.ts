// The command stream of ntfsclone images: one byte a cluster, and gaps as signed 64-bit counts.
import { OUT, OUT_BYTES } from "./arena";

const GAP: u8 = 0;
const GAP_BYTES: usize = 9;
const NEXT: u8 = 1;

// Words (f64) of the state that `readCommands` goes on from. All but the first three are results.
/** Number of the next cluster. */
const POSITION: usize = 0;
/** The last cluster that may be. */
const LAST: usize = 8;
/** Bytes of the device. */
const DEVICE: usize = 16;
/** Bytes done; with clusters skipped, these may reach past the buffer. */
const DONE: usize = 24;
/** Bytes of clusters packed. */
const PACKED: usize = 32;
/** Why it stopped: one of those below. */
const WHY: usize = 40;
/** Negative gaps met so far. */
const BACK: usize = 48;

/** The next command is not whole in the buffer. */
const MORE: f64 = 0;
/** The out area is full. */
const FULL: f64 = 1;
/** The last cluster is done. */
const END: f64 = 2;
const BAD_COMMAND: f64 = 3;
const ZERO_GAP: f64 = 4;
const BAD_GAP: f64 = 5;
const BEHIND_DEVICE: f64 = 6;

/**
 * Reads commands in `length` bytes at `at`. With `pack`, clusters have to be whole in the buffer and are moved together
 * to its start; else they are skipped. Runs of clusters go to the out area as triples of f64: first cluster, byte of
 * the buffer (of its packed data, or of its command), number of clusters. Returns the number of runs.
 */
export function readCommands(at: usize, length: usize, clusterSize: u32, pack: bool, state: usize): u32 {
  const most: u32 = (OUT_BYTES / 24) as u32;
  const last = load<f64>(state, LAST) as i64;
  const device = load<f64>(state, DEVICE) as i64;
  const size = clusterSize as i64;
  let position = load<f64>(state, POSITION) as i64;
  let back = load<f64>(state, BACK);
  let runs: u32 = 0;
  let open = false;
  let first: i64 = 0;
  let from: usize = 0;
  let why = MORE;
  let p = at;
  let to = at;
  const end = at + length;
  for (;;) {
    if (position > last) {
      why = END;
      break;
    }
    if (p >= end) break;
    const command = load<u8>(p);
    if (command == NEXT) {
      const room = device - position * size;
      if (room < 0) {
        why = BEHIND_DEVICE;
        break;
      }
      const bytes: usize = room < size ? (room as usize) : (clusterSize as usize);
      if (pack && p + 1 + bytes > end) break;
      if (!open) {
        if (runs == most) {
          why = FULL;
          break;
        }
        open = true;
        first = position;
        from = pack ? to - at : p - at;
      }
      if (pack) {
        memory.copy(to, p + 1, bytes);
        to += bytes;
      }
      p += 1 + bytes;
      position++;
    } else if (command == GAP) {
      if (p + GAP_BYTES > end) break;
      const gap = load<i64>(p, 1);
      if (gap == 0) {
        why = ZERO_GAP;
        break;
      }
      const next = position + gap;
      if (next < 0 || next > last) {
        why = BAD_GAP;
        break;
      }
      if (open) close(runs++, first, from, position);
      open = false;
      position = next;
      if (gap < 0) back++;
      p += GAP_BYTES;
    } else {
      why = BAD_COMMAND;
      break;
    }
  }
  if (open) close(runs++, first, from, position);
  store<f64>(state, position as f64, POSITION);
  store<f64>(state, (p - at) as f64, DONE);
  store<f64>(state, (to - at) as f64, PACKED);
  store<f64>(state, why, WHY);
  store<f64>(state, back, BACK);
  return runs;
}

function close(run: u32, first: i64, from: usize, position: i64): void {
  const out = OUT + (run as usize) * 24;
  store<f64>(out, first as f64);
  store<f64>(out, from as f64, 8);
  store<f64>(out, (position - first) as f64, 16);
}

/**
 * Writes the commands of `runs` runs to `to`: pairs of f64 at `table`, the gap before the run (0: none) and its
 * clusters. Their data lies together at `from`, which is at least as many bytes behind `to` as the commands take; the
 * very last cluster has `lastBytes`. Returns the bytes written.
 */
export function writeCommands(
  to: usize,
  from: usize,
  table: usize,
  runs: u32,
  clusterSize: u32,
  lastBytes: u32,
): u32 {
  const start = to;
  const end = table + ((runs as usize) << 4);
  for (; table < end; table += 16) {
    const gap = load<f64>(table) as i64;
    if (gap != 0) {
      store<u8>(to, GAP);
      store<i64>(to, gap, 1);
      to += GAP_BYTES;
    }
    for (let left = load<f64>(table, 8) as u32; left > 0; left--) {
      const bytes = (left == 1 && table + 16 == end ? lastBytes : clusterSize) as usize;
      store<u8>(to, NEXT);
      memory.copy(to + 1, from, bytes);
      to += 1 + bytes;
      from += bytes;
    }
  }
  return (to - start) as u32;
}

/**
 * Copies `count` pieces of `size` bytes, one behind the other at `from` with a command byte after
 * each, together to `to`.
 */
export function dropCommands(to: usize, from: usize, size: u32, count: u32): void {
  for (; count > 0; count--) {
    memory.copy(to, from, size);
    to += size as usize;
    from += (size as usize) + 1;
  }
}
