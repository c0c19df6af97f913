import { DATA, HOLE } from "../bytes/runs.ts";
import type { LayerRun } from "../image/qcow2/block-status.ts";
import { cutAtHole, type MapLayer } from "./layer-map.ts";

/** What qemu's block status says of a run, as far as its strict comparison looks. */
interface Status {
  data: boolean;
  zero: boolean;
  placed: boolean;
  allocated: boolean;
  /** The run ends where the disk does. */
  end: boolean;
  /** Bytes. */
  length: number;
}

/**
 * The first byte at which two disks of the same size differ in what their layers say of their allocation, as qemu-img
 * 7.2 compares it in strict mode; -1 where they agree. Layers top first. `failed` is called with 0 or 1 where a disk's
 * layers cannot be read, and must throw.
 */
export async function firstStatusDifference(
  a: readonly MapLayer[],
  b: readonly MapLayer[],
  failed: (which: 0 | 1, error: unknown) => never,
): Promise<number> {
  const size = a[0].size;
  const left = new Asker(a);
  const right = new Asker(b);
  for (let at = 0; at < size; ) {
    const x = left.ask(at, failed, 0);
    if (x !== null) await x;
    const y = right.ask(at, failed, 1);
    if (y !== null) await y;
    const s = left.status;
    const t = right.status;
    if (
      s.data !== t.data ||
      s.zero !== t.zero ||
      s.placed !== t.placed ||
      s.allocated !== t.allocated ||
      s.end !== t.end
    )
      return at;
    at += Math.min(s.length, t.length);
  }
  return -1;
}

class Asker {
  readonly status: Status = {
    data: false,
    zero: false,
    placed: false,
    allocated: false,
    end: false,
    length: 0,
  };
  private readonly layers: readonly MapLayer[];
  private readonly run: LayerRun = { state: HOLE, length: 0, host: -1, place: -1, compressed: false };

  constructor(layers: readonly MapLayer[]) {
    this.layers = layers;
  }

  ask(at: number, failed: (which: 0 | 1, error: unknown) => never, which: 0 | 1): Promise<void> | null {
    try {
      const r = this.layer(0, at, this.layers[0].size, -1);
      return r === null ? null : r.catch((error: unknown) => failed(which, error));
    } catch (error) {
      return failed(which, error);
    }
  }

  /** `eof`: where a layer above ends, if its run reached that far; -1 otherwise. */
  private layer(depth: number, at: number, end: number, eof: number): Promise<void> | null {
    const { run, status: s } = this;
    const layer = this.layers[depth];
    const wait = layer.status(at, Math.min(end, layer.size), run);
    if (wait !== null) return wait.then(() => this.layer(depth, at, end, eof) ?? undefined);
    const below = depth + 1 < this.layers.length ? this.layers[depth + 1] : null;
    const to = at + run.length;
    const atEnd = (): boolean => depth === 0 && at + s.length === layer.size;
    s.length = run.length;
    if (run.state === HOLE && below !== null && at < below.size)
      return this.layer(depth + 1, at, to, atEnd() ? to : eof);
    s.data = run.state === DATA;
    s.zero = run.state !== DATA;
    s.placed = layer.plain && run.place >= 0;
    s.allocated = run.state !== HOLE;
    const settle = (): void => {
      s.end = depth === 0 ? atEnd() : at + s.length === eof;
    };
    const hole = s.data && s.placed && layer.holes !== null ? cutAtHole(layer.holes, run.place, s) : null;
    if (hole !== null) return hole.then(settle);
    settle();
    return null;
  }
}
