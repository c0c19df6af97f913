import type { CheckOutcome } from "../../../src/image/qcow2/check/check.ts";
import type { CheckResult } from "../../../src/image/qcow2/check/result.ts";
import { print, printError } from "../../ui/out.ts";
import { QemuError, QemuUsageError } from "./errors.ts";
import { hostText } from "./host-text.ts";
import { qemuJson } from "./json.ts";
import { openEditable, openImage } from "./open.ts";
import { checkCache, OPTION, outputKind, parseCommand } from "./options.ts";

/** Exit code where a format has nothing to check. */
const NOT_SUPPORTED = 63;
const CORRUPT = 2;
const LEAKS = 3;

interface CheckArguments {
  readonly name: string;
  readonly format: string | null;
  readonly imageOpts: boolean;
  readonly share: boolean;
  readonly quiet: boolean;
  readonly output: "human" | "json";
  readonly repair: "leaks" | "all" | null;
}

/** Where texts go. */
export interface CheckOutput {
  out(text: string): void;
  err(text: string): void;
}

/** qemu-img check. */
export function run(_program: string, args: readonly string[]): Promise<number> {
  return check(args, { out: print, err: printError });
}

/** The command with its output. Throws QemuError. */
export async function check(args: readonly string[], output: CheckOutput): Promise<number> {
  const o = parseArguments(args);
  return o.repair === null ? checkOnly(o, output) : repair(o, o.repair, output);
}

function parseArguments(args: readonly string[]): CheckArguments {
  let format: string | null = null;
  let imageOpts = false;
  let share = false;
  let quiet = false;
  let repair: "leaks" | "all" | null = null;
  let output = "human";
  let cache = "writeback";
  const specs = [
    OPTION.format,
    { key: "repair", short: "r", long: "repair", arg: "mode" },
    OPTION.output,
    OPTION.sourceCache,
    OPTION.quiet,
    OPTION.object,
    OPTION.imageOpts,
    OPTION.share,
  ];
  const operands = parseCommand("check", args, specs, (key, value) => {
    if (key === "format") format = value;
    else if (key === "repair") {
      if (value !== "leaks" && value !== "all")
        throw new QemuUsageError(`Unknown option value for -r (expecting 'leaks' or 'all'): ${value}`);
      repair = value;
    } else if (key === "output") output = value;
    else if (key === "source-cache") cache = value;
    else if (key === "quiet") quiet = true;
    else if (key === "image-opts") imageOpts = true;
    else if (key === "force-share") share = true;
    else if (key === "share") share = true;
  });
  if (operands.length !== 1) throw new QemuUsageError("Expecting one image file name");
  const kind = outputKind(output);
  checkCache(cache, "source");
  return { name: operands[0], format, imageOpts, share, quiet, output: kind, repair };
}

async function checkOnly(o: CheckArguments, output: CheckOutput): Promise<number> {
  const { format, imageOpts, share } = o;
  const opened = await openImage(o.name, { format, imageOpts, share, check: true, data: false });
  try {
    if (opened.format !== "qcow2") throw notSupported();
    const { checkImage } = await import("../../../src/image/qcow2/check/check.ts");
    const { file } = opened;
    const lines = new Lines(output);
    let outcome: CheckOutcome;
    try {
      outcome = checkImage(
        { label: file.label, size: () => file.size, read: (into, at) => file.read(into, at) },
        { report: (line) => lines.add(line) },
      );
    } finally {
      lines.flush();
    }
    return conclude(o, opened.format, outcome, null, output);
  } finally {
    await opened.close();
  }
}

