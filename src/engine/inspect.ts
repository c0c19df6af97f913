import type { ImprintError } from "../errors.ts";
import { recognise } from "../fs/signatures.ts";
import type { InfoField, Volume } from "../fs/volume.ts";
import { slice } from "../io/slice.ts";
import type { Source } from "../io/source.ts";
import type { FilesystemSummary, Inspection } from "./api.ts";
import { type Opened, tryVolume } from "./open.ts";

/** Where a filesystem is longer than what it is on, how much of it is missing. */
function missing(size: number, source: Source): InfoField[] {
  if (size <= source.size) return [];
  return [{ key: "truncated", label: "Truncated by", value: size - source.size, unit: "bytes" }];
}

async function summary(
  source: Source,
  volume: Volume | null,
  damage: ImprintError | null,
): Promise<FilesystemSummary | null> {
  if (damage !== null) {
    const info = [{ key: "error", label: "Error", value: damage.message }];
    return { kind: "damaged", supported: false, size: 0, blockSize: 0, info };
  }
  if (volume === null) {
    const known = await recognise(source);
    if (known === null) return null;
    return { ...known, supported: false, info: [...missing(known.size, source), ...known.info] };
  }
  const { kind, size, blockSize } = volume;
  return { kind, supported: true, size, blockSize, info: [...missing(size, source), ...volume.info()] };
}

/** Everything `imprint info` says of an opened source. A filesystem that cannot be read has the kind "damaged". */
export async function inspect(opened: Opened): Promise<Inspection> {
  const partitions: Inspection["partitions"][number][] = [];
  for (const p of opened.partitions) {
    const chosen = p.number === opened.partition?.number;
    const source = slice(opened.disk, p.start, p.size);
    const found = chosen ? opened : await tryVolume(source);
    partitions.push({ ...p, filesystem: await summary(source, found.volume, found.damage) });
  }
  return {
    label: opened.file.label,
    size: opened.file.size,
    format: opened.container.format,
    container: opened.container.info(),
    diskSize: opened.disk.size,
    partitionTable: opened.partitionTable,
    partitions,
    filesystem:
      opened.partitionTable === "none" ? await summary(opened.disk, opened.volume, opened.damage) : null,
  };
}
