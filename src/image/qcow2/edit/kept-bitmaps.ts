import { BlockSet } from "../../../bytes/block-set.ts";
import { putU64be } from "../../../bytes/endian.ts";
import { ExtentList } from "../../../bytes/extents.ts";
import { ImprintError } from "../../../errors.ts";
import {
  ALL_CLEAR,
  ALL_SET,
  BITMAP_FLAGS,
  type BitmapEntry,
  bitmapBytes,
  bitmapTableEntries,
  bitmapTooLarge,
  inconsistentText,
  isInUse,
  parseBitmapDirectory,
  parseBitmapTable,
  serializeBitmapDirectory,
} from "../bitmaps.ts";
import type { ImageEditor } from "./image-editor.ts";

/** The bitmaps of an image before its data changes, and where their directory lies. */
export interface KeptBitmaps {
  readonly list: readonly BitmapEntry[];
  readonly offset: number;
  readonly size: number;
  /** Guest bytes written since, in units of 512. */
  readonly dirty: BlockSet;
}

/** Reads the directory; null where there are no bitmaps or they are out of step with the data. */
export function bitmapsToKeep(editor: ImageEditor): KeptBitmaps | null {
  const { bitmaps, bitmapsValid } = editor.header;
  if (bitmaps === null || !bitmapsValid) return null;
  const { offset, size } = bitmaps;
  return { list: readDirectory(editor), offset, size, dirty: new BlockSet(2 ** 44) };
}

/**
 * Throws ImprintError "EINVAL" where a bitmap cannot follow a change of the disk's size to `size` bytes: in qemu's
 * words where its contents are lost, in ours where it would be too long (qemu loses all bitmaps then).
 */
export function demandUsable(editor: ImageEditor, kept: KeptBitmaps | null, size: number): void {
  for (const b of kept?.list ?? []) {
    if (size > editor.size && bitmapTooLarge(size, b.granularityBits, editor.clusterSize))
      throw new ImprintError(
        "EINVAL",
        `Bitmap '${b.name}' would be too large for ${size} bytes; remove it, or make one of larger granularity`,
      );
    if (isInUse(b)) throw new ImprintError("EINVAL", inconsistentText(b.name));
  }
}

function readDirectory(editor: ImageEditor): BitmapEntry[] {
  const { count, offset, size } = editor.header.bitmaps!;
  const bytes = editor.file.readTable("qcow2 bitmap directory", offset, size);
  return parseBitmapDirectory(bytes, count, offset, editor.header);
}

/**
 * Brings bitmaps up to date: as long as the disk is now (new bits are clear), and in enabled ones the bits of what was
 * written set. The header calls them valid again then.
 */
export function storeBitmaps(editor: ImageEditor, kept: KeptBitmaps): void {
  const cs = editor.clusterSize;
  const { size } = editor;
  const clustersOf = (bytes: number) => Math.ceil(bytes / cs);
  const next = kept.list.map((b) => {
    if (isInUse(b)) return b;
    const bytes = editor.file.readTable("qcow2 bitmap table", b.tableOffset, b.tableEntries * 8);
    const table = parseBitmapTable(bytes, b.tableOffset, cs);
    const entries = bitmapTableEntries(size, b.granularityBits, cs);
    const wanted = new Float64Array(Math.max(1, entries));
    wanted.set(table.subarray(0, wanted.length));
    for (let i = wanted.length; i < table.length; i++)
      if (table[i] > ALL_SET) editor.freeClusters(table[i], 1);
    if ((b.flags & BITMAP_FLAGS.auto) !== 0) setDirty(editor, wanted, b.granularityBits, kept.dirty);
    clearPast(editor, wanted, bitmapBytes(size, b.granularityBits), size, b.granularityBits);
    editor.freeClusters(b.tableOffset, clustersOf(b.tableEntries * 8));
    const tableOffset = editor.allocateClusters(clustersOf(wanted.length * 8));
    const out = new Uint8Array(clustersOf(wanted.length * 8) * cs);
    wanted.forEach((v, i) => {
      putU64be(out, i * 8, v);
    });
    editor.writeHost(out, tableOffset);
    return { ...b, tableOffset, tableEntries: wanted.length };
  });
  editor.freeClusters(kept.offset, clustersOf(kept.size));
  const directory = serializeBitmapDirectory(next);
  const offset = editor.allocateClusters(clustersOf(directory.length));
  const padded = new Uint8Array(clustersOf(directory.length) * cs);
  padded.set(directory);
  editor.writeHost(padded, offset);
  editor.setHeader({ bitmaps: { count: next.length, size: directory.length, offset }, bitmapsValid: true });
}