async function repair(o: CheckArguments, mode: "leaks" | "all", output: CheckOutput): Promise<number> {
  const { format, imageOpts, share } = o;
  const opened = await openEditable(o.name, { format, imageOpts, share, check: true, data: false });
  try {
    if (opened.format !== "qcow2") throw notSupported();
    const { repairImage } = await import("../../../src/image/qcow2/check/repair.ts");
    const { checkImage } = await import("../../../src/image/qcow2/check/check.ts");
    const { file } = opened;
    const lines = new Lines(output);
    const report = (line: string): void => lines.add(line);
    try {
      const first = repairImage(file, { repair: mode, report });
      const { leaksFixed, corruptionsFixed } = first.result;
      lines.flush();
      if (first.failure !== null || leaksFixed + corruptionsFixed === 0)
        return conclude(o, opened.format, first, null, output);
      if (o.output === "human" && !o.quiet)
        output.out(
          "The following inconsistencies were found and repaired:\n\n" +
            `    ${leaksFixed} leaked clusters\n    ${corruptionsFixed} corruptions\n\n` +
            "Double checking the fixed image now...\n",
        );
      const second = checkImage(file, { report });
      lines.flush();
      return conclude(o, opened.format, second, first.result, output);
    } finally {
      lines.flush();
    }
  } finally {
    await opened.close();
  }
}

function notSupported(): QemuError {
  return new QemuError("This image format does not support checks", NOT_SUPPORTED);
}

/** Prints what a check found, and returns the exit code. `fixed`: what an earlier pass repaired. */
function conclude(
  o: CheckArguments,
  format: string,
  { result, failure }: CheckOutcome,
  fixed: CheckResult | null,
  output: CheckOutput,
): number {
  if (failure === null && !o.quiet)
    output.out(o.output === "json" ? `${json(o.name, format, result, fixed ?? result)}\n` : human(result));
  if (failure !== null || result.errors > 0) {
    output.err(`qemu-img: Check failed${failure === null ? "" : `: ${hostText(failure) ?? failure}`}\n`);
    return 1;
  }
  return result.corruptions > 0 ? CORRUPT : result.leaks > 0 ? LEAKS : 0;
}

function human(r: CheckResult): string {
  let text = "";
  if (r.corruptions + r.leaks + r.errors === 0) text += "No errors were found on the image.\n";
  if (r.corruptions > 0)
    text +=
      `\n${r.corruptions} errors were found on the image.\n` +
      "Data may be corrupted, or further writes to the image may corrupt it.\n";
  if (r.leaks > 0)
    text +=
      `\n${r.leaks} leaked clusters were found on the image.\n` +
      "This means waste of disk space, but no harm to data.\n";
  if (r.errors > 0) text += `\n${r.errors} internal errors have occurred during the check.\n`;
  if (r.totalClusters > 0 && r.allocatedClusters > 0) {
    const share = (n: number, of: number): string => `${twoDecimals((n * 100) / of)}%`;
    text +=
      `${r.allocatedClusters}/${r.totalClusters} = ${share(r.allocatedClusters, r.totalClusters)} allocated, ` +
      `${share(r.fragmentedClusters, r.allocatedClusters)} fragmented, ` +
      `${share(r.compressedClusters, r.allocatedClusters)} compressed clusters\n`;
  }
  if (r.imageEndOffset > 0) text += `Image end offset: ${r.imageEndOffset}\n`;
  return text;
}

/** As C prints %.2f: a tie, which only eighths can be, goes to the even digit. */
function twoDecimals(x: number): string {
  const eighths = (x * 8) % 8;
  return eighths === 1 || eighths === 5 ? (x - 0.125 + 0.12).toFixed(2) : x.toFixed(2);
}

function json(name: string, format: string, r: CheckResult, fixed: CheckResult): string {
  const some = (n: number): number | undefined => (n === 0 ? undefined : n);
  return qemuJson({
    filename: name,
    format,
    "check-errors": r.errors,
    "image-end-offset": some(r.imageEndOffset),
    corruptions: some(r.corruptions),
    leaks: some(r.leaks),
    "corruptions-fixed": some(fixed.corruptionsFixed),
    "leaks-fixed": some(fixed.leaksFixed),
    "total-clusters": some(r.totalClusters),
    "allocated-clusters": some(r.allocatedClusters),
    "fragmented-clusters": some(r.fragmentedClusters),
    "compressed-clusters": some(r.compressedClusters),
  });
}

/** Findings on their way to standard error, many at a time. */
class Lines {
  private text = "";
  private readonly output: CheckOutput;

  constructor(output: CheckOutput) {
    this.output = output;
  }

  add(line: string): void {
    this.text += `${line}\n`;
    if (this.text.length > 32768) this.flush();
  }

  flush(): void {
    if (this.text !== "") this.output.err(this.text);
    this.text = "";
  }
}
