import { ImprintError } from "../../../errors.ts";
import type { Preallocation } from "../create/options.ts";
import { COMPRESSED_HIGH, COPIED_HIGH, LIMIT, ZERO_LOW } from "../layout.ts";
import type { ImageEditor } from "./image-editor.ts";
import type { ImageFile } from "./image-file.ts";
import { demandUsable } from "./kept-bitmaps.ts";
import { offsetOf } from "./l2-cache.ts";
import { ALL, type L2Shape } from "./l2-entries.ts";
import { dropTables, shapeOf } from "./references.ts";

/** What a resize refuses, in qemu's words. */
export class ResizeError extends ImprintError {
  constructor(message: string, code = "EINVAL") {
    super(code, message);
  }
}

export interface ResizeOptions {
  /** Of the new part; "off" by default, "metadata" with a raw data file. */
  readonly preallocation?: Preallocation;
  /** Reserves bytes of a file; false where the host cannot: zeros are written then. */
  readonly reserve?: (file: "image" | "data", at: number, length: number) => boolean;
  /** Commit when done. Default true. */
  readonly commit?: boolean;
}

/**
 * Makes the disk `size` bytes long, and commits. New bytes read as zeros, also where the backing file has some
 * there; what is cut off is given back. Bitmaps and a raw data file follow. Throws ResizeError in qemu's words;
 * nothing has changed then.
 */
export async function resizeImage(
  editor: ImageEditor,
  size: number,
  options: ResizeOptions = {},
): Promise<void> {
  const { header } = editor;
  const old = editor.size;
  if (size % 512 !== 0) throw new ResizeError("The new size must be a multiple of 512");
  if (header.snapshots > 0 && header.version < 3)
    throw new ResizeError("Can't resize a v2 image which has snapshots", "ENOTSUP");
  demandUsable(editor, editor.keepBitmaps(), size);
  const end = Math.ceil(editor.file.size / editor.clusterSize) * editor.clusterSize;
  if (size < old) shrink(editor, size);
  else await grow(editor, size, old, options);
  const { data, file } = editor;
  const external = data !== file;
  // A kill must find the data file long enough for the image.
  if (external && size > old) data.grow(size);
  if (size !== old) editor.setHeader({ size });
  if (options.commit === false) return;
  editor.commit();
  if (external) data.resize(size);
  else if (size < old) {
    moveDown(editor, end);
    file.cut(editor.refcounts.end() * editor.clusterSize);
  }
}

/** Tables went behind the end as nothing else was free: now there is room. */
function moveDown(editor: ImageEditor, end: number): void {
  if (!editor.moveTables(end)) return;
  editor.keepBitmaps();
  editor.commit();
}

function shrink(editor: ImageEditor, size: number): void {
  const { l2, writer } = editor;
  const shape = shapeOf(editor);
  const cs = shape.clusterSize;
  const first = Math.ceil(size / cs);
  const tables = Math.ceil(size / cs / shape.perTable);
  const part = Math.floor(first / shape.perTable);
  if (part < tables && l2.at(part) !== 0 && first % shape.perTable !== 0)
    writer.discardIn(part, first, (part + 1) * shape.perTable);
  dropTables(editor, tables);
}

async function grow(editor: ImageEditor, size: number, old: number, options: ResizeOptions): Promise<void> {
  const { l2, header } = editor;
  const shape = shapeOf(editor);
  const cs = shape.clusterSize;
  const mode = options.preallocation ?? (header.external && header.rawDataFile ? "metadata" : "off");
  const entries = Math.ceil(size / cs / shape.perTable);
  if (entries * 8 > LIMIT.l1) throw new ResizeError("Failed to grow the L1 table: File too large", "EFBIG");
  refuseDevice(editor, size, mode);
  const below = editor.below > old;
  if (below && header.version < 3)
    throw new ResizeError("Failed to zero out new clusters: Operation not supported", "ENOTSUP");
  if (size === old) return;
  if (entries > l2.l1.length / 2) l2.resize(entries);
  // The rest of the last cluster can hold anything: it was never read.
  const tail = Math.min(Math.ceil(old / cs) * cs, size);
  editor.setHeader({ size });
  if (tail > old) {
    const r = below ? editor.writer.writeZeros(old, tail - old) : clearTail(editor, old, tail);
    if (r instanceof Promise) await r;
  }
  if (mode === "falloc" || mode === "full") fillNew(editor, old, size, mode, options);
  else {
    if (below && tail < size) editor.writer.markZero(tail, size);
    if (mode === "metadata") placeNew(editor, old, size);
  }
}

/** Refuses what a device cannot do: neither grow nor reserve bytes. */
function refuseDevice({ data, file }: ImageEditor, size: number, mode: Preallocation): void {
  const external = data !== file;
  if (!data.device || (external && size <= data.size)) return;
  const unsupported = `Preallocation mode '${mode}' unsupported for this non-regular file`;
  if (mode === "falloc" || mode === "full")
    throw new ResizeError(
      external ? unsupported : `Failed to resize underlying file: ${unsupported}`,
      "ENOTSUP",
    );
  if (external) throw new ResizeError("Cannot resize device files", "EINVAL");
}

