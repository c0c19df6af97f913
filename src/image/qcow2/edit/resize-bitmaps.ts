import { putU64be } from "../../../bytes/endian.ts";
import { ImprintError } from "../../../errors.ts";
import {
  ALL_CLEAR,
  ALL_SET,
  BITMAP_FLAGS,
  type BitmapEntry,
  bitmapBytes,
  bitmapTableEntries,
  parseBitmapDirectory,
  parseBitmapTable,
  serializeBitmapDirectory,
} from "../bitmaps.ts";
import type { ImageEditor } from "./image-editor.ts";

/**
 * The bitmaps of an image, all of which can follow a change of its size; none where it has none or they are out of step
 * with the data. Throws ImprintError "EINVAL" in qemu's words for one that cannot be used.
 */
export function usableBitmaps(editor: ImageEditor): readonly BitmapEntry[] {
  if (editor.header.bitmaps === null || !editor.header.bitmapsValid) return [];
  const list = readDirectory(editor);
  for (const b of list)
    if ((b.flags & BITMAP_FLAGS.inUse) !== 0)
      throw new ImprintError(
        "EINVAL",
        `Bitmap '${b.name}' is inconsistent and cannot be used\nTry block-dirty-bitmap-remove to delete this bitmap from disk`,
      );
  return list;
}

function readDirectory(editor: ImageEditor): BitmapEntry[] {
  const { count, offset, size } = editor.header.bitmaps!;
  const bytes = editor.file.readTable("qcow2 bitmap directory", offset, size);
  return parseBitmapDirectory(bytes, count, offset, editor.header);
}

/** Gives the bitmaps of `usableBitmaps` the length that a disk of `size` bytes needs: new bits are clear. Valid again then. */
export function resizeBitmaps(editor: ImageEditor, list: readonly BitmapEntry[], size: number): void {
  if (list.length === 0) return;
  const cs = editor.clusterSize;
  const clustersOf = (bytes: number) => Math.ceil(bytes / cs);
  const next = list.map((b) => {
    const bytes = editor.file.readTable("qcow2 bitmap table", b.tableOffset, b.tableEntries * 8);
    const table = parseBitmapTable(bytes, b.tableOffset, cs);
    const entries = bitmapTableEntries(size, b.granularityBits, cs);
    const wanted = new Float64Array(Math.max(1, entries));
    wanted.set(table.subarray(0, wanted.length));
    for (let i = wanted.length; i < table.length; i++)
      if (table[i] > ALL_SET) editor.freeClusters(table[i], 1);
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
  const old = editor.header.bitmaps!;
  editor.freeClusters(old.offset, clustersOf(old.size));
  const directory = serializeBitmapDirectory(next);
  const offset = editor.allocateClusters(clustersOf(directory.length));
  const padded = new Uint8Array(clustersOf(directory.length) * cs);
  padded.set(directory);
  editor.writeHost(padded, offset);
  editor.setHeader({ bitmaps: { count: list.length, size: directory.length, offset }, bitmapsValid: true });
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
  const bits = new Uint8Array(cs);
  if (value === ALL_SET) bits.fill(0xff);
  else editor.readHost(bits, value);
  bits.fill(0, Math.max(0, within));
  const rest = Math.ceil(size / 2 ** granularityBits) % 8;
  if (within > 0 && rest !== 0) bits[within - 1] &= (1 << rest) - 1;
  if (value !== ALL_SET) editor.freeClusters(value, 1);
  const at = editor.allocateClusters(1);
  editor.writeHost(bits, at);
  table[last] = at;
}

/** Takes all bitmaps out of the image and gives their clusters back, where they are in step with the data; else only the header's word of them. */
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