/** Sets the bits of the sectors in `dirty`; clusters of bits that change are written anew. */
function setDirty(editor: ImageEditor, table: Float64Array, granularityBits: number, dirty: BlockSet): void {
  const perCluster = editor.clusterSize * 8;
  const unit = 2 ** granularityBits;
  const runs = new ExtentList();
  let at = -1;
  let bits: Uint8Array = new Uint8Array(0);
  const done = () => {
    if (at >= 0) replaceBits(editor, table, at, bits);
  };
  for (let from = 0; from < dirty.limit; ) {
    runs.clear();
    from = dirty.runs(from, dirty.limit, runs, 4096);
    if (runs.count === 0) break;
    for (let i = 0; i < runs.count; i++) {
      const end = Math.ceil((runs.end(i) * 512) / unit);
      for (let bit = Math.floor((runs.start(i) * 512) / unit); bit < end; ) {
        const k = Math.floor(bit / perCluster);
        if (k >= table.length) break;
        const last = Math.min(end, (k + 1) * perCluster);
        if (table[k] !== ALL_SET || k === at) {
          if (k !== at) {
            done();
            at = k;
            bits = readBits(editor, table[k]);
          }
          for (; bit < last; bit++) bits[(bit % perCluster) >>> 3] |= 1 << (bit & 7);
        }
        bit = last;
      }
    }
  }
  done();
}

function readBits(editor: ImageEditor, value: number): Uint8Array {
  const bits = new Uint8Array(editor.clusterSize);
  if (value === ALL_SET) bits.fill(0xff);
  else if (value !== ALL_CLEAR) editor.readHost(bits, value);
  return bits;
}

function replaceBits(editor: ImageEditor, table: Float64Array, k: number, bits: Uint8Array): void {
  if (table[k] > ALL_SET) editor.freeClusters(table[k], 1);
  table[k] = editor.allocateClusters(1);
  editor.writeHost(bits, table[k]);
}

/** Clears the bits behind the disk's end: a longer disk later must not find them set. */
function clearPast(
  editor: ImageEditor,
  table: Float64Array,
  bytes: number,
  size: number,
  granularityBits: number,
): void {
  const cs = editor.clusterSize;
  const last = table.length - 1;
  const value = table[last];
  const within = bytes - last * cs;
  if (value === ALL_CLEAR || (within === cs && size % 2 ** (granularityBits + 3) === 0)) return;
  const bits = readBits(editor, value);
  bits.fill(0, Math.max(0, within));
  const rest = Math.ceil(size / 2 ** granularityBits) % 8;
  if (within > 0 && rest !== 0) bits[within - 1] &= (1 << rest) - 1;
  replaceBits(editor, table, last, bits);
}

/**
 * Takes all bitmaps out of the image and gives their clusters back, where they are in step with the data; else only
 * the header's word of them.
 */
export function removeBitmaps(editor: ImageEditor): void {
  const { bitmaps, bitmapsValid } = editor.header;
  if (bitmaps === null) return;
  const cs = editor.clusterSize;
  if (bitmapsValid) {
    for (const b of readDirectory(editor)) {
      const bytes = editor.file.readTable("qcow2 bitmap table", b.tableOffset, b.tableEntries * 8);
      for (const value of parseBitmapTable(bytes, b.tableOffset, cs))
        if (value > ALL_SET) editor.freeClusters(value, 1);
      editor.freeClusters(b.tableOffset, Math.ceil(bytes.length / cs));
    }
    editor.freeClusters(bitmaps.offset, Math.ceil(bitmaps.size / cs));
  }
  editor.setHeader({ bitmaps: null });
}
