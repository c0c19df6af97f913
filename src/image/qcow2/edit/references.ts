import { u32be } from "../../../bytes/endian.ts";
import { FormatError } from "../../../errors.ts";
import { Kernel, type Slot } from "../../../kernel/kernel.ts";
import { COPIED_HIGH } from "../layout.ts";
import type { ImageEditor } from "./image-editor.ts";
import { offsetOf } from "./l2-cache.ts";
import { type L2Shape, l2Shape } from "./l2-entries.ts";
import type { Refcounts } from "./refcounts.ts";
import { TableGather } from "./table-gather.ts";
import { bytesOfWords, wordsOfBytes } from "./words.ts";

/** Reads an L1 table of a snapshot. */
export function readL1(editor: ImageEditor, at: number, entries: number): Uint32Array {
  if (entries === 0) return new Uint32Array(0);
  if (at % editor.clusterSize !== 0 || at > Number.MAX_SAFE_INTEGER)
    throw new FormatError("qcow2 snapshot L1 table", at, "is not aligned");
  return wordsOfBytes(editor.file.readTable("qcow2 snapshot L1 table", at, entries * 8));
}

/** Writes an L1 table to new clusters; returns its offset (0 for an empty one). */
export function writeL1(editor: ImageEditor, l1: Uint32Array): number {
  if (l1.length === 0) return 0;
  const clusters = Math.ceil((l1.length * 4) / editor.clusterSize);
  const at = editor.allocateClusters(clusters);
  const bytes = new Uint8Array(clusters * editor.clusterSize);
  bytes.set(bytesOfWords(l1));
  editor.writeHost(bytes, at);
  return at;
}

/** Clusters of an L1 table. */
export function l1Clusters(editor: ImageEditor, entries: number): number {
  return Math.ceil((entries * 8) / editor.clusterSize);
}

export function shapeOf(editor: ImageEditor): L2Shape {
  return l2Shape(editor.header.clusterBits, editor.header.extendedL2);
}

/** Kinds of a run of an L2 table's references: see assembly/qcow2-edit.ts. */
const IS_COPIED = 1;
const IS_COMPRESSED = 2;

/**
 * Calls `use` for each run of host clusters that the L2 table at `table` in the kernel's memory refers to: first
 * cluster, how many, entry of the first, the flags. Cluster 0 that is not compressed: an entry without one that has the
 * COPIED flag. Throws FormatError for offsets that are not aligned.
 */
function eachRun(
  shape: L2Shape,
  table: Slot,
  use: (first: number, n: number, entry: number, copied: boolean, compressed: boolean) => void,
): void {
  const { raw, out } = Kernel.get();
  const { perTable, clusterBits } = shape;
  const extended = Number(shape.extended);
  for (let from = 0; from < perTable; ) {
    const end = raw.l2Runs(table.at, from, perTable, clusterBits, extended) >>> 0;
    const runs = out[0];
    if (runs === 0 && end < perTable) {
      const p = end * shape.words * 4;
      const at = offsetOf(u32be(table.bytes, p), u32be(table.bytes, p + 4));
      throw new FormatError("qcow2 L2 entry", -1, `cluster at 0x${at.toString(16)} is not aligned`);
    }
    for (let r = 0, p = 4; r < runs; r++, p += 4) {
      const tag = out[p + 3];
      use(
        out[p + 1] * 0x100000000 + out[p],
        out[p + 2],
        tag >>> 2,
        (tag & IS_COPIED) !== 0,
        (tag & IS_COMPRESSED) !== 0,
      );
    }
    from = end;
  }
}

/**
 * Adds (1) or takes (-1) a reference to everything the entries of the L2 table at `table` in the kernel's memory refer
 * to. Neighbours are done at once.
 */
function countTable(editor: ImageEditor, shape: L2Shape, table: Slot, delta: 1 | -1): void {
  const { refcounts } = editor;
  let first = 0;
  let n = 0;
  const done = () => {
    if (n === 0) return;
    if (delta === 1) refcounts.addReference(first, n);
    else refcounts.release(first, n);
  };
  eachRun(shape, table, (at, count, _entry, _copied, compressed) => {
    if (at === 0 && !compressed) return;
    if (n > 0 && at === first + n) {
      n += count;
      return;
    }
    done();
    first = at;
    n = count;
  });
  done();
}

