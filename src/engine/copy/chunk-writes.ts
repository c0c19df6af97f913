import type { WriteList } from "../../image/packer.ts";

/** What one chunk writes: pieces of its buffer, and metadata bytes. Reused from chunk to chunk. */
export class ChunkWrites implements WriteList {
  count = 0;
  /** Offset in the chunk's buffer, target offset and length of each piece, bytes. */
  from = new Float64Array(1024);
  to = new Float64Array(1024);
  length = new Float64Array(1024);
  metas = 0;
  /** Target offset, offset in `metaBytes` and length of each metadata piece. */
  metaTo = new Float64Array(64);
  metaFrom = new Float64Array(64);
  metaLength = new Float64Array(64);
  metaBytes = new Uint8Array(8192);
  private metaUsed = 0;
  private guestBase = 0;

  clear(): void {
    this.count = 0;
    this.metas = 0;
    this.metaUsed = 0;
  }

  /** Says that guest byte g lies at buffer offset g + `base` for the pieces that follow. */
  span(base: number): void {
    this.guestBase = base;
  }

  data(guest: number, target: number, length: number): void {
    const from = guest + this.guestBase;
    const p = this.count - 1;
    if (p >= 0 && this.from[p] + this.length[p] === from && this.to[p] + this.length[p] === target) {
      this.length[p] += length;
      return;
    }
    if (this.count === this.from.length) {
      this.from = wider(this.from);
      this.to = wider(this.to);
      this.length = wider(this.length);
    }
    this.from[this.count] = from;
    this.to[this.count] = target;
    this.length[this.count++] = length;
  }

  meta(target: number, bytes: Uint8Array): void {
    const need = this.metaUsed + bytes.length;
    if (need > this.metaBytes.length) {
      const more = new Uint8Array(Math.max(need, this.metaBytes.length * 2));
      more.set(this.metaBytes.subarray(0, this.metaUsed));
      this.metaBytes = more;
    }
    this.metaBytes.set(bytes, this.metaUsed);
    const p = this.metas - 1;
    if (p >= 0 && this.metaTo[p] + this.metaLength[p] === target) this.metaLength[p] += bytes.length;
    else {
      if (this.metas === this.metaTo.length) {
        this.metaTo = wider(this.metaTo);
        this.metaFrom = wider(this.metaFrom);
        this.metaLength = wider(this.metaLength);
      }
      this.metaTo[this.metas] = target;
      this.metaFrom[this.metas] = this.metaUsed;
      this.metaLength[this.metas++] = bytes.length;
    }
    this.metaUsed = need;
  }
}

function wider(a: Float64Array): Float64Array<ArrayBuffer> {
  const b = new Float64Array(a.length * 2);
  b.set(a);
  return b;
}
