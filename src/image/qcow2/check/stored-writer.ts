import { putU64be } from "../../../bytes/endian.ts";
import type { DurableFile } from "../../../io/durable.ts";
import { Kernel } from "../../../kernel/kernel.ts";
import { type CheckedImage, refcountAt, type StoredRefcounts } from "./checked-image.ts";
import { CheckFailure } from "./result.ts";

/**
 * First of `count` neighbouring clusters that are stored as free, the first that there are. Where the refcount blocks
 * cover none, those behind a block that is still to be made. Throws CheckFailure where the refcount table has no room.
 */
export function freeStretch(image: CheckedImage, stored: StoredRefcounts, count: number): number {
  const block = new Uint8Array(image.clusterSize);
  const order = image.header.refcountOrder;
  let run = 0;
  for (let i = 0; i < stored.entries; i++) {
    if (stored.blockOffset(i) === 0 || stored.unreadable(i)) {
      run = 0;
      continue;
    }
    stored.readBlock(i, block);
    for (let k = 0; k < stored.perBlock; k++) {
      run = refcountAt(block, k, order) === 0 ? run + 1 : 0;
      if (run === count) return i * stored.perBlock + k + 1 - count;
    }
  }
  for (let i = 0; i < stored.entries; i++)
    if (stored.blockOffset(i) === 0 && count < stored.perBlock) return i * stored.perBlock + 1;
  throw new CheckFailure("EFBIG");
}

/** Stores `count` clusters from `first`, which `freeStretch` found, as used once. */
export function takeStretch(
  image: CheckedImage,
  stored: StoredRefcounts,
  file: DurableFile,
  first: number,
  count: number,
): void {
  const i = Math.floor(first / stored.perBlock);
  if (stored.blockOffset(i) !== 0) {
    for (let c = first; c < first + count; c++) setStored(image, stored, file, c, 1);
    file.sync();
    return;
  }
  // A block that counts itself, and the clusters behind it.
  const offset = i * stored.perBlock * image.clusterSize;
  const kernel = Kernel.get();
  kernel.borrow(image.clusterSize, (slot) => {
    slot.bytes.fill(0);
    kernel.fillRefcounts(slot.at, 0, count + 1, image.header.refcountOrder, 1);
    file.grow(offset + image.clusterSize);
    file.write(slot.bytes, offset);
  });
  file.sync();
  const entry = new Uint8Array(8);
  putU64be(entry, 0, offset);
  file.write(entry, image.header.tableOffset + i * 8);
  file.sync();
  stored.put(i, offset);
}

/**
 * One reference less for each cluster of [offset, offset + size); none where one of them has none, or no refcount
 * block: the answer is then qemu's words for it.
 */
export function freeStored(
  image: CheckedImage,
  stored: StoredRefcounts,
  file: DurableFile,
  offset: number,
  size: number,
): string | null {
  if (size === 0) return null;
  const first = Math.floor(offset / image.clusterSize);
  const end = Math.ceil((offset + size) / image.clusterSize);
  for (let c = first; c < end; c++) {
    if (stored.blockOffset(Math.floor(c / stored.perBlock)) === 0) return "Resource temporarily unavailable";
    const count = stored.get(c);
    if (count === null) return "Input/output error";
    if (count === 0) return "Invalid argument";
  }
  for (let c = first; c < end; c++) setStored(image, stored, file, c, stored.get(c)! - 1);
  return null;
}

function setStored(
  image: CheckedImage,
  stored: StoredRefcounts,
  file: DurableFile,
  cluster: number,
  value: number,
): void {
  const i = Math.floor(cluster / stored.perBlock);
  const block = new Uint8Array(image.clusterSize);
  stored.readBlock(i, block);
  Kernel.get().borrow(block.length, (slot) => {
    slot.bytes.set(block);
    Kernel.get().fillRefcounts(slot.at, cluster % stored.perBlock, 1, image.header.refcountOrder, value);
    file.write(slot.bytes, stored.blockOffset(i));
  });
  stored.forget();
}
