import { dirname, resolve } from "node:path";
import type { JobOptions } from "../../../src/engine/api.ts";
import { type LayoutSpec, packerOf } from "../../../src/engine/copy/spec.ts";
import { mappedSink } from "../../../src/engine/requests/mapped-sink.ts";
import { layoutOfNew } from "../../../src/engine/requests/new-image.ts";
import { mappedOverlaySink, overlaySink } from "../../../src/engine/requests/overlay-sink.ts";
import { packedSink, rawSink } from "../../../src/engine/requests/sinks.ts";
import { sourceOfTarget } from "../../../src/engine/verify.ts";
import { writeImage } from "../../../src/engine/write.ts";
import { AbortError } from "../../../src/errors.ts";
import { type CreatedQcow2, createQcow2 } from "../../../src/image/qcow2/create/create.ts";
import type { Qcow2CreateOptions } from "../../../src/image/qcow2/create/options.ts";
import { HEADER_BYTES, parseHeader } from "../../../src/image/qcow2/header.ts";
import { Pace } from "../../../src/io/pace.ts";
import type { Target } from "../../../src/io/target.ts";
import { type CopyOutput, conversionError, copyInput, rulesOf } from "./convert-copy.ts";
import type { NewImage } from "./convert-create.ts";
import type { ConvertSettings } from "./convert-options.ts";
import { askForHoles, type ConvertInput } from "./convert-source.ts";
import { isStream, openNewTarget, openSpool, openStream } from "./convert-target.ts";
import { qcow2Trouble, rawTrouble } from "./device-target.ts";
import { QemuError } from "./errors.ts";
import { emptyTarget, type NewFile } from "./new-file.ts";
import { type OpenedChain, openImage } from "./open.ts";
import { checkCache } from "./options.ts";
import type { QemuProgress } from "./progress.ts";

/** Clusters are placed as they come and all that is left out reads as zeros: the engine's own copy does it. */
function isPlain(s: ConvertSettings, image: NewImage): boolean {
  if (s.bitmaps || s.compressed || s.salvage || s.rate > 0 || rulesOf(s).least === 0) return false;
  if (image.format === "raw") return true;
  const o = image.options;
  return o.backingFile === null && o.dataFile === null && o.preallocation === "off";
}

/** Converts into a new image, which appears when it is complete. Throws QemuError with native's text. */
export async function convertIntoNew(
  s: ConvertSettings,
  input: ConvertInput,
  image: NewImage,
  progress: QemuProgress,
  options: JobOptions,
): Promise<void> {
  const name = s.target!;
  checkCache(s.cache);
  if (s.bitmaps) {
    const { bitmapsToCopy } = await import("./convert-bitmaps.ts");
    if (image.format === "raw" || image.options.version < 3)
      throw new QemuError(`Format driver '${s.outputFormat}' does not support bitmaps`);
    input.bitmaps.push(...(await bitmapsToCopy(s, input)));
  }
  const plain = isPlain(s, image);
  if (isStream(name)) {
    const stream = await openStream(name, image.format);
    try {
      if (plain) await writePlain(s, input, image, stream, progress, options);
      else await writeSpooled(s, input, image, stream, progress, options);
    } catch (error) {
      await stream.abort();
      throw conversionError(error);
    }
    return;
  }
  const file = await openNewTarget(name, image.format, input.paths);
  try {
    if (image.format === "raw") {
      const size = input.sectors * 512;
      const { preallocation } = image.options;
      refuse(s, image, rawTrouble(file, size, preallocation));
      file.allocate(0, size, preallocation);
    } else if (plain) refuse(s, image, qcow2Trouble(file, null, image.options));
    if (plain) await writePlain(s, input, image, file.target, progress, options);
    else await file.target.commit(await writeRequests(s, input, image, file, progress, options));
  } catch (error) {
    file.target.abort();
    throw conversionError(error);
  }
}

/** Ends the command where an image cannot be made, for what native says of that (or null). */
function refuse(s: ConvertSettings, image: NewImage, trouble: string | null): void {
  if (trouble !== null)
    throw new QemuError(`${s.target}: error while converting ${image.format}: ${trouble}`);
}

async function writePlain(
  s: ConvertSettings,
  input: ConvertInput,
  image: NewImage,
  target: Target,
  progress: QemuProgress,
  options: JobOptions,
): Promise<void> {
  const layout: LayoutSpec =
    image.format === "raw"
      ? { kind: "raw", clusterSize: 4096, guestSize: input.sectors * 512, offset: 0 }
      : layoutOfNew(image.options, rulesOf(s), false);
  const { signal, bulk } = options;
  await writeImage(input.disk, target, {
    layout,
    onProgress: (p) => progress.update(p.phase === "copy" ? p.done : 0, p.total),
    ...(signal === undefined ? {} : { signal }),
    ...(bulk === undefined || !input.bulk ? {} : { bulk }),
  });
}

