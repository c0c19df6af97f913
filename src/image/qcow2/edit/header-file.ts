import { putU32be, u32be } from "../../../bytes/endian.ts";
import { AUTOCLEAR, H } from "../layout.ts";
import type { ImageFile } from "./image-file.ts";

/** What a disk writes whole or not at all. */
const SECTOR = 512;

/**
 * The header in the file. Where all that is used of the old or of the new header lies in the first sector, the switch
 * is one sector; otherwise the header is written at once.
 */
export class HeaderFile {
  private readonly file: ImageFile;
  private readonly clusterSize: number;
  /** What the first cluster holds, without the zeros at its end. */
  private live: Uint8Array;

  /** `bytes`: the first cluster, or as much of it as the file has. */
  constructor(file: ImageFile, clusterSize: number, bytes: Uint8Array) {
    this.file = file;
    this.clusterSize = clusterSize;
    this.live = trimmed(bytes.slice(0, clusterSize));
  }

  /** True where `bytes` is what the file says already. */
  holds(bytes: Uint8Array): boolean {
    const b = trimmed(bytes);
    return b.length === this.live.length && b.every((v, i) => v === this.live[i]);
  }

  /**
   * Clears bits of the autoclear field of the header as it is, durably, and nothing else: what they vouch for
   * is about to become untrue.
   */
  clearAutoclear(keepLow: number): void {
    const low = u32be(this.live, H.autoclear + 4);
    if (u32be(this.live, H.autoclear) === 0 && (low & ~keepLow) === 0) return;
    const next = this.live.slice();
    putU32be(next, H.autoclear, 0);
    putU32be(next, H.autoclear + 4, low & keepLow);
    this.put(next, 0, Math.min(SECTOR, next.length));
    this.file.sync();
    this.live = next;
  }

  /** Makes `bytes` the header. What it refers to must be durable. */
  write(bytes: Uint8Array): void {
    const length = Math.min(
      this.clusterSize,
      Math.ceil(Math.max(bytes.length, this.live.length) / SECTOR) * SECTOR,
    );
    const next = new Uint8Array(length);
    next.set(bytes);
    const old = new Uint8Array(length);
    old.set(this.live);
    const tail = differ(old, next, SECTOR, length);
    if (!tail) this.put(next, 0, SECTOR);
    else if (this.live.length <= SECTOR) {
      this.put(next, SECTOR, length);
      this.file.sync();
      this.put(next, 0, SECTOR);
    } else if (trimmed(bytes).length <= SECTOR) {
      this.put(next, 0, SECTOR);
      this.file.sync();
      this.put(next, SECTOR, length);
    } else this.writeAcross(old, next);
    this.file.sync();
    this.live = trimmed(next);
  }

  /** A header over several sectors whose extensions change: bitmaps are not to be trusted in between. */
  private writeAcross(old: Uint8Array, next: Uint8Array): void {
    const bit = 1 << AUTOCLEAR.bitmaps;
    const v3 = (b: Uint8Array) => u32be(b, H.version) >= 3;
    const valid = (b: Uint8Array) => v3(b) && (u32be(b, H.autoclear + 4) & bit) !== 0;
    if (valid(old)) this.clearAutoclear(~bit);
    if (!valid(next)) {
      this.put(next, 0, next.length);
      return;
    }
    const doubtful = next.slice();
    putU32be(doubtful, H.autoclear + 4, u32be(doubtful, H.autoclear + 4) & ~bit);
    this.put(doubtful, 0, doubtful.length);
    this.file.sync();
    this.put(next, 0, SECTOR);
  }

  private put(bytes: Uint8Array, from: number, to: number): void {
    this.file.write(bytes.subarray(from, to), from);
  }
}

function differ(a: Uint8Array, b: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (a[i] !== b[i]) return true;
  return false;
}

function trimmed(b: Uint8Array): Uint8Array {
  let n = b.length;
  while (n > 0 && b[n - 1] === 0) n--;
  return b.subarray(0, n);
}
