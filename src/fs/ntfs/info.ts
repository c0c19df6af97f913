import type { InfoField } from "../volume.ts";
import type { BootSector } from "./boot.ts";

/** What `describe` needs of a volume. */
export interface Facts {
  readonly boot: BootSector;
  readonly version: { readonly major: number; readonly minor: number };
  readonly flags: number;
  readonly label: string;
  readonly dirty: boolean;
  readonly records: number;
  readonly warnings: readonly string[];
}

/** What `imprint info` says of an NTFS volume. */
export function describe(volume: Facts): InfoField[] {
  const { boot, version } = volume;
  const fields: InfoField[] = [
    { key: "label", label: "Label", value: volume.label },
    {
      key: "serial",
      label: "Serial number",
      value: boot.serial.toString(16).toUpperCase().padStart(16, "0"),
    },
    { key: "version", label: "NTFS version", value: `${version.major}.${version.minor}` },
    {
      key: "state",
      label: "State",
      value: volume.dirty ? "scheduled for a check, or not shut down cleanly" : "clean",
    },
    { key: "flags", label: "Volume flags", value: volume.flags, unit: "hex" },
    { key: "sectorSize", label: "Sector size", value: boot.bytesPerSector, unit: "bytes" },
    { key: "clusterSize", label: "Cluster size", value: boot.clusterSize, unit: "bytes" },
    { key: "clusters", label: "Clusters", value: boot.clusters, unit: "count" },
    { key: "recordSize", label: "MFT record size", value: boot.recordSize, unit: "bytes" },
    { key: "records", label: "MFT records", value: volume.records, unit: "count" },
    { key: "indexBlockSize", label: "Index block size", value: boot.indexBlockSize, unit: "bytes" },
    { key: "mftCluster", label: "MFT at cluster", value: boot.mftLcn, unit: "count" },
    { key: "mirrorCluster", label: "MFT mirror at cluster", value: boot.mirrorLcn, unit: "count" },
  ];
  if (volume.warnings.length > 0)
    fields.push({ key: "warnings", label: "Warnings", value: [...volume.warnings] });
  return fields;
}
