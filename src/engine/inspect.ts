import { ImprintError } from "../errors.ts";
import type { Volume } from "../fs/volume.ts";
import { slice } from "../io/slice.ts";
import type { FilesystemSummary, Inspection } from "./api.ts";
import { type Opened, openVolume } from "./open.ts";

function summary(volume: Volume | null): FilesystemSummary | null {
  if (volume === null) return null;
  return { kind: volume.kind, size: volume.size, blockSize: volume.blockSize, info: volume.info() };
}

/** Everything `imprint info` says of an opened source. A damaged filesystem in a partition is told as a warning there. */
export async function inspect(opened: Opened): Promise<Inspection> {
  const partitions: Inspection["partitions"][number][] = [];
  for (const p of opened.partitions) {
    let filesystem: FilesystemSummary | null = null;
    try {
      filesystem = summary(
        p.number === opened.partition?.number
          ? opened.volume
          : await openVolume(slice(opened.disk, p.start, p.size)),
      );
    } catch (error) {
      if (!(error instanceof ImprintError)) throw error;
      filesystem = {
        kind: "damaged",
        size: 0,
        blockSize: 0,
        info: [{ key: "error", label: "Error", value: error.message }],
      };
    }
    partitions.push({ ...p, filesystem });
  }
  return {
    label: opened.file.label,
    size: opened.file.size,
    format: opened.container.format,
    container: opened.container.info(),
    diskSize: opened.disk.size,
    partitionTable: opened.partitionTable,
    partitions,
    filesystem: opened.partition === null ? summary(opened.volume) : null,
  };
}
