import { ZERO } from "../../bytes/runs.ts";
import { ImprintError } from "../../errors.ts";
import type { Packer } from "../../image/packer.ts";
import { type StatusRun, statusOf } from "../../image/qcow2/block-status.ts";
import type { Source } from "../../io/source.ts";
import type { Target } from "../../io/target.ts";
import type { CompressedSink } from "./copy-compressed.ts";
import { PackedWrites } from "./sinks.ts";

/** Zeros that have to be stored go in pieces of this many bytes, as qemu's do. */
const ZEROS = 16 * 1024 * 1024;

/** A new QCOW2 image with a backing file, as it is laid out. */
export interface Overlay {
  readonly packer: Packer;
  /** Bytes that are allocated and zeroed as one: the cluster, or the subcluster. */
  readonly unit: number;
  /** Zero clusters exist (version 3). */
  readonly zeroClusters: boolean;
  readonly backing: Source;
}

/**
 * A new QCOW2 image over a backing file: what a request leaves of a cluster is copied up, and zeros become zero clusters
 * where qemu-img makes them so. The target must be fresh. `disk`: the data file, where there is one.
 */
export function overlaySink(overlay: Overlay, target: Target, disk: Target = target): CompressedSink {
  return new OverlaySink(overlay, target, disk);
}

class OverlaySink implements CompressedSink {
  private readonly packer: Packer;
  private readonly exact: NonNullable<Packer["exact"]>;
  private readonly unit: number;
  private readonly zeroClusters: boolean;
  private readonly backing: Source;
  private readonly status: ReturnType<typeof statusOf>;
  private readonly out: PackedWrites;
  private readonly run: StatusRun = { state: ZERO, length: 0, host: -1, file: null };
  /** Bytes of the disk before which the unit at hand is stored, or is zero. */
  private stored = 0;
  private zeroed = 0;

  constructor(overlay: Overlay, target: Target, disk: Target) {
    const { packer } = overlay;
    if (packer.exact === undefined) throw new ImprintError("EINTERNAL", "the layout does not take requests");
    this.packer = packer;
    this.exact = packer.exact;
    this.unit = overlay.unit;
    this.zeroClusters = overlay.zeroClusters;
    this.backing = overlay.backing;
    this.status = statusOf(overlay.backing);
    this.out = new PackedWrites(target, disk);
  }

  async write(bytes: Uint8Array, at: number): Promise<void> {
    const { unit } = this;
    const to = at + bytes.length;
    const first = at - (at % unit);
    const end = Math.ceil(to / unit) * unit;
    const fresh = first >= this.stored;
    const from = fresh ? first : at;
    const stop = fresh || end - unit > first ? end : to;
    if (from === at && stop === to) return this.place(bytes, from);
    const wide = new Uint8Array(stop - from);
    wide.set(bytes, at - from);
    if (from < at) await this.below(wide.subarray(0, at - from), from);
    if (stop > to) await this.below(wide.subarray(to - from), to);
    return this.place(wide, from);
  }

  async writeCompressed(stream: Uint8Array, at: number): Promise<void> {
    const { packer, exact, out } = this;
    out.stream(stream, exact.compressed(at / packer.clusterSize, stream.length, out));
    exact.flush(out);
    await out.settled();
    this.stored = at + packer.clusterSize;
  }

  readonly zero = async (at: number, length: number): Promise<void> => {
    const { unit } = this;
    let head = at % unit;
    const tail = (at + length) % unit;
    for (let left = length; left > 0; ) {
      let n = left;
      if (head > 0) {
        n = Math.min(left, unit - head);
        head = (head + n) % unit;
      } else if (tail > 0 && n > unit) n -= tail;
      if (!this.zeroClusters || !(await this.zeroUnits(at, n))) {
        n = Math.min(n, ZEROS);
        await this.write(new Uint8Array(n), at);
      }
      at += n;
      left -= n;
    }
  };

  dataEnd(): number {
    return this.out.dataEnd;
  }

  async finish(): Promise<number> {
    const size = this.packer.finish(this.out);
    await this.out.settled();
    return size;
  }

  private async place(bytes: Uint8Array, at: number): Promise<void> {
    const { out, exact } = this;
    out.bytes = bytes;
    out.guest = at;
    exact.request(at, at + bytes.length, out);
    exact.flush(out);
    this.stored = at + bytes.length;
    await out.settled();
  }

  /** Makes whole units zero; of a part of one, only where the rest of it reads as zeros anyway. False: it must be stored. */
  private async zeroUnits(at: number, length: number): Promise<boolean> {
    const { unit, exact, out } = this;
    const end = at + length;
    const first = at - (at % unit);
    const last = end === this.packer.guestSize ? end : Math.ceil(end / unit) * unit;
    if ((at > first || last > end) && !((await this.isZero(first, at)) && (await this.isZero(end, last))))
      return false;
    exact.zero(first, last, out);
    exact.flush(out);
    await out.settled();
    this.zeroed = Math.ceil(last / unit) * unit;
    return true;
  }

  /** True where [from, to) reads as zeros by its allocation. */
  private async isZero(from: number, to: number): Promise<boolean> {
    const end = Math.min(to, this.packer.guestSize);
    if (from >= end) return true;
    if (from < this.stored) return false;
    let at = Math.max(from, this.zeroed);
    while (at < end && at < this.backing.size) {
      const r = this.status(at, Math.min(end, this.backing.size), false, this.run);
      if (r !== null) await r;
      if (this.run.state !== ZERO) return false;
      at += this.run.length;
    }
    return true;
  }

  /** What [at, at + into.length) reads as before it is written. */
  private async below(into: Uint8Array, at: number): Promise<void> {
    const there = at < this.zeroed ? 0 : Math.max(0, Math.min(into.length, this.backing.size - at));
    const r = there > 0 ? this.backing.read(into.subarray(0, there), at) : 0;
    into.fill(0, typeof r === "number" ? r : await r);
  }
}
