import type { CaptureOptions } from "../../src/engine/api.ts";
import type { Opened } from "../../src/engine/open.ts";
import type { Scope } from "../../src/fs/volume.ts";
import { UsageError } from "../ui/errors.ts";
import { type Arguments, type CommandSpec, INPUT_OPTIONS, JSON_OPTION, readArguments } from "./arguments.ts";
import { openInput } from "./input.ts";
import { printResult, secondsSince, tellPlan, warnOfMount, withJob, withOutput } from "./job.ts";
import { FORCE_OPTION, OUTPUT_OPTIONS, outputFormat, qcow2Options, VERIFY_OPTION } from "./output.ts";
import type { SanitizeChoice } from "./sanitize.ts";

const SPEC: CommandSpec = {
  operands: ["SOURCE", "IMAGE"],
  about: "Save a volume (a device, a partition of a disk, or the content of an image) into an image.",
  options: [
    {
      key: "metadata",
      short: "m",
      long: "metadata",
      help: "take the filesystem's metadata only, no file data",
    },
    { key: "used", short: "u", long: "used", help: "take every block in use (this is the default)" },
    { key: "all", short: "a", long: "all", help: "take every block, free ones too" },
    ...INPUT_OPTIONS,
    ...OUTPUT_OPTIONS,
    {
      key: "nativeSelection",
      long: "native-selection",
      help: "ext: take exactly the blocks that e2image takes",
    },
    {
      key: "sanitize",
      long: "sanitize",
      help: "ext: metadata only, with every name, target and attribute value replaced; ends with a report",
    },
    {
      key: "seed",
      long: "seed",
      arg: "SEED",
      help: "with --sanitize: the same seed gives the same names (default: a random one)",
    },
    {
      key: "journal",
      long: "journal",
      arg: "HOW",
      help: "with --sanitize: replay (what the journal holds is brought in first; the default) or drop",
    },
    { key: "dryRun", short: "n", long: "dry-run", help: "tell what would be taken and write nothing" },
    VERIFY_OPTION,
    FORCE_OPTION,
    JSON_OPTION,
  ],
  notes: `IMAGE "-" is standard output; SOURCE "-" is standard input. Exit code: 0 done, 1 failed
(nothing is left then), 2 wrong usage.`,
  examples: [
    ["/dev/sdb1 home.qcow2", "the used blocks of a partition, as QCOW2"],
    [
      "--metadata --partition 2 disk.img meta.img",
      "the metadata of the second partition, as a sparse raw file",
    ],
    ["--sanitize /dev/sdb1 report.qcow2", "an image for a bug report: no names, and it still checks clean"],
    ["--format qcow2 /dev/sdb1 - | ssh host 'cat > home.qcow2'", "straight into a pipe"],
  ],
};

export async function run(program: string, args: readonly string[]): Promise<number> {
  const read = readArguments(program, args, SPEC);
  if (read === null) return 0;
  const [source, image] = read.operands;
  const scope = scopeOf(read);
  if (scope === "all" && read.has("nativeSelection"))
    throw new UsageError("--all takes every block: not with --native-selection");
  const hide = sanitizeChoice(read);
  const format = outputFormat(image, read);
  const qcow2 = qcow2Options(read, format);
  const start = performance.now();
  const opened = await openInput(source, read.input());
  try {
    const names = { source, image, json: read.has("json") };
    await warnOfMount(source, opened.partition?.number ?? null);
    const settings = { force: read.has("force"), verify: read.has("verify") };
    const choice = { scope, format, nativeSelection: read.has("nativeSelection") };
    const { capture } = await import("../../src/node.ts");
    if (hide !== null) {
      const { sanitizeJob } = await import("./sanitize.ts");
      return await sanitizeJob(opened, { ...names, format, qcow2, start }, hide, {
        ...settings,
        dryRun: read.has("dryRun"),
      });
    }
    if (read.has("dryRun")) {
      const plan = await withJob((job) => planOf(opened, { ...job, ...choice }));
      await tellPlan(plan, names, settings);
      return 0;
    }
    const result = await withOutput(image, settings, (target, job) =>
      capture(opened, target, {
        ...job,
        ...choice,
        verify: settings.verify,
        ...(qcow2 === null ? {} : { qcow2 }),
      }),
    );
    printResult(result, { ...names, seconds: secondsSince(start) });
    return 0;
  } finally {
    await opened.close();
  }
}

async function planOf(opened: Opened, options: CaptureOptions): Promise<Parameters<typeof tellPlan>[0]> {
  const { planCapture, planConvert } = await import("../../src/node.ts");
  const selection = await planCapture(opened, options);
  if (selection === null)
    return { format: options.format, ...(await planConvert(opened.source)), warnings: [] };
  return {
    format: options.format,
    guestSize: opened.volume!.size,
    selected: selection.blocks.count * selection.blockSize,
    warnings: selection.warnings,
  };
}

function scopeOf(read: Arguments): Scope {
  const chosen = (["metadata", "used", "all"] as const).filter((s) => read.has(s));
  if (chosen.length > 1) throw new UsageError(`--${chosen[0]} and --${chosen[1]} exclude each other`);
  return chosen[0] ?? "used";
}

/** What a command line says about hiding names; null where it does not ask for it. */
function sanitizeChoice(read: Arguments): SanitizeChoice | null {
  const seed = read.value("seed");
  const journal = read.value("journal");
  if (!read.has("sanitize")) {
    if (seed !== null || journal !== null) throw new UsageError("--seed and --journal need --sanitize");
    return null;
  }
  for (const other of ["used", "all"])
    if (read.has(other)) throw new UsageError(`--sanitize takes metadata only: not with --${other}`);
  if (read.has("nativeSelection"))
    throw new UsageError("--sanitize takes no deleted data: not with --native-selection");
  if (journal !== null && journal !== "replay" && journal !== "drop")
    throw new UsageError(`--journal takes replay or drop, not '${journal}'`);
  return { seed, journal: journal ?? "replay" };
}
