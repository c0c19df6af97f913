import { putU32be, putU64be } from "../../../bytes/endian.ts";
import type { DurableFile } from "../../../io/durable.ts";
import { H, LIMIT } from "../layout.ts";
import type { CheckedImage, StoredRefcounts } from "./checked-image.ts";
import type { Counters } from "./counters.ts";
import type { OverlapGuard } from "./overlap.ts";
import { CheckFailure } from "./result.ts";

/** Clusters of refcount blocks and table that an image of `clusters` clusters gets at most when they are made again. */
export function rebuildRoom(clusters: number, stored: StoredRefcounts, clusterSize: number): number {
  let blocks = 0;
  let table = 1;
  for (let grown = true; grown; ) {
    const all = clusters + blocks + 2 * table + 1;
    const needed = Math.ceil(all / stored.perBlock);
    const tables = Math.ceil((needed * 8) / clusterSize);
    grown = needed > blocks || tables > table;
    blocks = needed;
    table = tables;
  }
  // A table that grew leaves its first place behind.
  return blocks + 3 * table + 1;
}

/**
 * Makes refcount blocks and a refcount table again, from the counts in memory, which must be those of the whole image:
 * all of it goes to clusters that nothing refers to, then one write of the header switches over. Counts the new
 * clusters, too. Throws CheckFailure where the table would get too large.
 */
export function rebuildRefcounts(
  image: CheckedImage,
  stored: StoredRefcounts,
  counters: Counters,
  file: DurableFile,
  clusters: number,
  guard: OverlapGuard,
  refused: () => void,
): void {
  const { kernel, table: slot } = counters;
  const { perBlock } = stored;
  const cs = image.clusterSize;
  const blocks: number[] = [];
  let end = clusters;
  let tableEntries = 0;

  /** First cluster of `count` free neighbours, none before `from`; they are used from now on. */
  const allocate = (count: number, from: number): number => {
    let at = from;
    for (;;) {
      at = kernel.raw.freeCounter(counters.at, at, end, counters.width) >>> 0;
      let n = 0;
      while (n < count && at + n < end && counters.get(at + n) === 0) n++;
      if (n === count || at + n >= end) break;
      at += n;
    }
    if (at + count > counters.number)
      throw new RangeError("qcow2 check: more refcount structures than expected");
    end = Math.max(end, at + count);
    for (let k = at; k < at + count; k++) counters.set(k, 1);
    return at;
  };

  /** Gives every used cluster of [from, to) a block. True where the table had to grow. */
  const place = (from: number, to: number): boolean => {
    let grown = false;
    let free = 0;
    for (let k = from; k < to; k++) {
      if (counters.get(k) === 0) continue;
      const i = Math.floor(k / perBlock);
      if (blocks[i] === undefined) {
        free = allocate(1, Math.max(free, i * perBlock));
        to = Math.max(to, free + 1);
        if (i >= tableEntries) {
          tableEntries = Math.ceil(((i + 1) * 8) / cs) * (cs / 8);
          grown = true;
        }
        blocks[i] = free * cs;
      }
      k = (i + 1) * perBlock - 1;
    }
    return grown;
  };

  // What the structures take now stays, until the header has switched over.
  for (const k of guard.refcountClusters(end)) if (counters.get(k) === 0) counters.set(k, 1);
  let table = 0;
  let tableClusters = 0;
  place(0, end);
  for (let grown = true; grown; ) {
    tableClusters = Math.ceil((tableEntries * 8) / cs);
    if (tableClusters * cs > LIMIT.refcountTable) throw new CheckFailure("EFBIG");
    table = allocate(tableClusters, 0);
    grown = place(table, table + tableClusters);
  }

  const bytes = new Uint8Array(tableClusters * cs);
  blocks.forEach((offset) => {
    guard.demand(offset, cs, null, refused, "qemu-img: ERROR writing refblock: Input/output error");
  });
  guard.demand(
    table * cs,
    bytes.length,
    null,
    refused,
    "qemu-img: ERROR writing reftable: Input/output error",
  );
  file.grow(end * cs);
  blocks.forEach((offset, i) => {
    putU64be(bytes, i * 8, offset);
    slot.bytes.fill(0);
    const first = i * perBlock;
    const count = Math.min(perBlock, end - first);
    kernel.raw.storeRefcounts(
      slot.at,
      0,
      count,
      image.header.refcountOrder,
      counters.at + first * counters.width,
      counters.width,
    );
    file.write(slot.bytes, offset);
  });
  file.write(bytes, table * cs);
  file.sync();
  switchTable(file, table * cs, tableClusters);
}

/** Points the header to another refcount table: one write within a sector. Offset in bytes. */
function switchTable(file: DurableFile, offset: number, clusters: number): void {
  const b = new Uint8Array(12);
  putU64be(b, H.tableOffset - H.tableOffset, offset);
  putU32be(b, H.tableClusters - H.tableOffset, clusters);
  file.write(b, H.tableOffset);
  file.sync();
}

/**
 * The same for an image whose counts do not fit into memory at once: `count` counts the window that starts at a
 * cluster. The new structures go behind the end of the image.
 */
export function rebuildInWindows(
  image: CheckedImage,
  stored: StoredRefcounts,
  counters: Counters,
  file: DurableFile,
  clusters: number,
  guard: OverlapGuard,
  refused: () => void,
  count: (first: number) => void,
): void {
  const { kernel, table: slot } = counters;
  const { perBlock } = stored;
  const cs = image.clusterSize;
  const used = new Set<number>();
  const eachBlock = (end: number, visit: (block: number, at: number, count: number) => void): void => {
    for (let first = 0; first < end; first += counters.number) {
      count(first);
      for (let k = first; k < Math.min(end, first + counters.number); k += perBlock)
        visit(k / perBlock, counters.at + (k - first) * counters.width, Math.min(perBlock, end - k));
    }
  };
  eachBlock(clusters, (block, at, n) => {
    if ((kernel.raw.lastCounter(at, n, counters.width) | 0) >= 0) used.add(block);
  });
  let end = clusters;
  let tableClusters = 1;
  for (let wanted = 0; wanted !== end; ) {
    wanted = end;
    for (let b = Math.floor(clusters / perBlock); b * perBlock < end; b++) used.add(b);
    const last = Math.floor((end - 1) / perBlock);
    tableClusters = Math.ceil(((last + 1) * 8) / cs);
    end = Math.max(end, clusters + used.size + tableClusters);
  }
  if (tableClusters * cs > LIMIT.refcountTable) throw new CheckFailure("EFBIG");
  const table = new Uint8Array(tableClusters * cs);
  guard.demand(
    clusters * cs,
    (end - clusters) * cs,
    null,
    refused,
    "qemu-img: ERROR writing refblock: Input/output error",
  );
  let next = clusters + tableClusters;
  file.grow(end * cs);
  eachBlock(end, (block, at, n) => {
    if (!used.has(block)) return;
    for (let k = Math.max(clusters, block * perBlock); k < block * perBlock + n; k++) counters.set(k, 1);
    slot.bytes.fill(0);
    kernel.raw.storeRefcounts(slot.at, 0, n, image.header.refcountOrder, at, counters.width);
    file.write(slot.bytes, next * cs);
    putU64be(table, block * 8, next * cs);
    next++;
  });
  file.write(table, clusters * cs);
  file.sync();
  switchTable(file, clusters * cs, tableClusters);
}
