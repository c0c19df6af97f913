import type { OutputFormat, Qcow2Options } from "../../src/engine/api.ts";
import { type Arguments, type CommandSpec, INPUT_OPTIONS, JSON_OPTION, readArguments } from "./arguments.ts";
import { openDisk } from "./input.ts";
import { printResult, secondsSince, tellPlan, warnOfMount, withOutput } from "./job.ts";
import { FORCE_OPTION, OUTPUT_OPTIONS, outputFormat, qcow2Options, VERIFY_OPTION } from "./output.ts";

const SPEC: CommandSpec = {
  operands: ["SOURCE", "IMAGE"],
  about: "Turn an image or device into an image of another format, every byte of the disk in it.",
  options: [
    ...INPUT_OPTIONS,
    ...OUTPUT_OPTIONS,
    { key: "dryRun", short: "n", long: "dry-run", help: "tell what would be written and write nothing" },
    VERIFY_OPTION,
    FORCE_OPTION,
    JSON_OPTION,
  ],
  notes: `IMAGE "-" is standard output; SOURCE "-" is standard input (kept in a temporary file where it is
a pipe). Exit code: 0 done, 1 failed (nothing is left then), 2 wrong usage.`,
  examples: [
    ["disk.img disk.qcow2", "raw to QCOW2"],
    ["--verify disk.qcow2 disk.img", "QCOW2 to a sparse raw file, read back and compared"],
    ["--cluster-size 1M --force disk.img disk.qcow2", "large clusters, over an existing file"],
  ],
};

export async function run(program: string, args: readonly string[]): Promise<number> {
  const read = readArguments(program, args, SPEC);
  if (read === null) return 0;
  const format = outputFormat(read.operands[1], read);
  return convertJob(read, format, qcow2Options(read, format));
}

/** The work of `convert` and `restore`, from a command line that has been read. */
export async function convertJob(
  read: Arguments,
  format: OutputFormat,
  qcow2: Qcow2Options | null,
): Promise<number> {
  const [source, image] = read.operands;
  const start = performance.now();
  const { convert, planConvert } = await import("../../src/node.ts");
  const input = read.input();
  const opened = await openDisk(source, input);
  try {
    const names = { source, image, json: read.has("json") };
    await warnOfMount(source, input.partition);
    const settings = { force: read.has("force"), verify: read.has("verify") };
    if (read.has("dryRun")) {
      const plan = { format, ...(await planConvert(opened.source)), warnings: [] };
      await tellPlan(plan, names, settings);
      return 0;
    }
    const result = await withOutput(image, settings, (target, job) =>
      convert(opened.source, target, {
        ...job,
        format,
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
