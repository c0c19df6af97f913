import type { OptionSpec } from "../../getopt.ts";
import { QemuError, QemuUsageError } from "./errors.ts";
import { joinOptions, splitPairs } from "./keyval.ts";
import { checkCache, OPTION, parseCommand } from "./options.ts";
import { parseSize } from "./sizes.ts";

/** The snapshot to read: by number and/or name, or by a word that may be either. */
export type SnapshotChoice =
  | { readonly kind: "word"; readonly word: string }
  | { readonly kind: "named"; readonly id: string | null; readonly name: string | null };

/** What `convert` was asked for. */
export interface ConvertSettings {
  sources: string[];
  /** The last operand, or null where there is one operand only. */
  target: string | null;
  format: string | null;
  outputFormat: string | null;
  cache: string;
  sourceCache: string;
  compressed: boolean;
  options: string | null;
  backing: string | null;
  backingFormat: string | null;
  snapshot: SnapshotChoice | null;
  /** Bytes; null where -S was not given. */
  sparse: number | null;
  progress: boolean;
  quiet: boolean;
  noCreate: boolean;
  workers: number;
  outOfOrder: boolean;
  offload: boolean;
  share: boolean;
  imageOpts: boolean;
  targetImageOpts: boolean;
  targetIsZero: boolean;
  salvage: boolean;
  bitmaps: boolean;
  skipBrokenBitmaps: boolean;
  /** Bytes a second, or 0. */
  rate: number;
  /** The deflate whose bytes are the native tool's, instead of the fastest. */
  identicalDeflate: boolean;
}

const SPECS: readonly OptionSpec[] = [
  OPTION.format,
  OPTION.outputFormat,
  OPTION.imageOpts,
  OPTION.share,
  OPTION.quiet,
  OPTION.progress,
  OPTION.cache,
  OPTION.sourceCache,
  OPTION.options,
  OPTION.object,
  { key: "backing", short: "B", arg: "backing_file" },
  { key: "backing-format", short: "F", arg: "backing_fmt" },
  { key: "compress", short: "c" },
  { key: "snapshot", short: "l", arg: "snapshot_param" },
  { key: "sparse", short: "S", arg: "sparse_size" },
  { key: "no-create", short: "n" },
  { key: "workers", short: "m", arg: "num_coroutines" },
  { key: "out-of-order", short: "W" },
  { key: "offload", short: "C" },
  { key: "rate", short: "r", arg: "rate_limit" },
  { key: "target-image-opts", long: "target-image-opts" },
  { key: "salvage", long: "salvage" },
  { key: "target-is-zero", long: "target-is-zero" },
  { key: "bitmaps", long: "bitmaps" },
  { key: "skip-broken-bitmaps", long: "skip-broken-bitmaps" },
  { key: "identical-deflate", long: "identical-deflate" },
];

/** Largest -S, bytes. */
const MOST_SPARSE = 16 * 1024 * 1024;

/** Reads convert's words. Throws QemuError with native's texts, in native's order. */
export function convertSettings(args: readonly string[]): ConvertSettings {
  const s: ConvertSettings = {
    sources: [],
    target: null,
    format: null,
    outputFormat: null,
    cache: "unsafe",
    sourceCache: "writeback",
    compressed: false,
    options: null,
    backing: null,
    backingFormat: null,
    snapshot: null,
    sparse: null,
    progress: false,
    quiet: false,
    noCreate: false,
    workers: 8,
    outOfOrder: false,
    offload: false,
    share: false,
    imageOpts: false,
    targetImageOpts: false,
    targetIsZero: false,
    salvage: false,
    bitmaps: false,
    skipBrokenBitmaps: false,
    rate: 0,
    identicalDeflate: false,
  };
  const operands = parseCommand("convert", args, SPECS, (key, value) => take(s, key, value));
  if (s.outputFormat === null && !s.targetImageOpts) s.outputFormat = "raw";
  if (s.skipBrokenBitmaps && !s.bitmaps)
    throw new QemuError("Use of --skip-broken-bitmaps requires --bitmaps");
  if (s.targetImageOpts && !s.noCreate) throw new QemuError("--target-image-opts requires use of -n flag");
  if (s.noCreate && s.options !== null) throw new QemuError("-o has no effect when skipping image creation");
  if (s.targetIsZero && !s.noCreate) throw new QemuError("--target-is-zero requires use of -n flag");
  if (operands.length > 1) s.target = operands[operands.length - 1];
  s.sources = operands.slice(0, -1);
  return s;
}

