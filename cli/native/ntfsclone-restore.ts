import { AbortError, FormatError, IoError, RefusedError, UnsupportedError } from "../../src/errors.ts";
import { CommandError } from "../../src/image/ntfsclone/commands.ts";
import { ImageVersionError, neededBytes } from "../../src/image/ntfsclone/header.ts";
import { ImageStream } from "../../src/image/ntfsclone/restore.ts";
import type { SequentialSource } from "../../src/io/source.ts";
import { withJob } from "../commands/job.ts";
import type { NtfscloneOptions } from "./ntfsclone-options.ts";
import { type CloneOutput, openCloneOutput, writebackOf } from "./ntfsclone-output.ts";
import { PercentLines } from "./ntfsclone-progress.ts";
import type { RescueImage } from "./ntfsclone-rescue-image.ts";
import { NewSerial } from "./ntfsclone-serial.ts";
import {
  Refusal,
  refusal,
  refusalOf,
  type Say,
  spaceLine,
  systemRefusal,
  volumeSizeLine,
} from "./ntfsclone-text.ts";

/** `-r`: from an image to a file, a device or standard output, or nowhere (-n). */
export async function restore(o: NtfscloneOptions, say: Say): Promise<void> {
  const { input, rescue } = await openInput(o, say);
  try {
    const image = await openImage(input);
    const { header } = image;
    const output =
      o.output === null
        ? null
        : await openCloneOutput(o.output, {
            image: false,
            stream: true,
            bytes: neededBytes(header),
            sources: o.source === "-" ? [] : [o.source],
          });
    try {
      say(headerText(image));
      say("Restoring NTFS from image ...\n");
      await withJob(async ({ signal }) => follow(o, say, image, output, signal), { line: false });
      await rescue?.report(say);
    } catch (error) {
      await output?.target.abort();
      throw failure(error, output);
    } finally {
      rescue?.save();
    }
  } finally {
    await input.close();
  }
}

async function follow(
  o: NtfscloneOptions,
  say: Say,
  image: ImageStream,
  output: CloneOutput | null,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { header } = image;
  const toStdout = o.output === "-";
  const progress = o.quiet
    ? null
    : new PercentLines(say, 1, toStdout ? header.clusters + 1 : header.inUse + 1);
  const serial = o.serial === "keep" ? null : new NewSerial(o.serial === "half", say);
  const writeback = output === null ? () => {} : await writebackOf(output.target);
  const { size, backupBoot } = await image.restore(output?.target ?? null, {
    onProgress(stored, position) {
      if (signal?.aborted) throw new AbortError();
      progress?.update(toStdout ? position : stored);
      writeback();
    },
    ...(serial === null ? {} : { change: (lcn, bytes) => serial.patch(bytes, lcn * header.clusterSize) }),
  });
  if (!backupBoot) say("Warning : no alternate boot sector in image\n");
  if (output === null) return;
  say("Syncing ...\n");
  await output.target.commit(size);
}

interface Input {
  readonly input: SequentialSource;
  readonly rescue: RescueImage | null;
}

async function openInput(o: NtfscloneOptions, say: Say): Promise<Input> {
  const m = await import("../../src/node.ts");
  try {
    if (o.rescue) {
      const { RescueImage, canRescue } = await import("./ntfsclone-rescue-image.ts");
      if (canRescue(o)) {
        const rescue = new RescueImage(m.openFileSource(o.source), o, say);
        return { input: rescue.input, rescue };
      }
    }
    return { input: o.source === "-" ? m.openStdinSource() : m.openSequentialSource(o.source), rescue: null };
  } catch (error) {
    if (error instanceof IoError) throw systemRefusal(error.code, "failed to open image");
    throw error;
  }
}

async function openImage(input: SequentialSource): Promise<ImageStream> {
  try {
    return await ImageStream.open(input);
  } catch (error) {
    if (error instanceof IoError) throw systemRefusal(error.code, "read_all");
    if (error instanceof ImageVersionError)
      throw refusal(
        `Do not know how to handle image format version ${error.version}.  ` +
          "Please obtain a newer version of ntfsclone.",
      );
    if (error instanceof FormatError && error.code === "ENOIMAGE")
      throw refusal("Input file is not an image! (invalid magic)");
    throw refusalOf(error);
  }
}

/** What native prints of a header. Images before version 10 are named as the newest. */
function headerText({ header: h }: ImageStream): string {
  const version = h.major < 10 ? "10.1" : `${h.major}.${h.minor}`;
  return (
    `Ntfsclone image version: ${version}\n` +
    `Cluster size           : ${h.clusterSize} bytes\n` +
    volumeSizeLine("Image volume size      ", h.clusters * h.clusterSize) +
    `Image device size      : ${h.deviceSize} bytes\n` +
    spaceLine("    ", h.clusterSize, h.inUse, h.clusters) +
    `Offset to image data   : ${h.statedOffset} (0x${h.statedOffset.toString(16)}) bytes\n`
  );
}

function failure(error: unknown, output: CloneOutput | null): unknown {
  if (error instanceof Refusal || error instanceof AbortError) return error;
  if (error instanceof CommandError) return refusal(commandText(error));
  if (error instanceof UnsupportedError && error.code === "EORDER")
    return refusal("Cannot restore a metadata image to stdout");
  if (error instanceof IoError && output !== null && error.message.startsWith(`${output.target.label}:`))
    return systemRefusal(error.code, "Write failed");
  if (error instanceof IoError) return systemRefusal(error.code, "read_all");
  if (error instanceof RefusedError) return refusalOf(error);
  return error;
}

function commandText(error: CommandError): string {
  const at = error.offset;
  if (error.fault === "command") {
    // Native prints the byte as a signed number.
    return `Invalid command code ${(error.command << 24) >> 24} at input offset 0x${at.toString(16)}`;
  }
  if (error.fault === "zero gap") return `Bad offset at input location 0x${at.toString(16)}`;
  if (error.fault === "gap") return `restore_image: corrupt image at input offset ${at}`;
  if (error.fault === "behind device") return "Corrupted input, copy aborted";
  return `Short image file: ${error.detail}`;
}
