import type { Source } from "../../../io/source.ts";
import { Kernel } from "../../../kernel/kernel.ts";
import {
  ALL_CLEAR,
  ALL_SET,
  BITMAP_FLAGS,
  type BitmapEntry,
  BitmapError,
  bitmapTableEntries,
  bitmapTooLarge,
  inconsistentText,
  isInUse,
  parseBitmapDirectory,
  parseBitmapTable,
  readBitmapTable,
  serializeBitmapDirectory,
} from "../bitmaps.ts";
import type { Qcow2Header } from "../header.ts";
import { LIMIT } from "../layout.ts";
import type { Editor } from "./types.ts";

/** The bits of a bitmap, wherever it is. */
export interface BitmapBits {
  readonly granularityBits: number;
  /** Guest bytes that the bitmap describes. */
  readonly size: number;
  readonly clusterSize: number;
  /** See `parseBitmapTable`. */
  readonly table: Float64Array;
  /** Reads the cluster of bits at a host offset. */
  read(into: Uint8Array, at: number): number | Promise<number>;
}

/**
 * A bitmap of another image, to be merged from. Throws BitmapError where it was not closed cleanly, or its table is
 * damaged.
 */
export async function bitmapBits(
  source: Source,
  header: Qcow2Header,
  entry: BitmapEntry,
): Promise<BitmapBits> {
  demandUsable(entry);
  const table = await readBitmapTable(source, header, entry);
  const { granularityBits } = entry;
  const { clusterSize, size } = header;
  return { granularityBits, size, clusterSize, table, read: (into, at) => source.read(into, at) };
}

interface OpenBitmap {
  entry: BitmapEntry;
  /** Read where it is needed; null until then. */
  table: Float64Array | null;
  /** The table differs from what the directory names. */
  changed: boolean;
}

/**
 * The bitmaps of an image that is being changed. Everything goes to new clusters; `store`, then the editor's `commit`,
 * makes it the image's. Errors are BitmapError, in qemu's words.
 */
export class BitmapEditor {
  private readonly editor: Editor;
  private readonly list: OpenBitmap[];
  private readonly clusterSize: number;
  /** Clusters of bits that were allocated since the last commit. */
  private readonly fresh = new Set<number>();
  private changed = false;

  /** Reads the directory. Bitmaps that are out of step with the data are none. */
  constructor(editor: Editor) {
    this.editor = editor;
    this.clusterSize = editor.header.clusterSize;
    const { bitmaps, bitmapsValid } = editor.header;
    this.list = [];
    if (bitmaps === null || !bitmapsValid) return;
    const directory = new Uint8Array(bitmaps.size);
    editor.readHost(directory, bitmaps.offset);
    this.list = parseBitmapDirectory(directory, bitmaps.count, bitmaps.offset, editor.header).map(
      (entry) => ({ entry, table: null, changed: false }),
    );
  }

  get entries(): readonly BitmapEntry[] {
    return this.list.map((b) => b.entry);
  }

  /** Bytes of guest data that a bit stands for where nobody says. */
  get defaultGranularity(): number {
    return Math.min(65536, Math.max(4096, this.clusterSize));
  }

  /** Throws where there is no such bitmap. */
  demand(name: string): void {
    this.find(name);
  }

  /** Adds an empty bitmap that records writes. `granularity` in bytes. `node` is what qemu calls the image. */
  add(name: string, granularity: number, node: string): void {
    const { header } = this.editor;
    const fail = (text: string): never => {
      throw new BitmapError(-1, text);
    };
    const nameBytes = new TextEncoder().encode(name);
    if (name === "") fail("Bitmap name cannot be empty");
    if (granularity < 512 || !Number.isInteger(Math.log2(granularity)))
      fail("Granularity must be power of 2 and at least 512");
    const never = (text: string): never =>
      fail(`Can't make bitmap '${name}' persistent in '${node}': ${text}`);
    if (header.version < 3) never("Cannot store dirty bitmaps in qcow2 v2 files");
    if (header.size === 0) never("an image of 0 bytes has nothing to track");
    if (this.list.some((b) => b.entry.name === name)) fail(`Bitmap already exists: ${name}`);
    const granularityBits = Math.log2(granularity);
    if (bitmapTooLarge(header.size, granularityBits, this.clusterSize))
      never("Too much space will be occupied by the bitmap. Use larger granularity");
    if (nameBytes.length > LIMIT.bitmapName)
      never(`Name length exceeds maximum (${LIMIT.bitmapName} characters)`);
    if (this.list.length >= LIMIT.bitmaps) never("Maximum number of persistent bitmaps is already reached");
    const tableEntries = bitmapTableEntries(header.size, granularityBits, this.clusterSize);
    const entry: BitmapEntry = {
      name,
      nameBytes,
      granularityBits,
      flags: BITMAP_FLAGS.auto,
      tableOffset: 0,
      tableEntries,
    };
    if (serializeBitmapDirectory([...this.entries, entry]).length > LIMIT.bitmapDirectory)
      never("Not enough space in the bitmap directory");
    this.list.push({ entry, table: new Float64Array(tableEntries), changed: true });
    this.changed = true;
  }