function take(s: ConvertSettings, key: string, value: string): void {
  switch (key) {
    case "format":
      s.format = value;
      break;
    case "output-format":
      s.outputFormat = value;
      break;
    case "backing":
      s.backing = value;
      break;
    case "backing-format":
      s.backingFormat = value;
      break;
    case "compress":
      s.compressed = true;
      break;
    case "options":
      s.options = joinOptions(s.options, value);
      break;
    case "snapshot":
      s.snapshot = snapshotChoice(value);
      break;
    case "sparse":
      s.sparse = sparseSize(value);
      break;
    case "progress":
      s.progress = true;
      break;
    case "quiet":
      s.quiet = true;
      break;
    case "no-create":
      s.noCreate = true;
      break;
    case "cache":
      s.cache = value;
      break;
    case "source-cache":
      s.sourceCache = value;
      break;
    case "workers":
      s.workers = workers(value);
      break;
    case "out-of-order":
      s.outOfOrder = true;
      break;
    case "offload":
      s.offload = true;
      break;
    case "share":
      s.share = true;
      break;
    case "rate":
      s.rate = parseSize(value, "rate limit");
      break;
    case "image-opts":
      s.imageOpts = true;
      break;
    case "target-image-opts":
      s.targetImageOpts = true;
      break;
    case "target-is-zero":
      s.targetIsZero = true;
      break;
    case "salvage":
      s.salvage = true;
      break;
    case "bitmaps":
      s.bitmaps = true;
      break;
    case "skip-broken-bitmaps":
      s.skipBrokenBitmaps = true;
      break;
    case "identical-deflate":
      s.identicalDeflate = true;
      break;
    default:
      throw new QemuUsageError(`unrecognized option '-${key}'`);
  }
}

/** Checks that wait until the sources are known; `sources` are there. Throws QemuError. */
export function checkCombination(s: ConvertSettings): void {
  if (s.sources.length < 1) throw new QemuError("Must specify image file name");
  if (s.salvage && s.offload) throw new QemuError("Cannot use copy offloading in salvaging mode");
  if (s.offload && s.sparse !== null) throw new QemuError("Cannot enable copy offloading when -S is used");
  if (s.offload && s.compressed) throw new QemuError("Cannot enable copy offloading when -c is used");
  checkCache(s.sourceCache, "source");
}

function sparseSize(value: string): number {
  const n = parseSize(value, "buffer size for sparse output");
  if (n % 512 !== 0 || n > MOST_SPARSE)
    throw new QemuError(
      `Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to ${MOST_SPARSE}. ` +
        "Select 0 to disable sparse detection (fully allocates output).",
    );
  return n;
}

function workers(value: string): number {
  const n = /^[ \t\n\v\f\r]*[+-]?(0[xX][0-9a-fA-F]+|\d+)$/.test(value) ? Number(value) : Number.NaN;
  if (!(n >= 1 && n <= 16))
    throw new QemuError("Invalid number of coroutines. Allowed number of coroutines is between 1 and 16");
  return n;
}

/** What -l says. */
export function snapshotChoice(value: string): SnapshotChoice {
  if (!value.startsWith("snapshot.")) return { kind: "word", word: value };
  let id: string | null = null;
  let name: string | null = null;
  for (const pair of splitPairs(value)) {
    if (pair.name === "snapshot.id") id = pair.value;
    else if (pair.name === "snapshot.name") name = pair.value;
    else
      throw new QemuError(
        `Invalid parameter '${pair.name}'\nqemu-img: Failed in parsing snapshot param '${value}'`,
      );
  }
  return { kind: "named", id, name };
}
