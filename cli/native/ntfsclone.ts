import { AbortError } from "../../src/errors.ts";
import { describeOptions } from "../getopt.ts";
import { describe, report } from "../ui/errors.ts";
import { print, printError } from "../ui/out.ts";
import { version } from "../version.ts";
import { type NtfscloneOptions, OPTIONS, parseNtfsclone } from "./ntfsclone-options.ts";
import { checkOutput } from "./ntfsclone-output.ts";
import { Refusal, type Say } from "./ntfsclone-text.ts";

/** The release whose command line this is. */
const NATIVE_VERSION = "2022.10.3";
const FAILURE = 1;

/** The command line of ntfsclone(8). */
export async function run(program: string, args: readonly string[]): Promise<number> {
  printError(`ntfsclone v${NATIVE_VERSION} (imprint ${version()})\n`);
  try {
    const parsed = parseNtfsclone(args);
    if (parsed.kind === "version") {
      printError("Efficiently clone, image, restore or rescue an NTFS Volume.\n");
      return 0;
    }
    if (parsed.kind === "help" || parsed.kind === "usage") {
      if (parsed.kind === "usage" && parsed.message !== null) printError(`${parsed.message}\n`);
      printError(usage());
      return parsed.kind === "help" ? 0 : FAILURE;
    }
    const o = parsed.options;
    checkOutput(o);
    return await imageOf(program, o);
  } catch (error) {
    return fail(program, error, printError);
  }
}

async function imageOf(program: string, o: NtfscloneOptions): Promise<number> {
  const say: Say = o.output === "-" ? printError : print;
  try {
    if (o.restore) {
      const { restore } = await import("./ntfsclone-restore.ts");
      await restore(o, say);
    } else {
      const { clone } = await import("./ntfsclone-clone.ts");
      await clone(o, o.output ?? "", say);
    }
    return 0;
  } catch (error) {
    return fail(program, error, say);
  }
}

/** Says what ended a run; returns the exit code. */
function fail(program: string, error: unknown, say: Say): number {
  if (error instanceof AbortError) return report(program, error);
  if (error instanceof Refusal) {
    if (error.library !== "") printError(error.library);
    say(error.text);
  } else say(`ERROR: ${describe(error)}\n`);
  return FAILURE;
}

function usage(): string {
  return `
Usage: ntfsclone [OPTIONS] SOURCE
    Clone an NTFS volume to a sparse file, a special image, a device or standard output.

${describeOptions(OPTIONS)}
    FILE "-" is standard output. SOURCE "-" is standard input, with --restore-image.
`;
}
