import type { NewQcow2 } from "../../../src/engine/requests/new-image.ts";
import type { ConvertSettings } from "./convert-options.ts";
import { QemuError } from "./errors.ts";
import { parseOptionList } from "./keyval.ts";

/** A raw image to be made. */
export interface NewRaw {
  readonly format: "raw";
  readonly preallocation: "off" | "falloc" | "full";
}

export type NewImage = NewRaw | ({ readonly format: "qcow2" } & NewQcow2);

/** PROVISIONAL: replaced by create-options.ts. */
export function newImage(s: ConvertSettings, size: number): NewImage {
  const str = (name: string) => ({ name, type: "string", help: "" }) as const;
  const list = parseOptionList(s.options ?? "", [
    str("compat"),
    str("backing_file"),
    str("backing_fmt"),
    str("compression_type"),
    str("data_file"),
    str("preallocation"),
    { name: "cluster_size", type: "size", help: "" },
    { name: "size", type: "size", help: "" },
    { name: "refcount_bits", type: "number", help: "" },
    { name: "extended_l2", type: "bool", help: "" },
    { name: "lazy_refcounts", type: "bool", help: "" },
    { name: "data_file_raw", type: "bool", help: "" },
  ]);
  const text = (n: string) => list.get(n)?.text ?? null;
  const on = (n: string) => list.get(n)?.value === true;
  if (s.outputFormat === "raw")
    return { format: "raw", preallocation: (text("preallocation") ?? "off") as "off" };
  if (s.outputFormat !== "qcow2") throw new QemuError(`Unknown file format '${s.outputFormat}'`);
  const backingFile = s.backing ?? text("backing_file");
  return {
    format: "qcow2",
    size,
    version: text("compat") === "0.10" || text("compat") === "v2" ? 2 : 3,
    clusterSize: Number(list.get("cluster_size")?.value ?? 65536),
    refcountBits: Number(list.get("refcount_bits")?.value ?? 16),
    compressionType: text("compression_type") === "zstd" ? 1 : 0,
    extendedL2: on("extended_l2"),
    lazyRefcounts: on("lazy_refcounts"),
    dataFile: text("data_file"),
    rawDataFile: on("data_file_raw"),
    preallocation: (text("preallocation") ?? "off") as "off",
    backingFile,
    backingFormat: backingFile === null ? null : (s.backingFormat ?? text("backing_fmt")),
  };
}
