import { u32be } from "../../bytes/endian.ts";
import type { Source } from "../../io/source.ts";
import type { Qcow2Header } from "./header.ts";
import { OFFSET_LOW } from "./layout.ts";

/** Bytes read at a time. */
const PIECE = 65536;

/**
 * Whether an image looks as if its clusters had been allocated ahead of use: more clusters of the file have references
 * than the host stores. qemu 7.2 then asks the host where an image's data clusters have holes. `stored`: bytes that the
 * host has allocated for the file. Answers false where the refcounts cannot be read.
 */
export function looksPreallocated(source: Source, header: Qcow2Header, stored: number): Promise<boolean> {
  const real = Math.floor(stored / header.clusterSize);
  const enough = Math.max(Math.floor((real * 10) / 9), real + 2);
  return countReferenced(source, header, enough).then((n) => n >= enough);
}

/** Clusters of the file with a reference count above 0; stops at `enough`. */
async function countReferenced(source: Source, header: Qcow2Header, enough: number): Promise<number> {
  const { clusterSize, refcountOrder } = header;
  const clusters = Math.ceil(source.size / clusterSize);
  // No file that is stored whole can have more references than that.
  if (clusters < enough) return 0;
  const perBlock = (clusterSize * 8) / 2 ** refcountOrder;
  const table = new Uint8Array(
    Math.min(header.tableClusters * clusterSize, Math.ceil(clusters / perBlock) * 8),
  );
  await readSome(source, table, header.tableOffset);
  const block = new Uint8Array(Math.min(clusterSize, PIECE));
  const perPiece = (block.length * 8) / 2 ** refcountOrder;
  let found = 0;
  for (let i = 0; i * 8 < table.length && found < enough; i++) {
    const at = u32be(table, i * 8) * 0x100000000 + ((u32be(table, i * 8 + 4) & OFFSET_LOW) >>> 0);
    if (at === 0 || at >= source.size) continue;
    for (let piece = 0; piece * block.length < clusterSize && found < enough; piece++) {
      const first = i * perBlock + piece * perPiece;
      if (first >= clusters) break;
      block.fill(0);
      await readSome(source, block, at + piece * block.length);
      found += nonZero(block, refcountOrder, Math.min(perPiece, clusters - first));
    }
  }
  return found;
}

async function readSome(source: Source, into: Uint8Array, at: number): Promise<void> {
  const r = source.read(into, at);
  if (r instanceof Promise) await r;
}

/** Entries of 2^order bits that are not zero, among the first `count`. */
function nonZero(block: Uint8Array, order: number, count: number): number {
  let n = 0;
  if (order >= 3) {
    const width = 2 ** (order - 3);
    for (let i = 0; i < count; i++) {
      let any = 0;
      for (let b = i * width; b < (i + 1) * width; b++) any |= block[b];
      if (any !== 0) n++;
    }
    return n;
  }
  const width = 2 ** order;
  const mask = 2 ** width - 1;
  // Entries narrower than a byte start at its low bits.
  for (let i = 0; i < count; i++) if ((block[(i * width) >>> 3] >>> ((i * width) & 7)) & mask) n++;
  return n;
}
