import { AbortError } from "../../src/errors.ts";
import { EXIT, report } from "../ui/errors.ts";
import { formatSize } from "../ui/format.ts";
import { toJson } from "../ui/json.ts";
import { print } from "../ui/out.ts";
import { type CommandSpec, JSON_OPTION, readArguments } from "./arguments.ts";
import { openDisk } from "./input.ts";
import { withJob } from "./job.ts";

const SPEC: CommandSpec = {
  operands: ["A", "B"],
  about: "Compare the disks inside two images, whatever their formats.",
  options: [
    {
      key: "strict",
      short: "s",
      long: "strict",
      help: "disks of different sizes differ, zeros at the end too",
    },
    {
      key: "formatA",
      long: "format-a",
      arg: "FORMAT",
      help: "read A as raw or qcow2 instead of looking at it",
    },
    { key: "formatB", long: "format-b", arg: "FORMAT", help: "the same for B" },
    JSON_OPTION,
  ],
  notes: `One of them may be "-", standard input. Exit code: 0 identical, 1 different, 2 not compared
(an error, wrong usage).`,
  examples: [
    ["disk.img disk.qcow2", "a raw image and its QCOW2"],
    ["--strict a.qcow2 /dev/sdb1", "a disk must not even be longer by zeros"],
  ],
};

/** Exit code where nothing was compared. */
const TROUBLE = 2;

export async function run(program: string, args: readonly string[]): Promise<number> {
  try {
    return await compareCommand(program, args);
  } catch (error) {
    const code = report(program, error);
    return code === EXIT.failure ? TROUBLE : code;
  }
}

async function compareCommand(program: string, args: readonly string[]): Promise<number> {
  const read = readArguments(program, args, SPEC);
  if (read === null) return 0;
  const { compare } = await import("../../src/node.ts");
  const [nameA, nameB] = read.operands;
  const a = await openDisk(nameA, { format: read.format("formatA", "--format-a") });
  try {
    const b = await openDisk(nameB, { format: read.format("formatB", "--format-b") });
    try {
      const found = await withJob((job) => compare(a.source, b.source, job)).catch((error: unknown) => {
        throw error instanceof AbortError ? new AbortError("interrupted") : error;
      });
      const identical = found.identical && !(found.sizeDiffers && read.has("strict"));
      if (read.has("json")) print(toJson({ a: nameA, b: nameB, ...found, identical }));
      else {
        const sizes = `${formatSize(a.source.size)} and ${formatSize(b.source.size)}`;
        if (!found.identical) print(`The images differ at byte ${found.offset}.\n`);
        else if (!identical) print(`The sizes differ: ${sizes}.\n`);
        else print(found.sizeDiffers ? `Identical, but for zeros at the end: ${sizes}.\n` : "Identical.\n");
      }
      return identical ? 0 : 1;
    } finally {
      await b.close();
    }
  } finally {
    await a.close();
  }
}
