import { ExtentList } from "../bytes/extents.ts";
import { DATA } from "../bytes/runs.ts";
import type { Role, Volume } from "../fs/volume.ts";
import type { Source } from "../io/source.ts";
import type { AllocationCell } from "./api.ts";

/** What is painted: a role of the filesystem, or free (for a source without a filesystem: holes and zeros). */
export type PictureRole = Role | "free";

/** How much of each role is in each of a row of equal cells that together cover a volume or disk. */
export interface AllocationPicture {
  /** "filesystem": counted in its blocks. "map": counted in bytes that the container stores. */
  readonly basis: "filesystem" | "map";
  /** Bytes a unit: the filesystem's block size, or 1. */
  readonly unit: number;
  /** Units in all. */
  readonly units: number;
  readonly cells: number;
  /** Roles in painting order; "free" is the last. */
  readonly roles: readonly PictureRole[];
  /** Units of each role in all, in the order of `roles`. */
  readonly totals: Float64Array;
  /** Units of role r in cell c at [c * roles.length + r]. */
  readonly counts: Float64Array;
  /** What was odd about the filesystem but survivable. */
  readonly warnings: readonly string[];
}

const ROLES: readonly PictureRole[] = [
  "superblock",
  "descriptors",
  "bitmap",
  "inode table",
  "journal",
  "directory",
  "index",
  "xattr",
  "system",
  "data",
  "free",
];

/** First unit of cell `cell` of `cells` over `units`. Exact for any `units` up to 2^53. */
export function cellStart(units: number, cells: number, cell: number): number {
  const whole = Math.floor(units / cells);
  const rest = units - whole * cells;
  return whole * cell + Math.min(cell, rest);
}

/** The role that has most units in a cell ("free" only where nothing else is in it), and its share. */
export function dominantRole(picture: AllocationPicture, cell: number): AllocationCell {
  const n = picture.roles.length;
  const size =
    cellStart(picture.units, picture.cells, cell + 1) - cellStart(picture.units, picture.cells, cell);
  let best = n - 1;
  for (let r = 0; r < n - 1; r++) {
    const count = picture.counts[cell * n + r];
    if (count > 0 && (best === n - 1 || count > picture.counts[cell * n + best])) best = r;
  }
  return { role: picture.roles[best], share: size > 0 ? picture.counts[cell * n + best] / size : 0 };
}

/**
 * Counts what a volume (or, where there is none, the container's map of `source`) holds in each of at most `cells`
 * equal cells.
 */
export async function allocationPicture(
  opened: { readonly source: Source; readonly volume: Volume | null },
  cells: number,
  options: { readonly signal?: AbortSignal } = {},
): Promise<AllocationPicture> {
  const { volume, source } = opened;
  return volume !== null
    ? volumePicture(volume, cells, options.signal)
    : mapPicture(source, cells, options.signal);
}

async function volumePicture(volume: Volume, wanted: number, signal?: AbortSignal) {
  const units = Math.floor(volume.size / volume.blockSize);
  const cells = Math.max(1, Math.min(Math.floor(wanted), units));
  const n = ROLES.length;
  const counts = new Float64Array(cells * n);
  const used = new Float64Array(cells);
  const selection = await volume.select({ scope: "used", roles: true, complete: true, signal });
  const runs = new ExtentList();
  const spread = (set: typeof selection.blocks, add: (cell: number, count: number) => void) => {
    const painter = new CellPainter(units, cells, add);
    for (let from = 0; from < units; ) {
      runs.clear();
      from = set.runs(from, units, runs, 65536);
      for (let i = 0; i < runs.count; i++) painter.run(runs.start(i), Math.min(runs.end(i), units));
    }
  };
  spread(selection.blocks, (cell, count) => {
    used[cell] += count;
  });
  for (const [role, set] of selection.roles ?? []) {
    const r = ROLES.indexOf(role);
    if (r < 0) continue;
    spread(set, (cell, count) => {
      counts[cell * n + r] += count;
    });
  }
  const data = ROLES.indexOf("data");
  for (let cell = 0; cell < cells; cell++) {
    let known = 0;
    for (let r = 0; r < n - 1; r++) known += counts[cell * n + r];
    if (used[cell] > known) counts[cell * n + data] += used[cell] - known;
    counts[cell * n + n - 1] =
      cellStart(units, cells, cell + 1) - cellStart(units, cells, cell) - Math.max(used[cell], known);
  }
  return finished("filesystem", volume.blockSize, units, cells, ROLES, counts, selection.warnings);
}

async function mapPicture(source: Source, wanted: number, signal?: AbortSignal) {
  const units = source.size;
  const cells = Math.max(1, Math.min(Math.floor(wanted), Math.max(units, 1)));
  const counts = new Float64Array(cells * 2);
  const painter = new CellPainter(units, cells, (cell, count) => {
    counts[cell * 2] += count;
  });
  for (let from = 0; from < units; ) {
    signal?.throwIfAborted();
    const r = source.map(from, units);
    const batch = r instanceof Promise ? await r : r;
    for (let i = 0; i < batch.count; i++)
      if (batch.state[i] === DATA) painter.run(batch.at[i], Math.min(batch.at[i] + batch.length[i], units));
    if (batch.end <= from) break;
    from = batch.end;
  }
  for (let cell = 0; cell < cells; cell++)
    counts[cell * 2 + 1] =
      cellStart(units, cells, cell + 1) - cellStart(units, cells, cell) - counts[cell * 2];
  return finished("map", 1, units, cells, ["data", "free"], counts);
}

function finished(
  basis: AllocationPicture["basis"],
  unit: number,
  units: number,
  cells: number,
  roles: readonly PictureRole[],
  counts: Float64Array,
  warnings: readonly string[] = [],
): AllocationPicture {
  const totals = new Float64Array(roles.length);
  for (let i = 0; i < counts.length; i++) totals[i % roles.length] += counts[i];
  return { basis, unit, units, cells, roles, totals, counts, warnings };
}

/** Splits ascending runs at cell borders. */
class CellPainter {
  private readonly units: number;
  private readonly cells: number;
  private readonly add: (cell: number, count: number) => void;
  private cell = 0;
  private end: number;

  constructor(units: number, cells: number, add: (cell: number, count: number) => void) {
    this.units = units;
    this.cells = cells;
    this.add = add;
    this.end = cellStart(units, cells, 1);
  }

  run(from: number, to: number): void {
    while (from < to) {
      while (this.end <= from && this.cell < this.cells - 1)
        this.end = cellStart(this.units, this.cells, ++this.cell + 1);
      const stop = Math.min(to, this.end);
      if (stop <= from) return;
      this.add(this.cell, stop - from);
      from = stop;
    }
  }
}
