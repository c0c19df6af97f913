import { bitmapBytes, bitmapEntryLength } from "../bitmaps.ts";

/** What decides the size of an image's metadata. Bytes and bits. */
export interface MetadataShape {
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly extendedL2: boolean;
}

/**
 * Bytes of the file of an image whose whole guest of `size` bytes is allocated, as qemu-img 7.2 reckons them: the
 * metadata are counted generously.
 */
export function allocatedSize(shape: MetadataShape, size: number): number {
  const { clusterSize: cs } = shape;
  const up = (n: number, unit: number): number => Math.ceil(n / unit) * unit;
  const entry = shape.extendedL2 ? 16 : 8;
  const guest = up(size, cs);
  const l2 = up(guest / cs, cs / entry);
  const l1 = up((l2 * entry) / cs, cs / 8);
  const known = cs + l2 * entry + l1 * 8;
  return known + refcountSize(shape, (known + guest) / cs) + guest;
}

/** Bytes of the refcount table and blocks that count `clusters` clusters and themselves. */
function refcountSize(shape: MetadataShape, clusters: number): number {
  const { clusterSize: cs, refcountBits } = shape;
  const perBlock = (cs * 8) / refcountBits;
  let blocks = 0;
  let table = 0;
  for (let last = -1; last !== blocks + table; ) {
    last = blocks + table;
    blocks = Math.ceil((clusters + table + blocks) / perBlock);
    table = Math.ceil(blocks / (cs / 8));
  }
  return (blocks + table) * cs;
}

/** Bytes that bitmaps take in a new image of clusters of `clusterSize`, all of their bits stored. */
export function bitmapsSize(
  bitmaps: readonly { readonly name: string; readonly granularityBits: number }[],
  size: number,
  clusterSize: number,
): number {
  let bytes = 0;
  let directory = 0;
  const up = (n: number): number => Math.ceil(n / clusterSize) * clusterSize;
  for (const b of bitmaps) {
    const clusters = Math.ceil(bitmapBytes(size, b.granularityBits) / clusterSize);
    bytes += clusters * clusterSize + up(clusters * 8);
    directory += bitmapEntryLength(new TextEncoder().encode(b.name).length);
  }
  return bytes + up(directory);
}
