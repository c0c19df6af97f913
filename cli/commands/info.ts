import type { FilesystemSummary, Inspection } from "../../src/engine/api.ts";
import type { InfoField } from "../../src/fs/volume.ts";
import { formatField, formatSize, printable, table } from "../ui/format.ts";
import { fieldsToJson, toJson } from "../ui/json.ts";
import { print } from "../ui/out.ts";
import {
  type CommandSpec,
  INPUT_FORMAT_OPTION,
  JSON_OPTION,
  readArguments,
  SECTOR_SIZE_OPTION,
} from "./arguments.ts";
import { inspectContainer, openInput } from "./input.ts";

const SPEC: CommandSpec = {
  operands: ["FILE"],
  about: "Tell what an image, device or volume is: container, partitions, filesystems.",
  options: [SECTOR_SIZE_OPTION, INPUT_FORMAT_OPTION, JSON_OPTION],
  examples: [
    ["disk.qcow2", "container, partition table and filesystems of a disk image"],
    ["--json /dev/sdb1", "the same facts of a device, for a program"],
  ],
};

export async function run(program: string, args: readonly string[]): Promise<number> {
  const read = readArguments(program, args, SPEC);
  if (read === null) return 0;
  const { inspect } = await import("../../src/engine/inspect.ts");
  const [name] = read.operands;
  const options = read.input();
  const show = (found: Inspection): void =>
    print(read.has("json") ? toJson(inspectionToJson(found)) : inspectionToText(found));
  const opened = await openInput(name, options).catch(async (error: unknown) => {
    // A file that the image names may be missing: the image can still be described.
    const image = await inspectContainer(name, options, error).catch(() => null);
    if (image !== null) show(image);
    throw error;
  });
  try {
    show(await inspect(opened));
    if (opened.damage !== null) throw opened.damage;
  } finally {
    await opened.close();
  }
  return 0;
}

function inspectionToJson(i: Inspection): unknown {
  const filesystem = (f: FilesystemSummary | null): unknown =>
    f === null
      ? null
      : {
          kind: f.kind,
          supported: f.supported,
          size: f.size,
          blockSize: f.blockSize,
          ...fieldsToJson(f.info),
        };
  return {
    file: i.label,
    fileSize: i.size,
    format: i.format,
    container: fieldsToJson(i.container),
    diskSize: i.diskSize,
    partitionTable: i.partitionTable,
    partitions: i.partitions.map((p) => ({ ...p, filesystem: filesystem(p.filesystem) })),
    filesystem: filesystem(i.filesystem),
  };
}

function inspectionToText(i: Inspection): string {
  const blocks: string[] = [];
  blocks.push(
    section(null, [
      ["File", printable(i.label)],
      ["File size", withBytes(i.size)],
      ["Format", i.format],
      ["Disk size", withBytes(i.diskSize)],
      ...fieldRows(i.container.filter((f) => f.key !== "virtualSize")),
    ]),
  );
  if (i.partitionTable !== "none") {
    const rows = i.partitions.map((p) => [
      String(p.number),
      String(p.start),
      formatSize(p.size),
      printable(p.type),
      p.filesystem?.kind ?? "-",
      printable(p.name),
    ]);
    blocks.push(
      `Partition table: ${i.partitionTable.toUpperCase()}\n` +
        table([["  #", "start", "size", "type", "filesystem", "name"], ...rows], [true, true, true]),
    );
  }
  for (const p of i.partitions)
    if (p.filesystem !== null) blocks.push(filesystemText(`Partition ${p.number}`, p.filesystem));
  if (i.filesystem !== null)
    blocks.push(
      filesystemText(
        i.filesystem.supported || i.filesystem.kind === "damaged" ? "Filesystem" : "Contents",
        i.filesystem,
      ),
    );
  else if (i.partitionTable === "none")
    blocks.push("No filesystem or partition table known to this version.\n");
  return blocks.join("\n");
}

function filesystemText(title: string, f: FilesystemSummary): string {
  if (f.kind === "damaged") return section(`${title}: damaged`, fieldRows(f.info));
  const known = new Set(f.info.map((field) => field.key));
  const rows: [string, string][] = [];
  if (!known.has("size") && f.size > 0) rows.push(["Size", withBytes(f.size)]);
  if (!known.has("blockSize") && f.blockSize > 0) rows.push(["Block size", `${f.blockSize} B`]);
  const note = f.supported ? "" : ", which this version does not read";
  return section(`${title}: ${f.kind}${note}`, [...rows, ...fieldRows(f.info)]);
}

function fieldRows(fields: readonly InfoField[]): [string, string][] {
  return fields.map((f) => [f.label.charAt(0).toUpperCase() + f.label.slice(1), formatField(f)]);
}

function withBytes(size: number): string {
  return size < 1024 ? formatSize(size) : `${formatSize(size)} (${size} bytes)`;
}

function section(title: string | null, rows: readonly (readonly [string, string])[]): string {
  const indent = title === null ? "" : "  ";
  const body = table(rows.map(([label, value]) => [`${indent}${label}:`, value]));
  return title === null ? body : `${title}\n${body}`;
}
