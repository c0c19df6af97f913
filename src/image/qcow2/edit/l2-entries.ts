import { COMPRESSED_HIGH, COPIED_HIGH, SUBCLUSTERS } from "../layout.ts";
import { offsetOf } from "./l2-cache.ts";

/** All subclusters of a cluster. */
export const ALL = 0xffffffff;

/** Shape of an image's L2 entries. */
export interface L2Shape {
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly extended: boolean;
  /** Words of an entry: 2, or 4 where extended. */
  readonly words: number;
  readonly perTable: number;
}

export function l2Shape(clusterBits: number, extended: boolean): L2Shape {
  const clusterSize = 2 ** clusterBits;
  const words = extended ? 4 : 2;
  return { clusterBits, clusterSize, extended, words, perTable: clusterSize / (words * 4) };
}

/** Host bytes that a compressed entry's stream has at most, and where it starts. */
export function compressedExtent(shape: L2Shape, high: number, low: number): { at: number; length: number } {
  const offsetBits = 62 - (shape.clusterBits - 8) - 32;
  const rest = high & 0x3fffffff;
  const at = (rest & (2 ** offsetBits - 1)) * 0x100000000 + low;
  return { at, length: ((rest >>> offsetBits) + 1) * 512 - (at & 511) };
}

/** The words of a compressed entry, or null where the format has no bits for the offset. */
export function compressedEntry(shape: L2Shape, at: number, length: number): [number, number] | null {
  const offsetBits = 62 - (shape.clusterBits - 8) - 32;
  const atHigh = Math.floor(at / 0x100000000);
  if (atHigh >= 2 ** offsetBits) return null;
  const sectors = Math.floor((at + length - 1) / 512) - Math.floor(at / 512);
  return [(COMPRESSED_HIGH | (sectors << offsetBits) | atHigh) >>> 0, at % 0x100000000];
}

/**
 * The host clusters an entry refers to, as first cluster and count, into `into`; count 0 where there is none. A
 * compressed stream refers to each cluster it touches.
 */
export function entryClusters(
  shape: L2Shape,
  high: number,
  low: number,
  into: { first: number; n: number },
): void {
  if (high & COMPRESSED_HIGH) {
    const { at, length } = compressedExtent(shape, high, low);
    into.first = Math.floor(at / shape.clusterSize);
    into.n = Math.floor((at + length - 1) / shape.clusterSize) - into.first + 1;
    return;
  }
  const at = offsetOf(high, low);
  into.first = Math.floor(at / shape.clusterSize);
  into.n = at === 0 ? 0 : 1;
}

/** True where an entry makes a cluster of its own refer to plain bytes that may be written in place. */
export function isCopied(high: number): boolean {
  return (high & COPIED_HIGH) !== 0 && (high & COMPRESSED_HIGH) === 0;
}

/** Mask of subclusters [from, to). */
export function subclusterMask(from: number, to: number): number {
  const n = to - from;
  return n >= SUBCLUSTERS ? ALL : ((2 ** n - 1) << from) >>> 0;
}
