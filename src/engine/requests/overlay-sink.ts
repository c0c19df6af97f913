import { ZERO } from "../../bytes/runs.ts";
import { ImprintError } from "../../errors.ts";
import type { Packer } from "../../image/packer.ts";
import { type StatusRun, statusOf } from "../../image/qcow2/block-status.ts";
import type { Source } from "../../io/source.ts";
import type { Target } from "../../io/target.ts";
import type { CompressedSink } from "./copy-compressed.ts";
import { type MappedImage, MappedPlaces } from "./mapped-sink.ts";
import type { RequestSink } from "./sink.ts";
import { PackedWrites } from "./sinks.ts";

/** Zeros that have to be stored go in pieces of this many bytes, as qemu's do. */
const ZEROS = 16 * 1024 * 1024;

/** A new QCOW2 image with a backing file. Sizes in bytes. */
export interface Overlay {
  readonly guestSize: number;
  /** Bytes that are allocated and zeroed as one: the cluster, or the subcluster. */
  readonly unit: number;
  /** Zero clusters exist (version 3). */
  readonly zeroClusters: boolean;
  readonly backing: Source;
}

/** Where an overlay's bytes go. */
interface Places {
  /** Stores bytes: whole units, but for a last one that more bytes follow. */
  store(bytes: Uint8Array, at: number): Promise<void>;
  /** Makes whole units read as zeros. */
  zero(from: number, to: number): Promise<void>;
}

/**
 * A new QCOW2 image over a backing file that `packer` lays out: what a request leaves of a cluster is copied
 * up, and zeros become zero clusters where qemu-img makes them so. The target must be fresh. `disk`: the data
 * file, where there is one.
 */
export function overlaySink(
  overlay: Omit<Overlay, "guestSize">,
  packer: Packer,
  target: Target,
  disk: Target = target,
): CompressedSink {
  const { exact } = packer;
  if (exact === undefined) throw new ImprintError("EINTERNAL", "the layout does not take requests");
  const out = new PackedWrites(target, disk);
  const settled = async (): Promise<void> => {
    exact.flush(out);
    await out.settled();
  };
  const { guestSize, clusterSize } = packer;
  const requests = new OverlayRequests(
    { ...overlay, guestSize },
    {
      store: (bytes, at) => {
        out.bytes = bytes;
        out.guest = at;
        exact.request(at, at + bytes.length, out);
        return settled();
      },
      zero: (from, to) => {
        exact.zero(from, to, out);
        return settled();
      },
    },
  );
  return {
    write: (bytes, at) => requests.write(bytes, at),
    zero: (at, length) => requests.zero(at, length),
    writeCompressed: async (stream, at) => {
      out.stream(stream, exact.compressed(at / clusterSize, stream.length, out));
      await settled();
      requests.stored = at + clusterSize;
    },
    dataEnd: () => out.dataEnd,
    finish: async () => {
      const size = packer.finish(out);
      await out.settled();
      return size;
    },
  };
}

/** As `overlaySink`, over an image that was allocated ahead (its L2 entries are extended: qemu makes no others so). */
export function mappedOverlaySink(
  overlay: Omit<Overlay, "guestSize">,
  image: MappedImage,
  target: Target,
  disk: Target = target,
): RequestSink {
  const places = new MappedPlaces(image, target, disk);
  const requests = new OverlayRequests({ ...overlay, guestSize: image.header.size }, places);
  return {
    write: (bytes, at) => requests.write(bytes, at),
    zero: (at, length) => requests.zero(at, length),
    finish: () => image.size,
  };
}

/** What becomes of requests to an overlay, in ascending order. */
class OverlayRequests {
  /** Bytes of the disk before which the unit at hand is stored, or is zero. */
  stored = 0;
  private zeroed = 0;
  private readonly overlay: Overlay;
  private readonly places: Places;
  private readonly status: ReturnType<typeof statusOf>;
  private readonly run: StatusRun = { state: ZERO, length: 0, host: -1, file: null };

  constructor(overlay: Overlay, places: Places) {
    this.overlay = overlay;
    this.places = places;
    this.status = statusOf(overlay.backing);
  }

  async write(bytes: Uint8Array, at: number): Promise<void> {
    const { unit } = this.overlay;
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

  async zero(at: number, length: number): Promise<void> {
    const { unit, zeroClusters } = this.overlay;
    let head = at % unit;
    const tail = (at + length) % unit;
    for (let left = length; left > 0; ) {
      let n = left;
      if (head > 0) {
        n = Math.min(left, unit - head);
        head = (head + n) % unit;
      } else if (tail > 0 && n > unit) n -= tail;
      if (!zeroClusters || !(await this.zeroUnits(at, n))) {
        n = Math.min(n, ZEROS);
        await this.write(new Uint8Array(n), at);
      }
      at += n;
      left -= n;
    }
  }

  private place(bytes: Uint8Array, at: number): Promise<void> {
    this.stored = at + bytes.length;
    return this.places.store(bytes, at);
  }

  /**
   * Makes whole units zero; of a part of one, only where the rest of it reads as zeros anyway.
   * False: it must be stored.
   */
  private async zeroUnits(at: number, length: number): Promise<boolean> {
    const { unit, guestSize } = this.overlay;
    const end = at + length;
    const first = at - (at % unit);
    const last = end === guestSize ? end : Math.ceil(end / unit) * unit;
    if ((at > first || last > end) && !((await this.isZero(first, at)) && (await this.isZero(end, last))))
      return false;
    await this.places.zero(first, last);
    this.zeroed = Math.ceil(last / unit) * unit;
    return true;
  }

  /** True where [from, to) reads as zeros by its allocation. */
  private async isZero(from: number, to: number): Promise<boolean> {
    const { guestSize, backing } = this.overlay;
    const end = Math.min(to, guestSize);
    if (from >= end) return true;
    if (from < this.stored) return false;
    let at = Math.max(from, this.zeroed);
    while (at < end && at < backing.size) {
      const r = this.status(at, Math.min(end, backing.size), false, this.run);
      if (r !== null) await r;
      if (this.run.state !== ZERO) return false;
      at += this.run.length;
    }
    return true;
  }

  /** What [at, at + into.length) reads as before it is written. */
  private async below(into: Uint8Array, at: number): Promise<void> {
    const { backing } = this.overlay;
    const there = at < this.zeroed ? 0 : Math.max(0, Math.min(into.length, backing.size - at));
    const r = there > 0 ? backing.read(into.subarray(0, there), at) : 0;
    into.fill(0, typeof r === "number" ? r : await r);
  }
}
