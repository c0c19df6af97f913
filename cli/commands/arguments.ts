import type { OutputFormat } from "../../src/engine/api.ts";
import { describeOptions, type OptionSpec, parse } from "../getopt.ts";
import { UsageError } from "../ui/errors.ts";
import { print } from "../ui/out.ts";
import type { InputOptions } from "./input.ts";

/** A command as data: what its help says and what its command line may hold. */
export interface CommandSpec {
  /** Operands as the usage line names them; one that ends in "..." may repeat. */
  readonly operands: readonly string[];
  readonly about: string;
  readonly options: readonly OptionSpec[];
  /** Command lines after the program's name, each with what it does. */
  readonly examples: readonly (readonly [string, string])[];
  /** Lines after the options: exit codes and the like. */
  readonly notes?: string;
}

const HELP: OptionSpec = { key: "help", short: "h", long: "help", help: "show this help" };

export const JSON_OPTION: OptionSpec = { key: "json", long: "json", help: "print the result as JSON" };
const PARTITION_OPTION: OptionSpec = {
  key: "partition",
  short: "P",
  long: "partition",
  arg: "N",
  help: "take partition N of the disk",
};
export const SECTOR_SIZE_OPTION: OptionSpec = {
  key: "sectorSize",
  long: "sector-size",
  arg: "SIZE",
  help: "sectors of the partitioned disk are SIZE bytes (default: what the device says, else 512)",
};
export const INPUT_FORMAT_OPTION: OptionSpec = {
  key: "inputFormat",
  long: "input-format",
  arg: "FORMAT",
  help: "read the source as raw or qcow2 instead of looking at it",
};
/** How a source is read, for commands that read one disk: see `Arguments.input`. */
export const INPUT_OPTIONS: readonly OptionSpec[] = [
  PARTITION_OPTION,
  SECTOR_SIZE_OPTION,
  INPUT_FORMAT_OPTION,
];

/** A command line that has been read. */
export class Arguments {
  private readonly values: ReadonlyMap<string, string | null>;
  readonly operands: readonly string[];

  constructor(values: ReadonlyMap<string, string | null>, operands: readonly string[]) {
    this.values = values;
    this.operands = operands;
  }

  has(key: string): boolean {
    return this.values.has(key);
  }

  value(key: string): string | null {
    return this.values.get(key) ?? null;
  }

  /** A whole number from `min` to `max`, or null where the option is absent. */
  number(key: string, name: string, min: number, max: number): number | null {
    const text = this.value(key);
    if (text === null) return null;
    const n = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(n >= min && n <= max))
      throw new UsageError(`${name} takes a number from ${min} to ${max}, not '${text}'`);
    return n;
  }

  /** Bytes, with k, M, G or T behind the number for powers of 1024; null where the option is absent. */
  size(key: string, name: string): number | null {
    const text = this.value(key);
    if (text === null) return null;
    const m = /^(\d+)([kKmMgGtT]?)(?:i?[bB])?$/.exec(text);
    const n = m === null ? Number.NaN : Number(m[1]) * 1024 ** " kmgt".indexOf(m[2].toLowerCase() || " ");
    if (!Number.isSafeInteger(n))
      throw new UsageError(`${name} takes a size such as 64k or 1M, not '${text}'`);
    return n;
  }

  /** Bytes of a disk's sector, or null where the option is absent. */
  private sectorSize(): number | null {
    const size = this.size("sectorSize", "--sector-size");
    if (size === null || (size >= 512 && size <= 65536 && (size & (size - 1)) === 0)) return size;
    throw new UsageError(
      `--sector-size takes a power of two from 512 to 65536, not '${this.value("sectorSize")}'`,
    );
  }

  /** An image format by name, or null where the option is absent. */
  format(key: string, name: string): OutputFormat | null {
    const text = this.value(key);
    if (text === null || text === "raw" || text === "qcow2") return text;
    throw new UsageError(`${name} takes raw or qcow2, not '${text}'`);
  }

  /** What INPUT_OPTIONS, or those of them that the command has, say. */
  input(): Required<InputOptions> {
    return {
      format: this.format("inputFormat", "--input-format"),
      partition: this.number("partition", "--partition", 1, 65535),
      sectorSize: this.sectorSize(),
    };
  }
}

/** Reads a command line; null when it asked for help, which has been printed then. Throws UsageError. */
export function readArguments(program: string, args: readonly string[], spec: CommandSpec): Arguments | null {
  const values = new Map<string, string | null>();
  const operands: string[] = [];
  for (const item of parse(args, [...spec.options, HELP])) {
    if (item.kind === "error") throw new UsageError(item.message);
    if (item.kind === "operand") operands.push(item.value);
    else values.set(item.key, item.value);
  }
  if (values.has("help")) {
    print(helpText(program, spec));
    return null;
  }
  const last = spec.operands[spec.operands.length - 1];
  if (operands.length < spec.operands.length)
    throw new UsageError(`${spec.operands[operands.length].replace("...", "")} is missing`);
  if (operands.length > spec.operands.length && !last.endsWith("..."))
    throw new UsageError(`unexpected operand '${operands[spec.operands.length]}'`);
  return new Arguments(values, operands);
}

/** The help of a command. */
export function helpText(program: string, spec: CommandSpec): string {
  const examples = spec.examples.map(([line, what]) => `  ${program} ${line}\n      ${what}\n`).join("");
  const notes = spec.notes === undefined ? "" : `\n${spec.notes}\n`;
  return `Usage: ${program} [OPTION]... ${spec.operands.join(" ")}
${spec.about}

Options:
${describeOptions([...spec.options, HELP])}${notes}
Examples:
${examples}`;
}
