import type { Source } from "../../io/source.ts";
import { ExtError } from "./errors.ts";
import type { Superblock } from "./superblock.ts";
import { MapReader } from "./walk.ts";

/** Runs one file's map may have before it is refused: 24 bytes each. */
const MOST_RUNS = 1 << 22;

/** Where a file's blocks are: runs by logical block, as the map lists them. Units: blocks. */
export class FileMap {
  count = 0;
  logical = new Float64Array(16);
  physical = new Float64Array(16);
  length = new Float64Array(16);
  /** 1 where the run was allocated but never written: it reads as zeros. */
  unwritten = new Uint8Array(16);

  add(logical: number, physical: number, length: number, unwritten: boolean): void {
    const i = this.count;
    if (i === this.logical.length) this.grow();
    this.logical[i] = logical;
    this.physical[i] = physical;
    this.length[i] = length;
    this.unwritten[i] = unwritten ? 1 : 0;
    this.count++;
  }

  /**
   * Index of the run that holds logical block `block`, or of the first run behind it (`count` at the end).
   */
  find(block: number): number {
    let lo = 0;
    let hi = this.count;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (this.logical[mid] + this.length[mid] <= block) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  }

  private grow(): void {
    const wider = (a: Float64Array<ArrayBuffer>) => {
      const b = new Float64Array(a.length * 2);
      b.set(a);
      return b;
    };
    this.logical = wider(this.logical);
    this.physical = wider(this.physical);
    this.length = wider(this.length);
    const u = new Uint8Array(this.unwritten.length * 2);
    u.set(this.unwritten);
    this.unwritten = u;
  }
}

/**
 * Reads the block map of the inode in `inode` (its own bytes). Throws ExtError where it is corrupt or
 * leaves the volume.
 */
export async function readFileMap(
  source: Source,
  sb: Superblock,
  inode: Uint8Array,
  ino: number,
): Promise<FileMap> {
  const map = new FileMap();
  const bad = (detail: string) =>
    new ExtError("EXT_EXTENT_HEADER_BAD", `ext map of inode ${ino}`, -1, detail);
  const reader = new MapReader(source, sb, {
    index: () => {},
    data: (start, length, logical, unwritten) => {
      if (start < sb.firstDataBlock || start + length > sb.blocks)
        throw bad(`blocks ${start}..${start + length - 1} of ${sb.blocks}`);
      const last = map.count - 1;
      if (last >= 0 && logical < map.logical[last] + map.length[last]) throw bad("runs overlap");
      if (map.count >= MOST_RUNS) throw bad(`more than ${MOST_RUNS} runs`);
      map.add(logical, start, length, unwritten);
    },
  });
  const r = reader.walk(inode, 0, ino);
  if (r instanceof Promise) await r;
  return map;
}

/**
 * Fills `into` from byte `at` of a file mapped by `map`; holes and unwritten runs are zeros. The caller has
 * clipped the range to the file's size.
 */
export async function readMapped(
  source: Source,
  sb: Superblock,
  map: FileMap,
  into: Uint8Array,
  at: number,
): Promise<void> {
  const { blockSize } = sb;
  into.fill(0);
  const end = at + into.length;
  for (let i = map.find(Math.floor(at / blockSize)); i < map.count; i++) {
    const runStart = map.logical[i] * blockSize;
    const runEnd = runStart + map.length[i] * blockSize;
    if (runStart >= end) break;
    if (map.unwritten[i] === 1) continue;
    const from = Math.max(runStart, at);
    const to = Math.min(runEnd, end);
    const disk = map.physical[i] * blockSize + (from - runStart);
    if (disk >= source.size) continue;
    const r = source.read(into.subarray(from - at, to - at), disk);
    if (r instanceof Promise) await r;
  }
}
