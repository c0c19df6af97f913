import { ImprintError } from "../../errors.ts";
import type { Packer, WriteList } from "../../image/packer.ts";
import type { Target } from "../../io/target.ts";
import type { CompressedSink } from "./copy-compressed.ts";
import type { RequestSink } from "./sink.ts";

/** A raw disk. `zeroed`: what is not written reads as zeros. */
export function rawSink(target: Target, size: number, zeroed: boolean): RequestSink {
  return {
    write: (bytes, at) => target.write(bytes, at),
    zero: zeroed ? null : (at, length) => target.zero(at, length),
    finish: () => size,
  };
}

/** Collects what a packer places of `bytes`, and writes it in order. */
export class PackedWrites implements WriteList {
  /** The bytes that are being placed, and their first byte on the disk. */
  bytes: Uint8Array = new Uint8Array(0);
  guest = 0;
  /** Where the data end so far, bytes of the data file. */
  dataEnd = 0;
  private readonly image: Target;
  private readonly disk: Target;
  private pending: Promise<void> | null = null;

  /** `disk`: where the data go, when not into the image itself. */
  constructor(image: Target, disk: Target = image) {
    this.image = image;
    this.disk = disk;
  }

  data(guest: number, at: number, length: number): void {
    const from = guest - this.guest;
    this.dataEnd = Math.max(this.dataEnd, at + length);
    this.put(this.disk, this.bytes.subarray(from, from + length), at);
  }

  meta(at: number, bytes: Uint8Array): void {
    this.put(this.image, this.pending === null && this.image.host !== undefined ? bytes : bytes.slice(), at);
  }

  /** Bytes that were placed as they are. */
  stream(bytes: Uint8Array, at: number): void {
    this.put(this.image, bytes, at);
  }

  /** What is still being written. */
  settled(): Promise<void> | undefined {
    const p = this.pending;
    this.pending = null;
    return p ?? undefined;
  }

  private put(target: Target, bytes: Uint8Array, at: number): void {
    if (this.pending !== null) {
      this.pending = this.pending.then(() => target.write(bytes, at));
      return;
    }
    const r = target.write(bytes, at);
    if (r instanceof Promise) this.pending = r;
  }
}

/** A new QCOW2 image without a backing file. `disk`: the data file, where there is one. */
export function packedSink(packer: Packer, image: Target, disk?: Target): CompressedSink {
  const { exact } = packer;
  if (exact === undefined) throw new ImprintError("EINTERNAL", "the layout does not take requests");
  const out = new PackedWrites(image, disk);
  return {
    write(bytes, at) {
      out.bytes = bytes;
      out.guest = at;
      exact.request(at, at + bytes.length, out);
      exact.flush(out);
      return out.settled();
    },
    writeCompressed(stream, at) {
      const to = exact.compressed(at / packer.clusterSize, stream.length, out);
      out.stream(stream, to);
      exact.flush(out);
      return out.settled();
    },
    zero: null,
    dataEnd: () => out.dataEnd,
    async finish() {
      const size = packer.finish(out);
      await out.settled();
      return size;
    },
  };
}
