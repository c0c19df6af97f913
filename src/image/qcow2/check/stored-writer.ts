import { putU64be } from "../../../bytes/endian.ts";
import type { DurableFile } from "../../../io/durable.ts";
import { Kernel } from "../../../kernel/kernel.ts";
import { type CheckedImage, refcountAt, type StoredRefcounts } from "./checked-image.ts";
import { CheckFailure } from "./result.ts";

/**
 * Takes `count` neighbouring clusters that are stored as free, the first that there are, and stores them as used once;
 * returns the first cluster. Makes a refcount block where the existing ones cover no free clusters. Throws CheckFailure
 * where the refcount table has no room for it.
 */
export function allocateStored(
  image: CheckedImage,
  stored: StoredRefcounts,
  file: DurableFile,
  count: number,
): number {
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
      if (run < count) continue;
      const first = i * stored.perBlock + k + 1 - count;
      for (let c = first; c < first + count; c++) setStored(image, stored, file, c, 1);
      file.sync();
      return first;
    }
  }
  for (let i = 0; i < stored.entries; i++) {
    if (stored.blockOffset(i) !== 0 || count >= stored.perBlock) continue;
    // A block that counts itself, and the clusters behind it.
    const first = i * stored.perBlock;
    block.fill(0);
    Kernel.get().borrow(block.length, (slot) => {
      slot.bytes.set(block);
      Kernel.get().fillRefcounts(slot.at, 0, count + 1, order, 1);
      block.set(slot.bytes);
    });
    file.grow((first + 1 + count) * image.clusterSize);
    file.write(block, first * image.clusterSize);
    file.sync();
    const entry = new Uint8Array(8);
    putU64be(entry, 0, first * image.clusterSize);
    file.write(entry, image.header.tableOffset + i * 8);
    file.sync();
    stored.put(i, first * image.clusterSize);
    return first + 1;
  }
  throw new CheckFailure("EFBIG");
}

/** One reference less for each cluster of [offset, offset + size), where it has one. */
export function freeStored(
  image: CheckedImage,
  stored: StoredRefcounts,
  file: DurableFile,
  offset: number,
  size: number,
): void {
  const end = Math.ceil((offset + size) / image.clusterSize);
  for (let c = Math.floor(offset / image.clusterSize); c < end; c++) {
    const count = stored.get(c);
    if (count !== null && count > 0) setStored(image, stored, file, c, count - 1);
  }
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
