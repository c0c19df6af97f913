import { DATA, HOLE, type HostFile, MapRuns, type RunState, ZERO } from "../../bytes/runs.ts";
import { FormatError } from "../../errors.ts";
import type { Source } from "../../io/source.ts";
import type { Qcow2Header } from "./header.ts";
import { COMPRESSED_HIGH, OFFSET_HIGH, OFFSET_LOW, SUBCLUSTERS, ZERO_LOW } from "./layout.ts";
import { longRun } from "./run-length.ts";
import type { SliceAt, Tables } from "./tables.ts";

/**
 * What one question about a disk's allocation answers: a run from the asked-for byte on. It may end before the state
 * changes. `state`: HOLE where the layers that were asked do not hold the bytes and another one below might.
 */
export interface StatusRun {
  state: RunState;
  /** Bytes. */
  length: number;
  /** Offset of the run's bytes in `file`, or -1 where they are not plain bytes of a host file. */
  host: number;
  file: HostFile | null;
}

/**
 * Sources that answer about their allocation run by run as qemu does: its copies are cut where these runs end, and so
 * are the bytes of the images it writes.
 */
export interface StatusSource extends Source {
  /** Bytes that a run is rounded down to where it can be: the cluster. Absent: the sector. */
  readonly statusAlignment?: number;
  /**
   * The run at `at` (up to `end`, both in bytes) into `run`. `own`: of this layer alone. Null when it is there, a
   * promise when it will be. Throws FormatError for damaged tables.
   */
  status(at: number, end: number, own: boolean, run: StatusRun): Promise<void> | null;
}

/** A source's block status: its own, or its map's. */
export function statusOf(source: Source): StatusSource["status"] {
  if ("status" in source) return (source as StatusSource).status.bind(source);
  const mapped = new MappedStatus(source);
  return (at, end, _own, run) => mapped.status(at, end, run);
}

/** Block status from a source's map: what it does not store is zero. */
class MappedStatus {
  private readonly source: Source;
  private batch = new MapRuns(-1);
  private at = 0;

  constructor(source: Source) {
    this.source = source;
  }

  status(at: number, end: number, run: StatusRun): Promise<void> | null {
    const b = this.batch;
    if (at >= b.end || b.count === 0 || at < b.at[0]) {
      const r = this.source.map(at, this.source.size);
      const take = (batch: MapRuns) => {
        if (batch.count === 0)
          throw new FormatError("map", at, `${this.source.label} says nothing of this byte`);
        this.batch = batch;
        this.at = 0;
        this.answer(at, end, run);
      };
      if (r instanceof Promise) return r.then(take);
      take(r);
      return null;
    }
    this.answer(at, end, run);
    return null;
  }

  private answer(at: number, end: number, run: StatusRun): void {
    const b = this.batch;
    if (b.at[this.at] > at) this.at = 0;
    while (b.at[this.at] + b.length[this.at] <= at) this.at++;
    const i = this.at;
    const into = at - b.at[i];
    run.state = b.state[i] === DATA ? DATA : ZERO;
    run.length = Math.min(b.length[i] - into, end - at);
    run.host = b.host[i] < 0 ? -1 : b.host[i] + into;
    run.file = b.file[i] < 0 ? null : b.files[b.file[i]];
  }
}

/** A layer's own run: STORED and COMPRESSED are told apart because compressed bytes lie nowhere as they are. */
export interface LayerRun {
  state: RunState;
  length: number;
  /** Offset in the data file, -1 where there is none. */
  host: number;
  /** As `host`, also where the (sub)clusters have a place that nothing is read from (zeros, nothing yet). */
  place: number;
  compressed: boolean;
}

/** Most bytes that are asked about at once. */
const MOST = 0x7fffffff;

/**
 * The run at `at` of one QCOW2 layer as qemu 7.2 finds it: it ends with the L2 slice, where the kind of (sub)cluster or
 * the order in the file changes, and after one compressed cluster. Promise: call again.
 */
export function layerRun(
  tables: Tables,
  header: Qcow2Header,
  slice: SliceAt,
  at: number,
  end: number,
  run: LayerRun,
): Promise<void> | null {
  const wait = tables.entriesAt(at, slice);
  if (wait !== null) return wait;
  const cs = header.clusterSize;
  const into = at % cs;
  const { index, entries, words } = slice;
  const needed = Math.min(Math.min(end - at, MOST) + into, (entries - index) * cs);
  run.host = -1;
  run.place = -1;
  run.compressed = false;
  if (words === null) {
    run.state = HOLE;
    run.length = needed - into;
    return null;
  }
  const last = Math.min(entries, index + Math.ceil(needed / cs));
  const bytes = header.extendedL2
    ? subclusters(header, words, index, last, into, run, slice.at)
    : clusters(header, words, index, last, run, slice.at);
  run.length = Math.min(bytes, needed) - into;
  if (run.host >= 0) run.host += into;
  if (run.place >= 0) run.place += into;
  return null;
}