  /** Removes a bitmap, also one that was not closed cleanly. */
  remove(name: string): void {
    const bitmap = this.find(name);
    // The bits of a bitmap that cannot be trusted, too, are this bitmap's alone.
    for (const at of this.table(bitmap)) if (at > ALL_SET) this.release(at);
    this.releaseTable(bitmap.entry);
    this.list.splice(this.list.indexOf(bitmap), 1);
    this.changed = true;
  }

  /** Clears all bits. */
  clear(name: string): void {
    const bitmap = this.usable(name);
    const table = this.table(bitmap);
    for (let i = 0; i < table.length; i++) {
      if (table[i] === ALL_CLEAR) continue;
      if (table[i] > ALL_SET) this.release(table[i]);
      table[i] = ALL_CLEAR;
      this.touch(bitmap);
    }
  }

  /** Sets whether a bitmap records writes. */
  setEnabled(name: string, enabled: boolean): void {
    const bitmap = this.usable(name);
    const flags = enabled ? bitmap.entry.flags | BITMAP_FLAGS.auto : bitmap.entry.flags & ~BITMAP_FLAGS.auto;
    if (flags === bitmap.entry.flags) return;
    bitmap.entry = { ...bitmap.entry, flags };
    this.changed = true;
  }

  /** The bits of a bitmap of this image. */
  bits(name: string): BitmapBits {
    const bitmap = this.usable(name);
    return {
      granularityBits: bitmap.entry.granularityBits,
      size: this.editor.size,
      clusterSize: this.clusterSize,
      table: this.table(bitmap),
      read: (into, at) => {
        this.editor.readHost(into, at);
        return into.length;
      },
    };
  }

  /** Sets every bit of a bitmap whose bytes have one in `from`. */
  async merge(name: string, from: BitmapBits): Promise<void> {
    const bitmap = this.usable(name);
    const { size } = this.editor;
    if (from.size !== size)
      throw new BitmapError(
        -1,
        `Bitmaps are of different sizes (destination size is ${size}, source size is ${from.size}) and can't be merged`,
      );
    if (this.table(bitmap) === from.table) return;
    const writer = new BitWriter(this, bitmap, this.editor);
    const kernel = Kernel.get();
    const slot = kernel.take(from.clusterSize);
    try {
      const perCluster = from.clusterSize * 8;
      const bits = Math.ceil(size / 2 ** from.granularityBits);
      for (let i = 0; i < from.table.length; i++) {
        const at = from.table[i];
        if (at === ALL_CLEAR) continue;
        const base = i * perCluster;
        const count = Math.min(perCluster, bits - base);
        if (count <= 0) break;
        if (at === ALL_SET) {
          writer.set(base, base + count, from.granularityBits);
          continue;
        }
        slot.bytes.fill(0);
        const r = from.read(slot.bytes, at);
        if (r instanceof Promise) await r;
        for (let next = 0; next < count; ) {
          const pairs = kernel.setRuns(slot.at, next, count);
          if (pairs === 0) break;
          const runs = kernel.out.slice(0, 2 * pairs);
          for (let p = 0; p < pairs; p++) {
            const first = runs[2 * p];
            const end = first + runs[2 * p + 1];
            writer.set(base + first, base + end, from.granularityBits);
            next = end;
          }
        }
      }
      writer.flush();
    } finally {
      kernel.give(slot);
    }
  }

  /** Writes tables and directory to new clusters and sets the header: the caller commits. */
  store(): void {
    if (!this.changed) return;
    const { editor, clusterSize } = this;
    for (const bitmap of this.list) {
      if (!bitmap.changed) continue;
      const table = bitmap.table!;
      const bytes = new Uint8Array(Math.ceil((table.length * 8) / clusterSize) * clusterSize);
      const view = new DataView(bytes.buffer);
      table.forEach((at, i) => {
        view.setUint32(i * 8, Math.floor(at / 0x100000000));
        view.setUint32(i * 8 + 4, at % 0x100000000);
      });
      const offset = bytes.length === 0 ? 0 : editor.allocateClusters(bytes.length / clusterSize);
      if (bytes.length > 0) editor.writeHost(bytes, offset);
      this.releaseTable(bitmap.entry);
      bitmap.entry = { ...bitmap.entry, tableOffset: offset };
      bitmap.changed = false;
    }
    const { bitmaps, bitmapsValid } = editor.header;
    const before = bitmapsValid ? bitmaps : null;
    if (this.list.length === 0) editor.setHeader({ bitmaps: null, bitmapsValid: false });
    else {
      const directory = serializeBitmapDirectory(this.entries);
      const bytes = new Uint8Array(Math.ceil(directory.length / clusterSize) * clusterSize);
      bytes.set(directory);
      const offset = editor.allocateClusters(bytes.length / clusterSize);
      editor.writeHost(bytes, offset);
      editor.setHeader({
        bitmaps: { count: this.list.length, size: directory.length, offset },
        bitmapsValid: true,
      });
    }
    if (before !== null) editor.freeClusters(before.offset, Math.ceil(before.size / clusterSize));
    this.fresh.clear();
    this.changed = false;
  }