/** Writes what has to seek into a temporary file, and that into the stream. */
async function writeSpooled(
  s: ConvertSettings,
  input: ConvertInput,
  image: NewImage,
  stream: Target,
  progress: QemuProgress,
  options: JobOptions,
): Promise<void> {
  const file = await openSpool();
  try {
    const size = await writeRequests(s, input, image, file, progress, options);
    const pace = new Pace(() => {
      if (options.signal?.aborted) throw new AbortError();
    });
    const bytes = new Uint8Array(512 * 1024);
    const source = sourceOfTarget(file.target, size);
    for (let at = 0; at < size; at += bytes.length) {
      const part = bytes.subarray(0, Math.min(bytes.length, size - at));
      await source.read(part, at);
      const r = stream.write(part, at);
      if (r instanceof Promise) await r;
      const wait = pace.step();
      if (wait !== undefined) await wait;
    }
    await stream.commit(size);
  } finally {
    file.target.abort();
  }
}

/** Writes an image request by request; returns its size, to be committed. */
async function writeRequests(
  s: ConvertSettings,
  input: ConvertInput,
  image: NewImage,
  file: NewFile,
  progress: QemuProgress,
  options: JobOptions,
): Promise<number> {
  if (image.format === "raw") {
    const { target } = file;
    const sink = rawSink(target, input.sectors * 512, target.fresh);
    await copyInput(s, input, output(sink), progress, options);
    return sink.finish();
  }
  const target = emptyTarget(file);
  const o = image.options;
  const unit = o.extendedL2 ? o.clusterSize / 32 : o.clusterSize;
  const data = o.dataFile === null ? null : await openData(s, input, o.dataFile);
  let backing: OpenedChain | null = null;
  try {
    refuse(s, image, qcow2Trouble(file, data, o));
    backing = o.backingFile === null ? null : await openBacking(s, o);
    const disk = data?.target;
    let made: CreatedQcow2 | null = null;
    let sink: CopyOutput["sink"];
    const below = backing === null ? null : { unit, zeroClusters: o.version >= 3, backing: backing.disk };
    if (o.preallocation !== "off" || o.rawDataFile) {
      made = createQcow2(target, o);
      const { from, to } = made.data;
      (data ?? file).allocate(from, to - from, o.preallocation);
      const image = await mapped(target, made.size);
      sink = below === null ? mappedSink(image, target, disk) : mappedOverlaySink(below, image, target, disk);
    } else {
      const packer = packerOf(layoutOfNew(o, rulesOf(s), s.compressed));
      sink = below === null ? packedSink(packer, target, disk) : overlaySink(below, packer, target, disk);
    }
    await copyInput(
      s,
      input,
      {
        sink,
        backed: backing !== null,
        backingSectors: backing === null ? -1 : Math.ceil(backing.disk.size / 512),
        compression: s.compressed ? { clusterSize: o.clusterSize, zstd: o.compressionType === 1 } : null,
      },
      progress,
      options,
    );
    const end = await sink.finish();
    // What lies between the last write and the image's end.
    if (file.device) target.zero(end, 0);
    const size = await withBitmaps(s, input, file, end);
    // The last cluster is whole in the data file once something of it is written.
    const dataEnd = "dataEnd" in sink ? Math.ceil((sink.dataEnd?.() ?? 0) / unit) * unit : 0;
    data?.target.commit(made?.dataFileSize ?? Math.max(input.sectors * 512, dataEnd));
    return size;
  } catch (error) {
    data?.target.abort();
    throw error;
  } finally {
    await backing?.close();
  }
}

/** Copies the bitmaps that --bitmaps asks for into the image; returns its size then. */
async function withBitmaps(
  s: ConvertSettings,
  input: ConvertInput,
  file: NewFile,
  size: number,
): Promise<number> {
  if (!s.bitmaps) return size;
  const { addBitmaps } = await import("./convert-bitmaps.ts");
  const { target } = file;
  const path = "temporary" in target ? String(target.temporary) : target.label;
  return addBitmaps(input, input.bitmaps, path, size);
}

const output = (sink: CopyOutput["sink"]): CopyOutput => ({
  sink,
  backed: false,
  backingSectors: -1,
  compression: null,
});

async function openData(s: ConvertSettings, input: ConvertInput, name: string): Promise<NewFile> {
  if (resolve(name) === resolve(s.target!))
    throw new QemuError(
      `${s.target}: error while converting qcow2: Failed to get shared "resize" lock\nIs another process using the image [${s.target}]?`,
    );
  return openNewTarget(s.target!, "qcow2", [...input.paths, s.target!], name);
}

/** The header and the bytes of an image that was just laid out. */
async function mapped(target: Target, size: number): Promise<Parameters<typeof mappedSink>[0]> {
  const source = sourceOfTarget(target, size);
  const head = new Uint8Array(Math.min(HEADER_BYTES, size));
  await source.read(head, 0);
  return { header: parseHeader(head), source, size };
}

/** Opens the backing file of the new image, which lies beside it. */
async function openBacking(s: ConvertSettings, o: Qcow2CreateOptions): Promise<OpenedChain> {
  const name = o.backingFile!;
  const full = name.startsWith("/") || /^[^/]*:/.test(name) ? name : `${folder(s.target!)}${name}`;
  try {
    const chain = await openImage(full, { format: o.backingFormat, encrypted: "refuse" });
    await askForHoles(chain);
    return chain;
  } catch (error) {
    if (!(error instanceof QemuError)) throw error;
    const text = error.message.replace(`Could not open '${full}': `, "");
    throw new QemuError(`Could not open '${s.target}': Could not open backing file: ${text}`);
  }
}

function folder(path: string): string {
  const d = dirname(path);
  return d === "." && !path.startsWith("./") ? "" : `${d}/`;
}