/**
 * Adds a reference to everything the active L1 table leads to, so that a copy of it can be kept:
 * nothing is COPIED then.
 */
export function shareTree(editor: ImageEditor): void {
  const { l2, refcounts } = editor;
  const shape = shapeOf(editor);
  const { raw } = Kernel.get();
  l2.flush();
  TableGather.use(editor.file, shape.clusterSize, (gather) => {
    for (let i = 0; i < l2.l1.length / 2; i++) {
      if (l2.at(i) === 0) continue;
      const { table } = gather;
      l2.loadInto(table.bytes, i, l2.at(i));
      countTable(editor, shape, table, 1);
      if (raw.clearCopied(table.at, shape.perTable, Number(shape.extended)) !== 0) gather.keep(l2.rewrite(i));
      const at = l2.at(i);
      refcounts.addReference(at / shape.clusterSize);
      l2.point(i, at, false);
      editor.relieve();
    }
  });
}

/** Adds or takes a reference to everything an L1 table refers to: its L2 tables and their clusters. */
export function countTree(editor: ImageEditor, l1: Uint32Array, delta: 1 | -1): void {
  const shape = shapeOf(editor);
  Kernel.get().borrow(shape.clusterSize, (table) => {
    for (let i = 0; i < l1.length / 2; i++) {
      const at = offsetOf(l1[2 * i], l1[2 * i + 1]);
      if (at === 0) continue;
      editor.l2.loadInto(table.bytes, i, at);
      countTable(editor, shape, table, delta);
      if (delta === 1) editor.refcounts.addReference(at / shape.clusterSize);
      else editor.refcounts.release(at / shape.clusterSize);
      editor.relieve();
    }
  });
}

/** Makes the active L2 tables from number `from` on unallocated, with all that they refer to. */
export function dropTables(editor: ImageEditor, from: number): void {
  const { l2, refcounts } = editor;
  const shape = shapeOf(editor);
  l2.flush();
  Kernel.get().borrow(shape.clusterSize, (table) => {
    for (let i = from; i < l2.l1.length / 2; i++) {
      const at = l2.at(i);
      if (at === 0) continue;
      if (!editor.header.external) {
        l2.loadInto(table.bytes, i, at);
        countTable(editor, shape, table, -1);
      }
      l2.remove(i);
      refcounts.release(at / shape.clusterSize);
      editor.relieve();
    }
  });
}

/** Makes the COPIED flags of the active tables agree with the refcounts: set where a cluster has one reference. */
export function renewCopied(editor: ImageEditor): void {
  const { l2, refcounts } = editor;
  const shape = shapeOf(editor);
  l2.flush();
  TableGather.use(editor.file, shape.clusterSize, (gather) => {
    for (let i = 0; i < l2.l1.length / 2; i++) {
      const at = l2.at(i);
      if (at === 0) continue;
      const own = refcounts.get(at / shape.clusterSize) === 1;
      if (own !== (l2.l1[2 * i] & COPIED_HIGH) < 0) l2.point(i, at, own);
      const { table } = gather;
      l2.loadInto(table.bytes, i, at);
      if (renewTable(refcounts, shape, table)) gather.keep(l2.rewrite(i));
      editor.relieve();
    }
  });
}

/** The same for the table at `table` in the kernel's memory; true where it has changed. */
function renewTable(refcounts: Refcounts, shape: L2Shape, table: Slot): boolean {
  const { raw } = Kernel.get();
  let changed = false;
  const set = (from: number, to: number, copied: boolean) => {
    raw.setCopied(table.at, from, to, Number(shape.extended), Number(copied));
    changed = true;
  };
  eachRun(shape, table, (first, n, entry, copied, compressed) => {
    if (compressed) return;
    const single = first === 0 ? 0 : refcounts.single(first, n);
    if (single !== -1) {
      if ((single === 1) !== copied) set(entry, entry + n, !copied);
      return;
    }
    for (let k = 0; k < n; k++)
      if ((refcounts.get(first + k) === 1) !== copied) set(entry + k, entry + k + 1, !copied);
  });
  return changed;
}
