import type { ImprintError } from "../errors.ts";
import type { Volume } from "../fs/volume.ts";
import { slice } from "../io/slice.ts";
import type { FilesystemSummary, Inspection } from "./api.ts";
import { type Opened, tryVolume } from "./open.ts";

function summary(volume: Volume | null, damage: ImprintError | null): FilesystemSummary | null {
  if (damage !== null) {
    const info = [{ key: "error", label: "Error", value: damage.message }];
    return { kind: "damaged", size: 0, blockSize: 0, info };
  }
  if (volume === null) return null;
  return { kind: volume.kind, size: volume.size, blockSize: volume.blockSize, info: volume.info() };
}

/** Everything `imprint info` says of an opened source. A filesystem that cannot be read has the kind "damaged". */
export async function inspect(opened: Opened): Promise<Inspection> {
  const partitions: Inspection["partitions"][number][] = [];
  for (const p of opened.partitions) {
    const chosen = p.number === opened.partition?.number;
    const found = chosen ? opened : await tryVolume(slice(opened.disk, p.start, p.size));
    partitions.push({ ...p, filesystem: summary(found.volume, found.damage) });
  }
  return {
    label: opened.file.label,
    size: opened.file.size,
    format: opened.container.format,
    container: opened.container.info(),
    diskSize: opened.disk.size,
    partitionTable: opened.partitionTable,
    partitions,
    filesystem: opened.partition === null ? summary(opened.volume, opened.damage) : null,
  };
}
