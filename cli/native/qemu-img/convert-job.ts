import type { JobOptions } from "../../../src/engine/api.ts";
import { PLAIN } from "../../../src/engine/copy/plan.ts";
import { type LayoutSpec, packerOf } from "../../../src/engine/copy/spec.ts";
import { copyRequests, RequestError } from "../../../src/engine/requests/copy-requests.ts";
import { layoutOfNew } from "../../../src/engine/requests/new-image.ts";
import type { RequestSink } from "../../../src/engine/requests/sink.ts";
import { packedSink, rawSink } from "../../../src/engine/requests/sinks.ts";
import { measureData, writeImage } from "../../../src/engine/write.ts";
import { AbortError, IoError, ReadError, RefusedError } from "../../../src/errors.ts";
import type { ExactRules } from "../../../src/image/packer.ts";
import { Pace } from "../../../src/io/pace.ts";
import type { NewImage } from "./convert-create.ts";
import type { ConvertSettings } from "./convert-options.ts";
import type { ConvertInput } from "./convert-source.ts";
import { openNewTarget } from "./convert-target.ts";
import { errorText, QemuError, warn } from "./errors.ts";
import type { QemuProgress } from "./progress.ts";

/** Bytes of zeros in a row that -S leaves out by default. */
const SPARSE = 4096;

/** Which sectors are stored; null: all that the sources store (copy offloading). */
function rulesOf(s: ConvertSettings): ExactRules {
  if (s.offload) return { least: 0, alignment: 1 };
  const least = (s.sparse ?? SPARSE) / 512;
  return { least, alignment: least === 0 ? 1 : 2 ** Math.floor(Math.log2(least)) };
}

/** Converts into a new image. Throws QemuError with native's text. */
export async function runConversion(
  s: ConvertSettings,
  input: ConvertInput,
  image: NewImage | null,
  progress: QemuProgress,
  options: JobOptions,
): Promise<void> {
  if (image === null) throw new QemuError("-n: not in this version yet");
  const format = image.format;
  const name = s.target!;
  const exact = rulesOf(s);
  const size = input.sectors * 512;
  const layout: LayoutSpec =
    image.format === "raw"
      ? { kind: "raw", clusterSize: 4096, guestSize: size, offset: 0 }
      : layoutOfNew(image, exact);
  const target = await openNewTarget(name, format, input.paths);
  try {
    const simple =
      !s.salvage &&
      s.rate === 0 &&
      exact.least > 0 &&
      (image.format === "raw" ||
        (image.backingFile === null && image.dataFile === null && image.preallocation === "off"));
    if (simple) {
      await writeImage(input.disk, target, {
        layout,
        onProgress: (p) => progress.update(p.done, p.total),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
        ...(options.bulk === undefined ? {} : { bulk: options.bulk }),
      });
      return;
    }
    const sink: RequestSink =
      image.format === "raw" ? rawSink(target, size, target.fresh) : packedSink(packerOf(layout), target);
    await requests(s, input, exact, sink, progress, options);
    await target.commit(await sink.finish());
  } catch (error) {
    await target.abort();
    throw conversionError(error, format);
  }
}

async function requests(
  s: ConvertSettings,
  input: ConvertInput,
  exact: ExactRules,
  sink: RequestSink,
  progress: QemuProgress,
  options: JobOptions,
): Promise<void> {
  const pace = new Pace(() => {
    if (options.signal?.aborted) throw new AbortError();
  });
  const total = s.progress ? (await measureData(input.disk, pace)).stored : 0;
  const salvage = s.salvage
    ? {
        onReadError: (error: unknown, at: number) => {
          if (!s.quiet) warn(`error while reading offset ${at}: ${hostText(error)}`);
        },
      }
    : {};
  await copyRequests({
    source: input.disk,
    rules: {
      ...PLAIN,
      zerosToo: exact.least === 0 && !s.offload,
      ...(s.salvage
        ? {
            onStatusError: (error: unknown, sector: number) => {
              if (!s.quiet)
                warn(`error while reading block status at offset ${sector * 512}: ${hostText(error)}`);
            },
          }
        : {}),
    },
    exact: s.offload ? null : exact,
    sink,
    pace,
    onProgress: (done) => progress.update(done, total),
    ...salvage,
  });
}

/** strerror's words for an error of the host; what an image breaks counts as an I/O error. */
function hostText(error: unknown): string {
  return error instanceof IoError ? errorText(error) : "Input/output error";
}

/** An error of the copy as native says it. */
function conversionError(error: unknown, format: string): unknown {
  if (error instanceof RequestError) {
    const text = hostText(error.cause);
    if (error.step === "status")
      return new QemuError(`error while reading block status at offset ${error.offset}: ${text}`);
    return new QemuError(
      `error while ${error.step === "read" ? "reading at" : "writing at"} byte ${error.offset}: ${text}`,
    );
  }
  if (error instanceof ReadError)
    return new QemuError(`error while reading at byte ${Math.max(0, error.offset)}: ${errorText(error)}`);
  if (error instanceof RefusedError && error.code === "ETOOSMALL")
    return new QemuError("output file is smaller than input file");
  void format;
  return error;
}
