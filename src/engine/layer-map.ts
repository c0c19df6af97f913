import { DATA, HOLE, MapRuns, ZERO } from "../bytes/runs.ts";
import type { LayerRun } from "../image/qcow2/block-status.ts";
import type { Source } from "../io/source.ts";

/** A layer of a backing chain as a map of its allocation sees it. */
export interface MapLayer {
  /** Bytes of its disk. */
  readonly size: number;
  /** File that holds its plain bytes. */
  readonly file: string;
  /** The run of this layer alone at byte `at` up to `end`; promise: call again. */
  status(at: number, end: number, run: LayerRun): Promise<void> | null;
  /** See `Qcow2Image.emptyUntil`. */
  emptyUntil?(at: number, end: number): number;
  /** False where bytes of its file are not the disk's bytes: encrypted. */
  readonly plain: boolean;
  /** The host file, where holes in it tell that stored bytes are zeros; null where they are not asked for. */
  readonly holes: Source | null;
  /** True where what it does not hold lies in a backing file that is not among the layers. */
  readonly unopened?: boolean;
}

/** A run of guest bytes and what the layers say of it. Sizes and offsets in bytes. */
export interface MapEntry {
  start: number;
  length: number;
  /** Layers down to the one that decided. */
  depth: number;
  /** Some layer says something of these bytes. */
  present: boolean;
  zero: boolean;
  data: boolean;
  /** Where in `file` the bytes are as they are, or would be; -1 where nowhere. */
  offset: number;
  file: string;
  compressed: boolean;
}

/**
 * Walks the allocation of a chain of layers, top first, from byte `from` to byte `to` as qemu-img 7.2 does, and calls
 * `visit` with each run; neighbours that say the same are one. The entry is reused: copy what is to be kept. Where a
 * layer is damaged its error is thrown after the runs before the last one.
 */
export async function walkLayers(
  layers: readonly MapLayer[],
  from: number,
  to: number,
  visit: (entry: MapEntry) => void,
): Promise<void> {
  const walk = new Walk(layers);
  let current = emptyEntry(from);
  let next = emptyEntry(from);
  for (let at = from; at < to; ) {
    const wait = walk.at(at, to, next);
    if (wait !== null) await wait;
    at = next.start + next.length;
    if (current.length > 0 && mergeable(current, next)) {
      current.length += next.length;
      continue;
    }
    if (current.length > 0) visit(current);
    [current, next] = [next, current];
  }
  visit(current);
}

/** The entry of no bytes at all, which a map of nothing has. */
function emptyEntry(start: number): MapEntry {
  return {
    start,
    length: 0,
    depth: 0,
    present: false,
    zero: false,
    data: false,
    offset: -1,
    file: "",
    compressed: false,
  };
}

function mergeable(a: MapEntry, b: MapEntry): boolean {
  if (a.zero !== b.zero || a.data !== b.data || a.present !== b.present || a.depth !== b.depth) return false;
  if (a.file !== b.file || a.offset >= 0 !== b.offset >= 0) return false;
  return a.offset < 0 || a.offset + a.length === b.offset;
}

class Walk {
  private readonly layers: readonly MapLayer[];
  private readonly run: LayerRun = { state: HOLE, length: 0, host: -1, place: -1, compressed: false };

  constructor(layers: readonly MapLayer[]) {
    this.layers = layers;
  }

  /** The run at byte `at` into `entry`. */
  at(at: number, end: number, entry: MapEntry): Promise<void> | null {
    return this.ask(0, at, end, entry);
  }

  private ask(depth: number, at: number, end: number, entry: MapEntry): Promise<void> | null {
    for (;;) {
      const layer = this.layers[depth];
      const { run } = this;
      const wait = layer.status(at, Math.min(end, layer.size), run);
      if (wait !== null) return wait.then(() => this.ask(depth, at, end, entry) ?? undefined);
      const below = depth + 1 < this.layers.length ? this.layers[depth + 1] : null;
      if (run.state === HOLE && layer.emptyUntil !== undefined)
        run.length = Math.max(run.length, layer.emptyUntil(at, Math.min(end, layer.size)) - at);
      end = Math.min(end, at + run.length);
      if (run.state === HOLE && below !== null && at < below.size) {
        depth++;
        continue;
      }
      entry.start = at;
      entry.length = end - at;
      entry.depth = depth;
      entry.present = run.state !== HOLE;
      entry.data = run.state === DATA;
      entry.zero = run.state === ZERO || (run.state === HOLE && layer.unopened !== true);
      entry.compressed = run.compressed;
      entry.offset = layer.plain ? run.place : -1;
      entry.file = layer.file;
      if (entry.data && entry.offset >= 0 && layer.holes !== null)
        return cutAtHole(layer.holes, entry.offset, entry);
      return null;
    }
  }
}

/** Bytes of a disk that lie at `offset` of a host file; what `cutAtHole` changes. */
export interface PlacedRun {
  length: number;
  zero: boolean;
}

/** Cuts a run at byte `offset` of a host file where that turns from data to hole or back; a hole's bytes are zeros. */
export function cutAtHole(file: Source, offset: number, run: PlacedRun): Promise<void> | null {
  const cut = (runs: MapRuns): void => {
    if (runs.count === 0) return;
    run.length = Math.min(run.length, runs.length[0]);
    run.zero = runs.state[0] !== DATA;
  };
  if (offset >= file.size) {
    // Nothing is there: qemu takes all of it for zeros.
    run.zero = true;
    return null;
  }
  const r = file.map(offset, Math.min(offset + run.length, file.size));
  if (r instanceof Promise) return r.then(cut);
  cut(r);
  return null;
}

/** A raw disk as a layer: what its file has holes for is zero, though it has a place. */
export function rawLayer(disk: Source, file: string): MapLayer {
  let batch = new MapRuns(-1);
  let i = 0;
  const answer = (at: number, end: number, run: LayerRun): void => {
    if (batch.at[i] > at) i = 0;
    while (batch.at[i] + batch.length[i] <= at) i++;
    const into = at - batch.at[i];
    run.state = batch.state[i] === DATA ? DATA : ZERO;
    run.length = Math.min(batch.length[i] - into, end - at);
    run.place = batch.host[i] < 0 ? -1 : batch.host[i] + into;
    run.host = run.place;
    run.compressed = false;
  };
  return {
    size: disk.size,
    file,
    plain: true,
    holes: null,
    status(at, end, run) {
      if (batch.count > 0 && at >= batch.at[0] && at < batch.end) {
        answer(at, end, run);
        return null;
      }
      const r = disk.map(at, disk.size);
      const take = (b: MapRuns): void => {
        batch = b;
        i = 0;
        answer(at, end, run);
      };
      if (r instanceof Promise) return r.then((b) => void (batch = b));
      take(r);
      return null;
    },
  };
}
