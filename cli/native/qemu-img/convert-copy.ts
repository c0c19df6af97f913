import type { JobOptions } from "../../../src/engine/api.ts";
import type { IterationRules } from "../../../src/engine/copy/iterations.ts";
import { PLAIN } from "../../../src/engine/copy/plan.ts";
import { type CompressedSink, copyCompressed } from "../../../src/engine/requests/copy-compressed.ts";
import { copyRequests, RequestError, type RequestJob } from "../../../src/engine/requests/copy-requests.ts";
import type { RequestSink } from "../../../src/engine/requests/sink.ts";
import { measureData } from "../../../src/engine/write.ts";
import { AbortError, FormatError, IoError, ReadError } from "../../../src/errors.ts";
import type { ExactRules } from "../../../src/image/packer.ts";
import { Pace } from "../../../src/io/pace.ts";
import type { ConvertSettings } from "./convert-options.ts";
import { limitedSink } from "./convert-rate.ts";
import type { ConvertInput } from "./convert-source.ts";
import { errorText, QemuError, warn } from "./errors.ts";
import type { QemuProgress } from "./progress.ts";

/** Bytes of zeros in a row that are left out by default. */
const SPARSE = 4096;

/** Which sectors are stored. */
export function rulesOf(s: ConvertSettings): ExactRules {
  if (s.offload) return { least: 0, alignment: 1 };
  const least = (s.sparse ?? SPARSE) / 512;
  return { least, alignment: least === 0 ? 1 : 2 ** Math.floor(Math.log2(least)) };
}

/** What a copy needs to know of its output. */
export interface CopyOutput {
  readonly sink: RequestSink | CompressedSink;
  /** The output has a backing file, of `backingSectors` sectors. */
  readonly backed: boolean;
  readonly backingSectors: number;
  /** How clusters are compressed, where they are. */
  readonly compression: { readonly clusterSize: number; readonly zstd: boolean } | null;
}

/** Copies all of the input, request by request. Errors: see `conversionError`. */
export async function copyInput(
  s: ConvertSettings,
  input: ConvertInput,
  output: CopyOutput,
  progress: QemuProgress,
  options: JobOptions,
): Promise<void> {
  const exact = rulesOf(s);
  const rules: IterationRules = {
    ...PLAIN,
    ...statusErrors(s),
    backed: output.backed,
    backingSectors: output.backingSectors,
    zerosToo: exact.least === 0 && !s.offload,
  };
  const pace = new Pace(() => {
    if (options.signal?.aborted) throw new AbortError();
  });
  const total = s.progress ? (await measureData(input.disk, pace)).stored : 0;
  const job = {
    source: input.disk,
    pace,
    onProgress: (done: number) => progress.update(done, total),
    ...readErrors(s),
  };
  const sink =
    s.rate === 0
      ? output.sink
      : limitedSink(output.sink, s.rate, output.compression?.clusterSize ?? 0, options.signal);
  if (output.compression === null) {
    await copyRequests({ ...job, rules, exact: s.offload ? null : exact, sink });
    return;
  }
  const { compressPool } = await import("../../../src/node/compress-pool.ts");
  const { clusterSize, zstd } = output.compression;
  const cluster = clusterSize / 512;
  const compressor = compressPool(
    zstd ? { kind: "zstd" } : { kind: "deflate", identical: s.identicalDeflate },
    clusterSize,
  );
  try {
    await copyCompressed({
      ...job,
      rules: { ...rules, buffer: cluster, cluster },
      keepZero: exact.least === 0,
      compressor,
      sink: sink as CompressedSink,
    });
  } finally {
    await compressor.close();
  }
}

/** Salvaging goes on where bytes cannot be read. */
function readErrors(s: ConvertSettings): Pick<RequestJob, "onReadError"> {
  if (!s.salvage) return {};
  return {
    onReadError: (error, at) => {
      if (!s.quiet) warn(`error while reading offset ${at}: ${hostWords(error)}`);
    },
  };
}

/** And where the allocation of a stretch cannot be told. */
function statusErrors(s: ConvertSettings): Pick<IterationRules, "onStatusError"> {
  if (!s.salvage) return {};
  return {
    onStatusError: (error, sector) => {
      if (!s.quiet) warn(`error while reading block status at offset ${sector * 512}: ${hostWords(error)}`);
    },
  };
}

/** strerror's words for an error of the host; what an image breaks counts as an I/O error. */
function hostWords(error: unknown): string {
  return error instanceof IoError ? errorText(error) : "Input/output error";
}

/** An error of the copy as native says it; damage is told in our own words after native's. */
export function conversionError(error: unknown): unknown {
  if (error instanceof RequestError) {
    const { cause } = error;
    const known = cause instanceof IoError || cause instanceof FormatError;
    const text = known ? hostWords(cause) : errorText(cause);
    const detail = cause instanceof FormatError ? `\n${cause.message}` : "";
    if (error.step === "status")
      return new QemuError(`error while reading block status at offset ${error.offset}: ${text}${detail}`);
    const doing = error.step === "read" ? "reading at" : "writing at";
    return new QemuError(`error while ${doing} byte ${error.offset}: ${text}${detail}`);
  }
  if (error instanceof ReadError)
    return new QemuError(`error while reading at byte ${Math.max(0, error.offset)}: ${errorText(error)}`);
  return error;
}
