import type { Packer, WriteList } from "../../image/packer.ts";

/** Raw output as a packer: every block at its own place, `offset` bytes further on. Keeps no state. */
export class RawPacker implements Packer {
  readonly clusterSize: number;
  readonly guestSize: number;
  readonly offset: number;
  state = new Float64Array(1);

  /** Sizes and offset in bytes; `clusterSize` is the unit in which zeros are left out. */
  constructor(clusterSize: number, guestSize: number, offset: number) {
    this.clusterSize = clusterSize;
    this.guestSize = guestSize;
    this.offset = offset;
  }

  place(base: number, runs: Uint32Array, count: number, out: WriteList): void {
    const cs = this.clusterSize;
    for (let i = 0; i < count; i++) {
      const guest = (base + runs[2 * i]) * cs;
      const end = Math.min(guest + runs[2 * i + 1] * cs, this.guestSize);
      out.data(guest, guest + this.offset, end - guest);
    }
  }

  finish(): number {
    return this.guestSize + this.offset;
  }
}
