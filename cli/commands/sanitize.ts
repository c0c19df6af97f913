import type { JobResult, OutputFormat, Qcow2Options } from "../../src/engine/api.ts";
import type { Opened } from "../../src/engine/open.ts";
import type { SanitizeReport } from "../../src/engine/sanitize.ts";
import { printLeakReport } from "../ui/leak-report.ts";
import { print, printError } from "../ui/out.ts";
import { openDisk } from "./input.ts";
import { printResult, type ResultNames, secondsSince, tellPlan, withJob, withOutput } from "./job.ts";

/** What a command line says about hiding names. */
export interface SanitizeChoice {
  /** Null: a random one. */
  readonly seed: string | null;
  readonly journal: "replay" | "drop";
}

interface Output extends Omit<ResultNames, "seconds"> {
  readonly format: OutputFormat;
  readonly qcow2: Qcow2Options | null;
  /** Of performance.now(). */
  readonly start: number;
}

/** `capture --sanitize`: writes the image, searches it, prints the report. */
export async function sanitizeJob(
  opened: Opened,
  output: Output,
  choice: SanitizeChoice,
  settings: { readonly force: boolean; readonly verify: boolean; readonly dryRun: boolean },
): Promise<number> {
  const m = await import("../../src/node.ts");
  const { image, format, qcow2 } = output;
  const seed = choice.seed ?? m.randomSeed();
  if (settings.dryRun) {
    const volume = m.sanitizable(opened);
    const plan = await withJob(async ({ signal, onProgress }) => {
      const clean = await m.sanitize(volume, {
        seed,
        journal: choice.journal,
        ...(signal === undefined ? {} : { signal }),
        ...(onProgress === undefined ? {} : { onProgress }),
      });
      clean.close();
      return clean;
    });
    const { selected } = plan.selection;
    await tellPlan({ format, guestSize: volume.size, selected, warnings: plan.warnings }, output, settings);
    return 0;
  }
  let report: SanitizeReport | null = null;
  const result: JobResult = await withOutput(image, settings, async (target, job) => {
    const done = await m.captureSanitized(opened, target, {
      ...job,
      format,
      seed,
      journal: choice.journal,
      verify: settings.verify,
      ...(qcow2 === null ? {} : { qcow2 }),
      // What went into a pipe cannot be read back.
      reopen: () => (target.seekable ? openDisk(image, { format }) : Promise.resolve(null)),
    });
    report = done.report;
    return done.result;
  });
  const seconds = secondsSince(output.start);
  if (output.json) {
    const { warnings: _, ...rest } = report!;
    const both: JobResult & { sanitized: Omit<SanitizeReport, "warnings"> } = { ...result, sanitized: rest };
    printResult(both, { ...output, seconds });
    return 0;
  }
  printResult(result, { ...output, seconds });
  printLeakReport(report!, image === "-" ? printError : print);
  return 0;
}
