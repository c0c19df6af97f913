import type { Packer, WriteList } from "../packer.ts";

/**
 * What a one-pass writer needs of a packer beyond the contract: the metadata of the end, in parts that can be
 * made one at a time, in any order.
 */
export interface StreamablePacker extends Packer {
  /** Settles the end of the image; no `place` after it. Returns the file's size in bytes. */
  settle(): number;
  /**
   * Header, L1 table, refcount table and whatever else is neither refcount block nor L2 table; after
   * `settle`.
   */
  heads(out: WriteList): void;
  /** Refcount blocks there are, after `settle`. Some numbers may have none. */
  refcountBlocks(): number;
  /** Byte offset of refcount block `i`, or 0 where there is none. */
  refcountBlockAt(i: number): number;
  /** Fills `into` (one cluster) with refcount block `i`. */
  renderRefcountBlock(i: number, into: Uint8Array): void;
  /** Offset of the L2 table that covers guest cluster `guest`, or 0 where there is none yet. */
  l2At(guest: number): number;
}

/** The metadata of the end, all of it: what `finish` of a packer does. */
export function finishAll(packer: StreamablePacker, out: WriteList): number {
  const size = packer.settle();
  packer.heads(out);
  const bytes = new Uint8Array(packer.clusterSize);
  for (let i = 0, n = packer.refcountBlocks(); i < n; i++) {
    const at = packer.refcountBlockAt(i);
    if (at === 0) continue;
    packer.renderRefcountBlock(i, bytes);
    out.meta(at, bytes);
  }
  return size;
}
