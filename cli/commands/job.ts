import type { JobOptions, JobResult, Progress } from "../../src/engine/api.ts";
import { AbortError } from "../../src/errors.ts";
import type { Target } from "../../src/io/target.ts";
import { noteSignal } from "../ui/errors.ts";
import { formatDuration, formatSize, printable } from "../ui/format.ts";
import { toJson } from "../ui/json.ts";
import { print, printError } from "../ui/out.ts";
import { isTerminal } from "../ui/terminal.ts";
import { checkOutput, type OutputSettings, openOutput } from "./output.ts";

/**
 * Runs a job with the progress line (where standard error is a terminal), Ctrl-C as an abort, and the host's fast
 * copier. Whatever happens, the line is gone and the copier let go afterwards. A second signal ends the process.
 */
export async function withJob<T>(
  work: (options: JobOptions) => Promise<T>,
  show: { readonly line: boolean } = { line: true },
): Promise<T> {
  const { nodeBulk, nodeComparer, onSignals } = await import("../../src/node.ts");
  const abort = new AbortController();
  let line: { update(p: Progress): void; clear(): void } | null = null;
  if (show.line && isTerminal(2)) {
    const { ProgressLine } = await import("../ui/progress.ts");
    line = new ProgressLine(printError);
  }
  onSignals((signal) => {
    const code = noteSignal(signal);
    if (abort.signal.aborted) process.exit(code);
    abort.abort();
  });
  const bulk = nodeBulk();
  const comparer = nodeComparer();
  try {
    return await work({
      signal: abort.signal,
      bulk,
      comparer,
      ...(line === null ? {} : { onProgress: (p: Progress) => line.update(p) }),
    });
  } finally {
    line?.clear();
    onSignals(null);
    await bulk.close();
    await comparer.close();
  }
}

/** Runs a job that writes `image`; a job that is stopped says what it leaves behind. */
export async function withOutput(
  image: string,
  settings: OutputSettings,
  work: (target: Target, options: JobOptions) => Promise<JobResult>,
): Promise<JobResult> {
  // Not within the job: opening a FIFO waits for its reader, and a signal has to end that.
  const target = await openOutput(image, settings);
  return withJob(async (options) => {
    try {
      return await work(target, options);
    } catch (error) {
      if (!(error instanceof AbortError)) throw error;
      const whole = target.fresh && target.seekable;
      throw new AbortError(`interrupted, ${whole ? "nothing was written" : `${target.label} is incomplete`}`);
    }
  });
}

export interface ResultNames {
  readonly source: string;
  readonly image: string;
  readonly json: boolean;
  readonly seconds: number;
}

/** What a job did: a line, or JSON. Goes to standard error where standard output is the image. */
export function printResult(result: JobResult, names: ResultNames): void {
  const put = names.image === "-" ? printError : print;
  if (names.json) {
    put(
      toJson({
        source: names.source,
        image: names.image,
        ...result,
        seconds: Number(names.seconds.toFixed(3)),
      }),
    );
    return;
  }
  printWarnings(result.warnings);
  put(
    `${nameOf(names.image)}: ${summary(result)}, ${formatSize(result.written)} written in ` +
      `${formatDuration(names.seconds)}${result.verified ? ", verified" : ""}\n`,
  );
}

/** What a job would do, in the same forms, once its output is checked as the job would. */
export async function tellPlan(
  plan: Pick<JobResult, "format" | "guestSize" | "selected" | "warnings">,
  names: Omit<ResultNames, "seconds">,
  settings: OutputSettings,
): Promise<void> {
  await checkOutput(names.image, settings, plan.format === "raw" ? plan.guestSize : 0);
  if (names.json) {
    print(toJson({ source: names.source, image: names.image, dryRun: true, ...plan }));
    return;
  }
  printWarnings(plan.warnings);
  print(`${nameOf(names.image)}: would be ${summary(plan)}; nothing was written\n`);
}

function nameOf(image: string): string {
  return image === "-" ? "standard output" : image;
}

function summary(r: Pick<JobResult, "format" | "guestSize" | "selected">): string {
  return `${r.format} of ${formatSize(r.guestSize)}, ${formatSize(r.selected)} selected`;
}

/** Says so where the source may change while it is read. */
export async function warnOfMount(source: string, partition: number | null): Promise<void> {
  if (source === "-") return;
  const { writableMount } = await import("../../src/node.ts");
  const where = writableMount(source, partition);
  if (where === null) return;
  printWarnings([
    `${source}: is mounted read-write on ${where}; what changes meanwhile may not fit together`,
  ]);
}

function printWarnings(warnings: readonly string[]): void {
  for (const warning of warnings) printError(`warning: ${printable(warning)}\n`);
}

/** Seconds since `start` (of performance.now()). */
export function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
