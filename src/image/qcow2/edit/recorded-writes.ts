import { ALL_CLEAR, BITMAP_FLAGS, readBitmaps } from "../bitmaps.ts";
import { type BitmapBits, BitmapEditor } from "./bitmap-editor.ts";
import type { ImageEditor } from "./image-editor.ts";

/** Units that are told apart, at most. */
const MOST = 2 ** 26;

/**
 * Keeps the bitmaps of an image in step while its data is written: what was written is noted, and `finish` sets the bits of
 * all bitmaps that record writes. A job that dies before leaves bitmaps that qemu knows to be out of step.
 */
export class RecordedWrites {
  private readonly editor: ImageEditor;
  private readonly shift: number;
  /** Null where there is no bitmap to keep. */
  private readonly bits: Uint8Array | null;
  private any = false;

  /** Before the first write. */
  constructor(editor: ImageEditor) {
    this.editor = editor;
    let shift = editor.header.clusterBits;
    while (editor.size / 2 ** shift > MOST) shift++;
    this.shift = shift;
    const { bitmaps, bitmapsValid } = editor.header;
    const units = Math.ceil(editor.size / 2 ** shift);
    this.bits = bitmaps !== null && bitmapsValid ? new Uint8Array(Math.ceil(units / 8)) : null;
  }

  /** Notes that guest bytes were written. */
  add(at: number, length: number): void {
    const { bits } = this;
    if (bits === null || length <= 0) return;
    this.any = true;
    const last = Math.floor((at + length - 1) / 2 ** this.shift);
    for (let i = Math.floor(at / 2 ** this.shift); i <= last; i++) bits[i >>> 3] |= 1 << (i & 7);
  }

  /** After the last write, before the commit that makes it durable. */
  async finish(): Promise<void> {
    const { editor, bits } = this;
    if (bits === null) return;
    editor.setHeader({ bitmapsValid: true });
    if (!this.any) return;
    const from = this.asBitmap(bits);
    const bitmaps = new BitmapEditor(editor);
    for (const entry of await readBitmaps(editor.file.source(), editor.header))
      if (entry.flags === BITMAP_FLAGS.auto) await bitmaps.merge(entry.name, from);
    bitmaps.store();
  }

  private asBitmap(bits: Uint8Array): BitmapBits {
    const { clusterSize, size } = this.editor;
    const table = new Float64Array(Math.ceil(bits.length / clusterSize));
    for (let i = 0; i < table.length; i++) {
      const used = bits.subarray(i * clusterSize, (i + 1) * clusterSize).some((b) => b !== 0);
      table[i] = used ? (i + 1) * clusterSize : ALL_CLEAR;
    }
    return {
      granularityBits: this.shift,
      size,
      clusterSize,
      table,
      read: (into, at) => {
        const part = bits.subarray(at - clusterSize, at - clusterSize + into.length);
        into.fill(0);
        into.set(part);
        return into.length;
      },
    };
  }
}
