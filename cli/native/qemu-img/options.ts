import { type OptionSpec, parse } from "../../getopt.ts";
import { printError } from "../../ui/out.ts";
import { Finished, QemuError, QemuUsageError } from "./errors.ts";
import { addObject } from "./objects.ts";

/** Options that several commands share: put those a command takes into its table. */
export const OPTION = {
  help: { key: "help", short: "h", long: "help" },
  format: { key: "format", short: "f", arg: "fmt" },
  outputFormat: { key: "output-format", short: "O", arg: "fmt" },
  output: { key: "output", long: "output", arg: "ofmt" },
  object: { key: "object", long: "object", arg: "objectdef" },
  imageOpts: { key: "image-opts", long: "image-opts" },
  share: { key: "share", short: "U", long: "force-share" },
  quiet: { key: "quiet", short: "q" },
  progress: { key: "progress", short: "p" },
  cache: { key: "cache", short: "t", arg: "cache" },
  sourceCache: { key: "source-cache", short: "T", arg: "src_cache" },
  options: { key: "options", short: "o", arg: "options" },
} as const satisfies Record<string, OptionSpec>;

/** Options of ours that every command takes, before or after its name. */
const OURS: readonly OptionSpec[] = [{ key: "untrusted", long: "untrusted", exact: true }];

/** What was said for the whole process. */
export const settings = {
  /** --untrusted: open no file that an image names, probe nothing, bound everything. */
  untrusted: false,
};

/** Secrets that --object defined: id to data. They are only kept; nothing here needs a key. */
export const secrets = new Map<string, string>();

/**
 * Reads a command's options and returns its operands. `on` gets each option's key and value in order. --help,
 * --object, --untrusted and wrong options are dealt with here, as native does: QemuUsageError names the word.
 */
export function parseCommand(
  command: string,
  args: readonly string[],
  specs: readonly OptionSpec[],
  on: (key: string, value: string) => void,
): string[] {
  const operands: string[] = [];
  settings.untrusted = false;
  secrets.clear();
  for (const item of parse(args, [OPTION.help, ...specs, ...OURS])) {
    if (item.kind === "operand") operands.push(item.value);
    else if (item.kind === "error" && command === "measure") {
      // Natively its wrong options are getopt's to report, and help follows.
      printError(`measure: ${item.message}\n`);
      showHelp();
    } else if (item.kind === "error")
      throw new QemuUsageError(
        item.missing
          ? `missing argument for option '${item.word ?? command}'`
          : `unrecognized option '${item.word ?? command}'`,
      );
    else if (item.key === "help") showHelp();
    else if (item.key === "untrusted") settings.untrusted = true;
    else if (item.key === "object") addObject(item.value!, secrets);
    else on(item.key, item.value ?? "");
  }
  return operands;
}

/** Prints the help and ends the process well. */
function showHelp(): never {
  // Loaded only when it is wanted: text costs start-up time too.
  throw new HelpWanted();
}

/** Ends a command with the help text. */
export class HelpWanted extends Finished {}

/** "human" or "json" of --output. Throws QemuError with native's text. */
export function outputKind(value: string): "human" | "json" {
  if (value === "human" || value === "json") return value;
  throw new QemuError("--output must be used with human or json as argument.");
}

const CACHE_MODES = new Set(["none", "off", "writeback", "directsync", "unsafe", "writethrough"]);

/** Checks a cache mode; all of them mean the page cache here. `what` is "source" or "" (the destination's). */
export function checkCache(value: string, what: "source" | "" = ""): void {
  if (!CACHE_MODES.has(value))
    throw new QemuError(
      what === "" ? `Invalid cache option: ${value}` : `Invalid ${what} cache option: ${value}`,
    );
}
