import type { Qcow2CreateOptions } from "../../../src/image/qcow2/create/options.ts";
import { print } from "../../ui/out.ts";
import type { ConvertSettings } from "./convert-options.ts";
import {
  createFormat,
  createOptionsHelp,
  qcow2Options,
  type RawCreateOptions,
  rawOptions,
  readCreateOptions,
  setSize,
  setText,
  textOf,
} from "./create-options.ts";
import { Finished, QemuError } from "./errors.ts";
import { hostText } from "./host-text.ts";
import { wantsHelp } from "./keyval.ts";

/** The image that a conversion makes. */
export type NewImage =
  | { readonly format: "raw"; readonly options: RawCreateOptions }
  | { readonly format: "qcow2"; readonly options: Qcow2CreateOptions };

/** Prints the options of the output's format where -o asks for them, and ends the command. */
export function helpWithOptions(s: ConvertSettings): void {
  if (s.options === null || !wantsHelp(s.options)) return;
  if (s.outputFormat === null) throw new QemuError("Option help requires a format be specified");
  print(createOptionsHelp(createFormat(s.outputFormat), s.target !== null));
  throw new Finished(0);
}

/** What the command line says of the new image, for a disk of `size` bytes. Throws QemuError, in native's order. */
export function newImage(s: ConvertSettings, size: number): NewImage {
  const format = createFormat(s.outputFormat!);
  const values = readCreateOptions(format, s.options);
  setSize(values, BigInt(size));
  if (s.backing !== null) {
    if (format !== "qcow2") throw new QemuError(`Backing file not supported for file format '${format}'`);
    setText(values, "backing_file", s.backing);
  }
  if (s.backingFormat !== null) {
    if (format !== "qcow2")
      throw new QemuError(`Backing file format not supported for file format '${format}'`);
    setText(values, "backing_fmt", s.backingFormat);
  }
  const backing = textOf(values, "backing_file");
  if (backing !== null) {
    if (s.sources.length > 1)
      throw new QemuError(
        "Having a backing file for the target makes no sense when concatenating multiple input images",
      );
    if (textOf(values, "backing_fmt") === null)
      throw new QemuError("Use of backing file requires explicit backing format");
  }
  if (s.compressed) {
    if (format !== "qcow2") throw new QemuError("Compression not supported for this file format");
    if (values.get("encryption")?.value === true || textOf(values, "encrypt.format") !== null)
      throw new QemuError("Compression and encryption not supported at the same time");
    if ((textOf(values, "preallocation") ?? "off") !== "off")
      throw new QemuError("Compression and preallocation not supported at the same time");
    if (textOf(values, "data_file") !== null)
      throw new QemuError(`error while writing at byte 0: ${hostText("ENOTSUP")}`);
  }
  const prefix = `${s.target}: error while converting ${format}: `;
  return format !== "qcow2"
    ? { format: "raw", options: rawOptions(values, size, prefix) }
    : { format, options: qcow2Options(values, size, prefix) };
}
