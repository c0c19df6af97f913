/** Where a move goes from and to. Offsets in bytes of the file. */
export interface MoveGeometry {
  readonly source: number;
  readonly destination: number;
  readonly blockSize: number;
  /** Blocks of the volume. */
  readonly blocks: number;
  /** Bytes a step covers at most (one block at least). */
  readonly chunk: number;
}

/** A range of blocks, [first, last). */
export interface BlockRange {
  readonly first: number;
  readonly last: number;
}

/**
 * The order in which an overlapping copy within one file goes, cut into steps. To the left and to a disjoint place:
 * ascending. To the right: pieces as long as the distance from the end down, each ascending, which is the order native
 * e2image numbers scrambled names in; where the distance is below a block, steps from the end down.
 *
 * A step's own blocks are read before any of them is written. What a step overwrites is then the source of itself or of
 * steps before it, never of a later one.
 */
export class MovePlan {
  readonly steps: number;
  /**
   * True where a step may overwrite its own source: it must be kept elsewhere first. False where it is enough to know
   * how far the move got.
   */
  readonly keepsData: boolean;
  /** True where source and destination share no byte. */
  readonly apart: boolean;
  private readonly g: MoveGeometry;
  /** Bytes between source and destination. */
  private readonly distance: number;
  private readonly right: boolean;
  /** Blocks of a step. */
  private readonly unit: number;
  /** Moves to the right: blocks of a native piece, else 0. */
  private readonly piece: number;
  /** Moves to the right without `keepsData`: steps of a whole native piece, else 1. */
  private readonly stepsAPiece: number;

  constructor(g: MoveGeometry) {
    this.g = g;
    this.distance = Math.abs(g.destination - g.source);
    const most = Math.max(1, Math.floor(g.chunk / g.blockSize));
    const apart = Math.floor(this.distance / g.blockSize);
    this.apart = this.distance >= g.blocks * g.blockSize;
    this.right = !this.apart && g.destination > g.source;
    this.keepsData = !this.apart && apart < most;
    this.piece = this.right ? apart : 0;
    // Whole native pieces where several fit.
    this.unit = this.right && this.keepsData && apart > 0 ? most - (most % apart) : most;
    if (this.right && !this.keepsData) {
      this.stepsAPiece = Math.ceil(apart / this.unit);
      this.steps =
        Math.floor(g.blocks / apart) * this.stepsAPiece + Math.ceil((g.blocks % apart) / this.unit);
    } else {
      this.stepsAPiece = 1;
      this.steps = Math.ceil(g.blocks / this.unit);
    }
  }

  /** Blocks of a step at most. */
  get unitBlocks(): number {
    return this.unit;
  }

  /** The blocks of step `i`. */
  range(i: number): BlockRange {
    const { blocks } = this.g;
    if (!this.right) return { first: i * this.unit, last: Math.min((i + 1) * this.unit, blocks) };
    if (this.keepsData) {
      const last = blocks - i * this.unit;
      return { first: Math.max(0, last - this.unit), last };
    }
    const end = this.pieceEnd(i);
    const start = Math.max(0, end - this.piece);
    const first = start + (i % this.stepsAPiece) * this.unit;
    return { first, last: Math.min(first + this.unit, end) };
  }

  /** The blocks of step `i` in the order native handles them. */
  parts(i: number): BlockRange[] {
    const { first, last } = this.range(i);
    if (!this.right || this.piece === 0) return [{ first, last }];
    const out: BlockRange[] = [];
    for (let end = last; end > first; end -= this.piece)
      out.push({ first: Math.max(first, end - this.piece), last: end });
    return out;
  }

  /**
   * True where writing step `i` leaves the source of step `from` and of all after it alone (but for its own, where the
   * plan keeps data). `from` is at most `i`.
   */
  spares(from: number, i: number): boolean {
    if (!this.overlaps(i)) return true;
    const { blockSize } = this.g;
    const step = this.range(i);
    if (this.right) {
      const top = this.keepsData ? this.range(from).last : this.pieceEnd(from);
      return step.first * blockSize + this.distance >= top * blockSize;
    }
    return step.last * blockSize - this.distance <= this.range(from).first * blockSize;
  }

  /** True where writing step `i` destroys anything of the source at all. */
  overlaps(i: number): boolean {
    const { blocks, blockSize } = this.g;
    const { first, last } = this.range(i);
    if (this.apart) return false;
    return this.right
      ? first * blockSize + this.distance < blocks * blockSize
      : last * blockSize - this.distance > 0;
  }

  private pieceEnd(i: number): number {
    return this.g.blocks - Math.floor(i / this.stepsAPiece) * this.piece;
  }
}