/** Zeros bytes of a cluster that holds some of the old disk, if it holds bytes at all. */
function clearTail(editor: ImageEditor, from: number, to: number): void | Promise<void> {
  const shape = shapeOf(editor);
  const cluster = Math.floor(from / shape.clusterSize);
  const table = editor.l2.get(Math.floor(cluster / shape.perTable));
  if (table === null) return;
  const p = (cluster % shape.perTable) * shape.words;
  if ((table.words[p] | table.words[p + 1]) === 0) return;
  return editor.writer.writeZeros(from, to - from);
}

/** Number of the first cluster behind the end of the file and of all that is counted. */
function behindEnd(editor: ImageEditor): number {
  return Math.max(Math.ceil(editor.file.size / editor.clusterSize), editor.refcounts.end());
}

/** New clusters that have no place. */
function countNew(editor: ImageEditor, old: number, size: number): number {
  const shape = shapeOf(editor);
  const last = Math.ceil(size / shape.clusterSize);
  let n = 0;
  for (let c = Math.floor(old / shape.clusterSize); c < last; ) {
    const i = Math.floor(c / shape.perTable);
    const end = Math.min(last, (i + 1) * shape.perTable);
    const table = editor.l2.get(i);
    if (table === null) n += end - c;
    else for (let k = c; k < end; k++) if (!placed(editor, shape, table.words, k)) n++;
    c = end;
  }
  return n;
}

/** True where a cluster has a place, or is compressed. */
function placed(editor: ImageEditor, shape: L2Shape, words: Uint32Array, cluster: number): boolean {
  const p = (cluster % shape.perTable) * shape.words;
  if (words[p] & COMPRESSED_HIGH || offsetOf(words[p], words[p + 1]) !== 0) return true;
  return editor.header.external && (words[p] & COPIED_HIGH) !== 0;
}

/**
 * Gives each new cluster that has none a place: from cluster `first` of the file on, which the caller has taken and
 * whose bytes are there; or, without `first`, behind the file's end, where nothing is stored and everything reads as
 * zeros (on a device, wherever clusters are free: these are zeroed).
 */
function placeNew(editor: ImageEditor, old: number, size: number, first?: number): void {
  const { l2, refcounts, data } = editor;
  const shape = shapeOf(editor);
  const cs = shape.clusterSize;
  const { external } = editor.header;
  const last = Math.ceil(size / cs);
  const wanted: number[] = [];
  for (let c = Math.floor(old / cs); c < last; ) {
    const i = Math.floor(c / shape.perTable);
    const end = Math.min(last, (i + 1) * shape.perTable);
    const { words } = l2.own(i);
    wanted.length = 0;
    for (; c < end; c++) if (!placed(editor, shape, words, c)) wanted.push(c);
    for (let k = 0; k < wanted.length; ) {
      let n = wanted.length - k;
      let at = first ?? (external ? 0 : behindEnd(editor));
      if (first !== undefined) first += n;
      else if (!external && data.device) {
        at = refcounts.takeUpTo(n);
        n = refcounts.taken;
        zeroClusters(editor, at, n);
      } else if (!external) {
        refcounts.takeAt(at, n);
        data.grow((at + n) * cs);
      }
      for (let i = 0; i < n; i++) {
        const cluster = wanted[k + i];
        const p = (cluster % shape.perTable) * shape.words;
        point(words, p, (external ? cluster : at + i) * cs, shape.extended, first !== undefined);
      }
      k += n;
    }
    editor.relieve();
  }
}

const PIECE = 1024 * 1024;

/** Zeros clusters of a device. */
function zeroClusters({ data, clusterSize }: ImageEditor, first: number, n: number): void {
  const end = (first + n) * clusterSize;
  if (end > data.size) throw new ResizeError("Cannot grow device files");
  writeZeros(data, first * clusterSize, end);
}

function writeZeros(data: ImageFile, from: number, to: number): void {
  const zeros = new Uint8Array(Math.min(PIECE, to - from));
  for (let at = from; at < to; at += zeros.length)
    data.write(zeros.subarray(0, Math.min(zeros.length, to - at)), at);
}

/** Makes an entry refer to a cluster; `stored`: all of it is data, else what is marked as zeros stays so. */
function point(words: Uint32Array, p: number, at: number, extended: boolean, stored: boolean): void {
  const high = Math.floor(at / 0x100000000);
  const zero = stored || extended ? 0 : words[p + 1] & ZERO_LOW;
  words[p] = (high | COPIED_HIGH) >>> 0;
  words[p + 1] = ((at % 0x100000000) | zero) >>> 0;
  if (!extended) return;
  if (stored) words[p + 2] = 0;
  words[p + 3] = (ALL & ~words[p + 2]) >>> 0;
}

/** Reserves or writes the bytes of all new clusters in a row behind the file's end. */
function fillNew(
  editor: ImageEditor,
  old: number,
  size: number,
  mode: "falloc" | "full",
  options: ResizeOptions,
): void {
  const { file, data } = editor;
  const cs = editor.clusterSize;
  const external = data !== file;
  const from = external ? old : behindEnd(editor) * cs;
  const clusters = countNew(editor, old, size);
  if (!external && clusters > 0) editor.refcounts.takeAt(from / cs, clusters);
  const to = external ? size : from + clusters * cs;
  data.grow(to);
  const reserved =
    mode === "falloc" && options.reserve?.(external ? "data" : "image", from, to - from) === true;
  placeNew(editor, old, size, external ? 0 : from / cs);
  if (!reserved) writeZeros(data, from, to);
}
