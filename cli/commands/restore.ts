import { type CommandSpec, INPUT_OPTIONS, JSON_OPTION, readArguments } from "./arguments.ts";
import { convertJob } from "./convert.ts";
import { FORCE_OPTION, VERIFY_OPTION } from "./output.ts";

const SPEC: CommandSpec = {
  operands: ["IMAGE", "TARGET"],
  about: "Write the disk or volume in an image back to a device or a raw file.",
  options: [
    ...INPUT_OPTIONS,
    { key: "dryRun", short: "n", long: "dry-run", help: "tell what would be written and write nothing" },
    VERIFY_OPTION,
    FORCE_OPTION,
    JSON_OPTION,
  ],
  notes: `TARGET "-" is standard output; IMAGE "-" is standard input (kept in a temporary file where it is
a pipe). A mounted or too small device is refused. Exit code: 0 done, 1 failed, 2 wrong usage.`,
  examples: [
    ["home.qcow2 /dev/sdb1", "an image back to its partition, which must be empty"],
    ["--force --verify home.qcow2 /dev/sdb1", "over what the partition holds, read back and compared"],
    ["home.qcow2 - | gzip > home.img.gz", "as a raw stream"],
  ],
};

export async function run(program: string, args: readonly string[]): Promise<number> {
  const read = readArguments(program, args, SPEC);
  return read === null ? 0 : convertJob(read, "raw", null);
}