const UNALLOCATED = 0;
const PLAIN_ZERO = 1;
const STORED_ZERO = 2;
const NORMAL = 3;
const COMPRESSED = 4;
const RESERVED_PLACE = 5;

function stateOf(kind: number): RunState {
  if (kind === PLAIN_ZERO || kind === STORED_ZERO) return ZERO;
  return kind === UNALLOCATED || kind === RESERVED_PLACE ? HOLE : DATA;
}

function kindOf(header: Qcow2Header, high: number, low: number): number {
  if (high & COMPRESSED_HIGH) return COMPRESSED;
  const empty = (high & OFFSET_HIGH) === 0 && (low & OFFSET_LOW) === 0;
  if (low & ZERO_LOW) return empty ? PLAIN_ZERO : STORED_ZERO;
  // Offset 0 is a place where the data lies in a file of its own.
  return empty && !(header.external && high >>> 31 === 1) ? UNALLOCATED : NORMAL;
}

const offsetOf = (high: number, low: number): number =>
  (high & OFFSET_HIGH) * 0x100000000 + ((low & OFFSET_LOW) >>> 0);

/** Bytes from the start of the first cluster. */
function clusters(
  header: Qcow2Header,
  words: Uint32Array,
  first: number,
  last: number,
  run: LayerRun,
  sliceAt: number,
): number {
  const cs = header.clusterSize;
  const kind = kindOf(header, words[2 * first], words[2 * first + 1]);
  if (header.version < 3 && (kind === PLAIN_ZERO || kind === STORED_ZERO))
    throw new FormatError("qcow2 L2 entry", sliceAt + 8 * first, "zero cluster in a version 2 image");
  run.state = stateOf(kind);
  run.compressed = kind === COMPRESSED;
  if (kind === COMPRESSED) return cs;
  const placed = kind === NORMAL || kind === STORED_ZERO;
  const offset = offsetOf(words[2 * first], words[2 * first + 1]);
  if (kind === NORMAL) run.host = offset;
  if (placed) run.place = offset;
  let n = first + (placed ? longRun(words, first, last, cs) : 1);
  // What an entry is that goes on with the run and has the same flags.
  let nextHigh = words[2 * n - 2];
  let nextLow = words[2 * n - 1];
  for (; n < last; n++) {
    if (placed) {
      nextLow = (nextLow + cs) >>> 0;
      if (nextLow < cs) nextHigh++;
    }
    const high = words[2 * n];
    const low = words[2 * n + 1];
    if (high === nextHigh && low === nextLow) continue;
    if (kindOf(header, high, low) !== kind) break;
    if (placed && offsetOf(high, low) !== offset + (n - first) * cs) break;
  }
  return (n - first) * cs;
}

/** The same for extended entries, where a run may end within a cluster. */
function subclusters(
  header: Qcow2Header,
  words: Uint32Array,
  first: number,
  last: number,
  into: number,
  run: LayerRun,
  sliceAt: number,
): number {
  const cs = header.clusterSize;
  const sub = cs / SUBCLUSTERS;
  const start = Math.floor(into / sub);
  const kindAt = (n: number, s: number): number => {
    const high = words[4 * n];
    if (high & COMPRESSED_HIGH) return COMPRESSED;
    const bit = (1 << s) >>> 0;
    const zero = (words[4 * n + 2] & bit) !== 0;
    const used = (words[4 * n + 3] & bit) !== 0;
    const empty = offsetOf(high, words[4 * n + 1]) === 0 && !(header.external && high >>> 31 === 1);
    if ((zero && used) || (used && empty))
      throw new FormatError("qcow2 L2 entry", sliceAt + 16 * n, "subclusters that contradict each other");
    if (used) return NORMAL;
    if (zero) return empty ? PLAIN_ZERO : STORED_ZERO;
    return empty ? UNALLOCATED : RESERVED_PLACE;
  };
  const kind = kindAt(first, start);
  run.state = stateOf(kind);
  run.compressed = kind === COMPRESSED;
  if (kind === COMPRESSED) return cs;
  const placed = kind === NORMAL || kind === STORED_ZERO || kind === RESERVED_PLACE;
  const offset = offsetOf(words[4 * first], words[4 * first + 1]);
  if (kind === NORMAL) run.host = offset;
  if (placed) run.place = offset;
  for (let n = first; n < last; n++) {
    const s0 = n === first ? start : 0;
    if (n > first && kindAt(n, 0) !== kind) return (n - first) * cs;
    if (n > first && placed && offsetOf(words[4 * n], words[4 * n + 1]) !== offset + (n - first) * cs)
      return (n - first) * cs;
    let s = s0 + 1;
    while (s < SUBCLUSTERS && kindAt(n, s) === kind) s++;
    if (s < SUBCLUSTERS) return (n - first) * cs + s * sub;
  }
  return (last - first) * cs;
}
