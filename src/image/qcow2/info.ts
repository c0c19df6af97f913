import type { FormatError } from "../../errors.ts";
import type { InfoField } from "../../fs/volume.ts";
import type { Qcow2Header } from "./header.ts";
import { COMPRESSION, CRYPT } from "./layout.ts";
import type { Snapshot } from "./snapshots.ts";

/** Snapshots listed by name; the rest are only counted. */
const LISTED = 100;

/** What a person is told about a QCOW2 image, in order. */
export function qcow2Info(
  h: Qcow2Header,
  snapshots: readonly Snapshot[],
  trouble: FormatError | null,
): InfoField[] {
  const fields: InfoField[] = [
    { key: "version", label: "version", value: h.version },
    { key: "compat", label: "compatible with qemu from", value: h.version < 3 ? "0.10" : "1.1" },
    { key: "virtualSize", label: "virtual size", value: h.size, unit: "bytes" },
    { key: "clusterSize", label: "cluster size", value: h.clusterSize, unit: "bytes" },
    { key: "refcountBits", label: "refcount bits", value: 2 ** h.refcountOrder },
    {
      key: "compressionType",
      label: "compression type",
      value: h.compressionType === COMPRESSION.zstd ? "zstd" : "zlib",
    },
    { key: "extendedL2", label: "extended L2 entries", value: h.extendedL2 },
    { key: "lazyRefcounts", label: "lazy refcounts", value: h.lazyRefcounts },
    { key: "dirty", label: "not cleanly shut down", value: h.dirty },
    { key: "corrupt", label: "marked corrupt", value: h.corrupt },
  ];
  if (h.cryptMethod !== CRYPT.none)
    fields.push({
      key: "encryption",
      label: "encryption",
      value: h.cryptMethod === CRYPT.luks ? "luks" : "aes",
    });
  if (h.backingFile !== null)
    fields.push({ key: "backingFile", label: "backing file", value: h.backingFile });
  if (h.backingFormat !== null)
    fields.push({ key: "backingFormat", label: "backing file format", value: h.backingFormat });
  if (h.external) {
    fields.push({ key: "dataFile", label: "data file", value: h.dataFile ?? "" });
    fields.push({ key: "rawDataFile", label: "data file is a raw disk", value: h.rawDataFile });
  }
  if (h.bitmaps !== null)
    fields.push({ key: "bitmaps", label: "bitmaps", value: h.bitmaps.count, unit: "count" });
  if (h.snapshots > 0) {
    fields.push({ key: "snapshotCount", label: "snapshots", value: h.snapshots, unit: "count" });
    fields.push({
      key: "snapshots",
      label: "snapshot list",
      value:
        trouble !== null
          ? [`unreadable: ${trouble.message}`]
          : snapshots.slice(0, LISTED).map((s) => `${s.id} ${s.name} (${s.diskSize} bytes)`),
    });
  }
  if (h.unknownExtensions.length > 0)
    fields.push({
      key: "unknownExtensions",
      label: "unknown header extensions",
      value: h.unknownExtensions.map((e) => `0x${e.type.toString(16)}`),
    });
  return fields;
}
