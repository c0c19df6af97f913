import { ImprintError } from "../../../src/errors.ts";
import { BITMAP_FLAGS, type BitmapEntry, readBitmaps } from "../../../src/image/qcow2/bitmaps.ts";
import { BitmapEditor, bitmapBits } from "../../../src/image/qcow2/edit/bitmap-editor.ts";
import { type ImageEditor, openEditor } from "../../../src/image/qcow2/edit/editor.ts";
import { openDurableFile } from "../../../src/io/node/durable-file.ts";
import type { ConvertSettings } from "./convert-options.ts";
import type { ConvertInput } from "./convert-source.ts";
import { worded } from "./edit.ts";
import { QemuError, warn } from "./errors.ts";

/** What qemu calls an image whose name does not matter. */
const NODE = "#block200";

/**
 * The bitmaps that --bitmaps is to copy. Throws QemuError for one that was not closed cleanly,
 * unless these are skipped.
 */
export async function bitmapsToCopy(s: ConvertSettings, input: ConvertInput): Promise<BitmapEntry[]> {
  const [{ header, file }] = input.chains;
  const list = await readBitmaps(file, header!);
  const broken = (b: BitmapEntry): boolean => (b.flags & BITMAP_FLAGS.inUse) !== 0;
  for (const b of list)
    if (broken(b) && !s.skipBrokenBitmaps)
      throw new QemuError(
        `Cannot copy inconsistent bitmap '${b.name}'\n` +
          "Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it",
      );
  return list.filter((b) => {
    if (broken(b)) warn(`Skipping inconsistent bitmap '${b.name}'`);
    return !broken(b);
  });
}

/** Refuses bitmaps of names that an image has already; the last one is named, as native does. */
export function refuseKnown(list: readonly BitmapEntry[], editor: ImageEditor): void {
  const names = new Set(new BitmapEditor(editor).entries.map((b) => b.name));
  for (const { name } of [...list].reverse())
    if (names.has(name))
      throw new QemuError(`Failed to create bitmap ${name}: Bitmap already exists: ${name}`);
}

/** Copies bitmaps into an image that is being changed; the caller commits. Throws QemuError with native's text. */
export async function copyBitmaps(
  input: ConvertInput,
  list: readonly BitmapEntry[],
  editor: ImageEditor,
): Promise<void> {
  const [{ header, file }] = input.chains;
  const bitmaps = new BitmapEditor(editor);
  for (const b of list) {
    let step = "create";
    try {
      bitmaps.add(b.name, 2 ** b.granularityBits, NODE);
      step = "populate";
      await bitmaps.merge(b.name, await bitmapBits(file, header!, b));
      if ((b.flags & BITMAP_FLAGS.auto) === 0) bitmaps.setEnabled(b.name, false);
    } catch (error) {
      if (!(error instanceof ImprintError)) throw error;
      const text = "text" in error && typeof error.text === "string" ? error.text : worded(error);
      throw new QemuError(`Failed to ${step} bitmap ${b.name}: ${text}`);
    }
  }
  bitmaps.store();
}

/** Copies bitmaps into an image file that was just written, `size` bytes of it; returns its new size. */
export async function addBitmaps(
  input: ConvertInput,
  list: readonly BitmapEntry[],
  path: string,
  size: number,
): Promise<number> {
  const file = openDurableFile(path);
  try {
    if (!file.blockDevice) file.truncate(size);
    const editor = await openEditor(file, {});
    try {
      await copyBitmaps(input, list, editor);
      editor.commit();
    } finally {
      editor.close();
    }
    return file.blockDevice ? size : file.size();
  } finally {
    file.close();
  }
}
