import { parse } from "../getopt.ts";
import { print } from "../ui/out.ts";
import { Finished, QemuUsageError, warn } from "./qemu-img/errors.ts";
import { guarded } from "./qemu-img/guard.ts";
import { HelpWanted } from "./qemu-img/options.ts";

/** A subcommand's module: runs with the words after its name; returns the exit code or throws (see errors.ts). */
interface Command {
  run(program: string, args: readonly string[]): Promise<number> | number;
}

const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  amend: () => import("./qemu-img/amend.ts"),
  bitmap: () => import("./qemu-img/bitmap.ts"),
  check: () => import("./qemu-img/check.ts"),
  convert: () => import("./qemu-img/convert.ts"),
  compare: () => import("./qemu-img/compare.ts"),
  info: () => import("./qemu-img/info.ts"),
  map: () => import("./qemu-img/map.ts"),
  resize: () => import("./qemu-img/resize.ts"),
  snapshot: () => import("./qemu-img/snapshot.ts"),
  create: () => import("./qemu-img/create.ts"),
  measure: () => import("./qemu-img/measure.ts"),
  dd: () => import("./qemu-img/dd.ts"),
  commit: () => import("./qemu-img/commit.ts"),
  rebase: () => import("./qemu-img/rebase.ts"),
};

/** Commands of the native tool that are not here. */
const MISSING = new Set(["bench"]);

const OPTIONS = [
  { key: "help", short: "h", long: "help" },
  { key: "version", short: "V", long: "version" },
  { key: "trace", short: "T", long: "trace", arg: "pattern" },
  { key: "untrusted", long: "untrusted", exact: true },
];

/** qemu-img: the global options, then a command with its own. Returns the exit code. */
export function run(program: string, args: readonly string[]): Promise<number> {
  return guarded(() => dispatch(program, args));
}

async function dispatch(program: string, args: readonly string[]): Promise<number> {
  let untrusted = false;
  if (args.length === 0) throw new QemuUsageError("Not enough arguments");
  const words: string[] = [];
  for (const item of parse(args, OPTIONS, { posix: true })) {
    if (item.kind === "operand") words.push(item.value);
    else if (item.kind === "error") {
      const what = item.missing ? "missing argument for option" : "unrecognized option";
      throw new QemuUsageError(`${what} '${item.word ?? "qemu-img"}'`);
    } else if (item.key === "help") throw new HelpWanted();
    else if (item.key === "version") {
      const { version } = await import("../version.ts");
      print(`qemu-img version 7.2 (Imprint ${version()})\n`);
      return 0;
    } else if (item.key === "untrusted") untrusted = true;
    else trace(item.value!);
  }
  const [name, ...rest] = words;
  if (name === undefined) throw new QemuUsageError("Not enough arguments");
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (load === undefined) {
    if (MISSING.has(name)) throw new QemuUsageError(`${name} is not in this version`);
    throw new QemuUsageError(`Command not found: ${name}`);
  }
  // Built, each command is a file of its own that shares no state with this one.
  return (await load()).run(program, untrusted ? ["--untrusted", ...rest] : rest);
}

/** -T: there are no trace events here. */
function trace(text: string): void {
  const first = text.split(",")[0];
  if (first === "help" || first === "?") throw new Finished(0);
  if (!first.includes("=") || first.startsWith("enable="))
    warn(`trace event '${first.replace(/^enable=/, "")}' does not exist`);
}
