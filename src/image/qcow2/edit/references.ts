import { FormatError } from "../../../errors.ts";
import { COMPRESSED_HIGH, COPIED_HIGH } from "../layout.ts";
import type { ImageEditor } from "./image-editor.ts";
import { offsetOf } from "./l2-cache.ts";
import { entryClusters, type L2Shape, l2Shape } from "./l2-entries.ts";
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

/** Adds (1) or takes (-1) a reference to everything the entries of an L2 table refer to. Neighbours are done at once. */
export function countTable(editor: ImageEditor, shape: L2Shape, words: Uint32Array, delta: 1 | -1): void {
  const { refcounts } = editor;
  let first = 0;
  let n = 0;
  const done = () => {
    if (n === 0) return;
    if (delta === 1) refcounts.addReference(first, n);
    else refcounts.release(first, n);
    n = 0;
  };
  const found = { first: 0, n: 0 };
  // What an entry is that goes on with the run and has the same flags; -1: none does.
  let nextHigh = -1;
  let nextLow = 0;
  const goOn = () => {
    nextLow = (nextLow + shape.clusterSize) >>> 0;
    if (nextLow < shape.clusterSize) nextHigh++;
  };
  for (let p = 0; p < words.length; p += shape.words) {
    const high = words[p];
    const low = words[p + 1];
    if (high === nextHigh && low === nextLow) {
      n++;
      goOn();
      continue;
    }
    if ((high | low) === 0) continue;
    nextHigh = -1;
    if ((high & COMPRESSED_HIGH) === 0) {
      const at = offsetOf(high, low);
      if (at === 0) continue;
      if (at % shape.clusterSize !== 0 || at > Number.MAX_SAFE_INTEGER)
        throw new FormatError("qcow2 L2 entry", -1, `cluster at 0x${at.toString(16)} is not aligned`);
      found.first = at / shape.clusterSize;
      found.n = 1;
      nextHigh = high;
      nextLow = low;
      goOn();
    } else entryClusters(shape, high, low, found);
    if (n > 0 && found.first === first + n) n += found.n;
    else {
      done();
      first = found.first;
      n = found.n;
    }
  }
  done();
}

/** Adds or takes a reference to everything an L1 table refers to: its L2 tables and their clusters. */
export function countTree(editor: ImageEditor, l1: Uint32Array, delta: 1 | -1): void {
  const shape = shapeOf(editor);
  for (let i = 0; i < l1.length / 2; i++) {
    const at = offsetOf(l1[2 * i], l1[2 * i + 1]);
    if (at === 0) continue;
    countTable(editor, shape, editor.l2.load(i, at), delta);
    if (delta === 1) editor.refcounts.addReference(at / shape.clusterSize);
    else editor.refcounts.release(at / shape.clusterSize);
    editor.relieve();
  }
}

/** Makes the active L2 tables from number `from` on unallocated, with all that they refer to. */
export function dropTables(editor: ImageEditor, from: number): void {
  const { l2, refcounts } = editor;
  const shape = shapeOf(editor);
  for (let i = from; i < l2.l1.length / 2; i++) {
    const at = l2.at(i);
    if (at === 0) continue;
    if (!editor.header.external) countTable(editor, shape, l2.get(i)!.words, -1);
    l2.remove(i);
    refcounts.release(at / shape.clusterSize);
    editor.relieve();
  }
}

/** Makes the COPIED flags of the active tables agree with the refcounts: set where a cluster has one reference. */
export function renewCopied(editor: ImageEditor): void {
  const { l2, refcounts } = editor;
  const shape = shapeOf(editor);
  const cs = shape.clusterSize;
  for (let i = 0; i < l2.l1.length / 2; i++) {
    const at = l2.at(i);
    if (at === 0) continue;
    const own = refcounts.get(at / cs) === 1;
    if (own !== (l2.l1[2 * i] & COPIED_HIGH) < 0) l2.point(i, at, own);
    let { words } = l2.get(i)!;
    let changed = false;
    for (let p = 0; p < words.length; p += shape.words) {
      const high = words[p];
      if ((high | words[p + 1]) === 0 || high & COMPRESSED_HIGH) continue;
      const host = offsetOf(high, words[p + 1]);
      const copied = host !== 0 && refcounts.get(host / cs) === 1;
      if (copied === (high & COPIED_HIGH) < 0) continue;
      if (!changed) words = l2.own(i).words;
      changed = true;
      words[p] = (copied ? high | COPIED_HIGH : high & ~COPIED_HIGH) >>> 0;
    }
    editor.relieve();
  }
}
