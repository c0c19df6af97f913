import type { JobOptions } from "../../../src/engine/api.ts";
import type { CompressedSink } from "../../../src/engine/requests/copy-compressed.ts";
import { rawSink } from "../../../src/engine/requests/sinks.ts";
import { RefusedError } from "../../../src/errors.ts";
import { type CopyOutput, conversionError, copyInput } from "./convert-copy.ts";
import type { ConvertSettings } from "./convert-options.ts";
import type { ConvertInput } from "./convert-source.ts";
import { editImage } from "./edit.ts";
import { QemuError } from "./errors.ts";
import { type Editable, openEditable } from "./open.ts";
import { checkCache } from "./options.ts";
import type { QemuProgress } from "./progress.ts";

/** -n: converts into an image or device that is there. Throws QemuError with native's text. */
export async function convertIntoExisting(
  s: ConvertSettings,
  input: ConvertInput,
  progress: QemuProgress,
  options: JobOptions,
): Promise<void> {
  checkCache(s.cache);
  const image = await openEditable(s.target!, {
    format: s.targetImageOpts ? null : s.outputFormat,
    imageOpts: s.targetImageOpts,
    warnRaw: false,
    encrypted: "refuse",
  });
  try {
    await checkApart(s, input, image);
    if (s.bitmaps && (image.header === null || image.header.version < 3))
      throw new QemuError(`Format driver '${image.format}' does not support bitmaps`);
    if (s.compressed && image.header === null)
      throw new QemuError("Compression not supported for this file format");
    if (image.header === null) await intoRaw(s, input, image, progress, options);
    else await intoImage(s, input, image, progress, options);
  } catch (error) {
    throw conversionError(error);
  } finally {
    await image.close();
  }
}

/** A source must not be written to. */
async function checkApart(s: ConvertSettings, input: ConvertInput, image: Editable): Promise<void> {
  const { checkTarget } = await import("../../../src/io/node/safety.ts");
  try {
    checkTarget(image.path, { sources: input.paths });
  } catch (error) {
    if (error instanceof RefusedError && error.code === "ESAMEFILE")
      throw new QemuError(
        `Could not open '${s.target}': Failed to get "write" lock\nIs another process using the image [${s.target}]?`,
      );
    if (error instanceof RefusedError) throw new QemuError(`Could not open '${s.target}': ${error.message}`);
    throw error;
  }
}

async function intoRaw(
  s: ConvertSettings,
  input: ConvertInput,
  image: Editable,
  progress: QemuProgress,
  options: JobOptions,
): Promise<void> {
  const size = input.sectors * 512;
  if (Math.floor(image.file.size() / 512) * 512 < size && Math.ceil(image.file.size() / 512) * 512 < size)
    throw new QemuError("output file is smaller than input file");
  const { openInPlaceTarget } = await import("../../../src/io/node/in-place-target.ts");
  const target = openInPlaceTarget(image.path);
  try {
    const sink = rawSink(target, size, s.targetIsZero);
    await copyInput(s, input, plain(s, sink), progress, options);
    await target.commit(Math.max(size, image.file.size()));
  } catch (error) {
    await target.abort();
    throw error;
  }
}

async function intoImage(
  s: ConvertSettings,
  input: ConvertInput,
  image: Editable,
  progress: QemuProgress,
  options: JobOptions,
): Promise<void> {
  if (image.header!.size < input.sectors * 512) throw new QemuError("output file is smaller than input file");
  const editor = await editImage(image);
  try {
    const { header } = editor;
    const sink: CompressedSink = {
      write: (bytes, at) => editor.write(bytes, at),
      zero: s.targetIsZero ? null : (at, length) => editor.writeZeros(at, length),
      writeCompressed: (stream, at) => editor.writeCompressed(stream, at),
      finish: () => 0,
    };
    const compression = s.compressed
      ? { clusterSize: header.clusterSize, zstd: header.compressionType === 1 }
      : null;
    const { bitmapsToCopy, copyBitmaps, refuseKnown } = await import("./convert-bitmaps.ts");
    const bitmaps = s.bitmaps ? await bitmapsToCopy(s, input) : [];
    if (bitmaps.length > 0) refuseKnown(bitmaps, editor);
    await copyInput(s, input, { ...plain(s, sink), compression }, progress, options);
    editor.commit();
    if (bitmaps.length > 0) {
      await copyBitmaps(input, bitmaps, editor);
      editor.commit();
    }
  } finally {
    editor.close();
  }
}

/** With -B what a source leaves to its own backing file is left alone. */
function plain(s: ConvertSettings, sink: CopyOutput["sink"]): CopyOutput {
  return { sink, backed: s.backing !== null, backingSectors: -1, compression: null };
}