  /** Gives a cluster of bits back. */
  release(at: number): void {
    this.fresh.delete(at);
    this.editor.freeClusters(at, 1);
  }

  /**
   * Where to write a changed cluster of bits that is at `at` now (0: nowhere): in place only where nobody reads it yet.
   */
  place(at: number): number {
    if (this.fresh.has(at)) return at;
    const to = this.editor.allocateClusters(1);
    this.fresh.add(to);
    if (at > ALL_SET) this.release(at);
    return to;
  }

  touch(bitmap: OpenBitmap): void {
    bitmap.changed = true;
    this.changed = true;
  }

  table(bitmap: OpenBitmap): Float64Array {
    if (bitmap.table === null) {
      const { tableOffset, tableEntries } = bitmap.entry;
      const bytes = new Uint8Array(tableEntries * 8);
      this.editor.readHost(bytes, tableOffset);
      bitmap.table = parseBitmapTable(bytes, tableOffset, this.clusterSize);
    }
    return bitmap.table;
  }

  private releaseTable(entry: BitmapEntry): void {
    if (entry.tableOffset !== 0)
      this.editor.freeClusters(entry.tableOffset, Math.ceil((entry.tableEntries * 8) / this.clusterSize));
  }

  private find(name: string): OpenBitmap {
    const bitmap = this.list.find((b) => b.entry.name === name);
    if (bitmap === undefined) throw new BitmapError(-1, `Dirty bitmap '${name}' not found`);
    return bitmap;
  }

  private usable(name: string): OpenBitmap {
    const bitmap = this.find(name);
    demandUsable(bitmap.entry);
    return bitmap;
  }
}

/** Throws BitmapError for a bitmap that was not closed cleanly. */
function demandUsable(entry: BitmapEntry): void {
  if (isInUse(entry)) throw new BitmapError(-1, inconsistentText(entry.name));
}

/** Sets bits of a bitmap in ascending order, one cluster of bits in memory. */
class BitWriter {
  private readonly owner: BitmapEditor;
  private readonly bitmap: OpenBitmap;
  private readonly editor: Editor;
  private readonly granularity: number;
  private readonly cluster: Uint8Array;
  private index = -1;
  private dirty = false;

  constructor(owner: BitmapEditor, bitmap: OpenBitmap, editor: Editor) {
    this.owner = owner;
    this.bitmap = bitmap;
    this.editor = editor;
    this.granularity = 2 ** bitmap.entry.granularityBits;
    this.cluster = new Uint8Array(editor.header.clusterSize);
  }

  /** Sets the bits whose bytes bits [from, to) of 2^granularityBits bytes each touch. */
  set(from: number, to: number, granularityBits: number): void {
    const { size } = this.editor;
    const unit = 2 ** granularityBits;
    const end = Math.ceil(Math.min(size, to * unit) / this.granularity);
    const perCluster = this.cluster.length * 8;
    for (let bit = Math.floor((from * unit) / this.granularity); bit < end; ) {
      const i = Math.floor(bit / perCluster);
      const stop = Math.min(end, (i + 1) * perCluster);
      this.load(i);
      this.fill(bit - i * perCluster, stop - i * perCluster);
      bit = stop;
    }
  }

  private fill(from: number, to: number): void {
    const b = this.cluster;
    let bit = from;
    for (; bit < to && (bit & 7) !== 0; bit++) this.or(bit >>> 3, 1 << (bit & 7));
    const whole = (to - bit) >>> 3;
    for (let i = 0; i < whole; i++, bit += 8)
      if (b[bit >>> 3] !== 0xff) {
        b[bit >>> 3] = 0xff;
        this.dirty = true;
      }
    for (; bit < to; bit++) this.or(bit >>> 3, 1 << (bit & 7));
  }

  private or(i: number, mask: number): void {
    if ((this.cluster[i] & mask) !== 0) return;
    this.cluster[i] |= mask;
    this.dirty = true;
  }

  private load(i: number): void {
    if (i === this.index) return;
    this.flush();
    this.index = i;
    const at = this.owner.table(this.bitmap)[i];
    if (at > ALL_SET) this.editor.readHost(this.cluster, at);
    else this.cluster.fill(at === ALL_SET ? 0xff : 0);
  }

  flush(): void {
    if (!this.dirty) return;
    const table = this.owner.table(this.bitmap);
    table[this.index] = this.owner.place(table[this.index]);
    this.editor.writeHost(this.cluster, table[this.index]);
    this.owner.touch(this.bitmap);
    this.dirty = false;
  }
}
