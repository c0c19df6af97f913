import { FormatError, ImprintError, RefusedError, UnsupportedError } from "../errors.ts";
import { openExt, probeExt } from "../fs/ext/volume.ts";
import { probeNtfs } from "../fs/ntfs/boot.ts";
import { openNtfs } from "../fs/ntfs/volume.ts";
import { readPartitionTable } from "../fs/partition/table.ts";
import type { Volume } from "../fs/volume.ts";
import { e2imageFormat } from "../image/e2image/format.ts";
import type { ImageFormat, OpenedImage } from "../image/format.ts";
import { ntfscloneFormat } from "../image/ntfsclone/format.ts";
import { qcow2Format } from "../image/qcow2/format.ts";
import { rawFormat } from "../image/raw/format.ts";
import type { Gate } from "../io/gate.ts";
import { slice } from "../io/slice.ts";
import { readZeroFilled, type Source } from "../io/source.ts";
import type { OpenOptions, PartitionEntry } from "./api.ts";

/**
 * Image formats, most specific first; raw takes whatever nothing else knows. A new format is a folder and a line here.
 */
export const imageFormats: readonly ImageFormat[] = [qcow2Format, e2imageFormat, ntfscloneFormat, rawFormat];

/** A filesystem the engine can read. A new one is a folder and a line in `filesystems`. */
export interface Filesystem {
  readonly name: string;
  /** Bytes of the source's start that `probe` wants. */
  readonly headBytes: number;
  probe(head: Uint8Array): boolean;
  open(source: Source): Promise<Volume>;
}

export const filesystems: readonly Filesystem[] = [
  { name: "ext", headBytes: 2048, probe: probeExt, open: (source) => openExt(source) },
  { name: "ntfs", headBytes: 512, probe: probeNtfs, open: (source) => openNtfs(source) },
];

const HEAD_BYTES = 4096;

/** A gate that opens nothing. */
export const refuseGate: Gate = (request) =>
  Promise.reject(
    new RefusedError(
      "EGATE",
      `${request.from}: names the ${request.purpose} "${request.name}", and opening named files was not allowed`,
    ),
  );

/** A source, opened layer by layer: container, disk, partition, filesystem. */
export interface Opened {
  /** The file as given. */
  readonly file: Source;
  readonly container: OpenedImage;
  /** The disk inside the container. */
  readonly disk: Source;
  readonly partitionTable: "none" | "mbr" | "gpt";
  readonly partitions: readonly PartitionEntry[];
  /** The partition that was chosen, or null for the whole disk. */
  readonly partition: PartitionEntry | null;
  /** The bytes that were chosen: a partition, or the whole disk. */
  readonly source: Source;
  /** The filesystem on `source`, or null. */
  readonly volume: Volume | null;
  /** Why the filesystem that is on `source` cannot be read; null where there is none or it can. */
  readonly damage: ImprintError | null;
  close(): Promise<void>;
}

/** Opens the container format of a source. Throws ImprintError("EFORMATNAME") for a format that is not known. */
export async function openContainer(source: Source, options: OpenOptions): Promise<OpenedImage> {
  const wanted = options.format ?? "auto";
  if (wanted !== "auto") {
    const format = imageFormats.find((f) => f.name === wanted);
    if (format === undefined) throw new ImprintError("EFORMATNAME", `unknown image format "${wanted}"`);
    return format.open(source, options.gate);
  }
  const head = await readZeroFilled(source, 0, Math.min(HEAD_BYTES, source.size));
  const format = imageFormats.find((f) => f.probe(head));
  return (format ?? rawFormat).open(source, options.gate);
}

/** The filesystem on a source, or null where none is known. A damaged one throws its FormatError. */
export async function openVolume(source: Source): Promise<Volume | null> {
  for (const fs of filesystems) {
    const head = await readZeroFilled(source, 0, Math.min(fs.headBytes, source.size));
    if (head.length >= fs.headBytes && fs.probe(head)) return fs.open(source);
  }
  return null;
}

/**
 * Opens a source down to the filesystem. A whole-disk filesystem wins over a partition table; of a partitioned disk the
 * asked-for partition is taken, or the only one that holds a known filesystem. Throws ImprintError("EPARTITION") where
 * the asked-for partition is not there.
 */
export async function openImage(file: Source, options: OpenOptions): Promise<Opened> {
  const container = await openContainer(file, options);
  const disk: Source = container;
  const close = async () => {
    await container.close();
    await file.close();
  };
  const base = { file, container, disk, close };
  if (options.partition === undefined) {
    const whole = await tryVolume(disk);
    if (whole.volume !== null || whole.damage !== null)
      return { ...base, partitionTable: "none", partitions: [], partition: null, source: disk, ...whole };
  }
  const table = await readPartitionTable(disk, options.sectorSize);
  const shared = { ...base, partitionTable: table.kind, partitions: table.partitions };
  if (options.partition !== undefined) {
    const partition = table.partitions.find((p) => p.number === options.partition);
    if (partition === undefined)
      throw new ImprintError(
        "EPARTITION",
        table.kind === "none"
          ? `${file.label}: has no partition table`
          : `${file.label}: has no partition ${options.partition} (it has ${table.partitions.map((p) => p.number).join(", ") || "none"})`,
      );
    const source = slice(disk, partition.start, partition.size);
    return { ...shared, partition, source, ...(await tryVolume(source)) };
  }
  const found: { partition: PartitionEntry; source: Source; volume: Volume }[] = [];
  for (const partition of table.partitions) {
    const source = slice(disk, partition.start, partition.size);
    const { volume } = await tryVolume(source);
    if (volume !== null) found.push({ partition, source, volume });
  }
  if (found.length === 1) return { ...shared, ...found[0], damage: null };
  return { ...shared, partition: null, source: disk, volume: null, damage: null };
}

/** As `openVolume`, with a filesystem that is damaged or needs what this version lacks told apart from none. */
export async function tryVolume(
  source: Source,
): Promise<{ readonly volume: Volume | null; readonly damage: ImprintError | null }> {
  try {
    return { volume: await openVolume(source), damage: null };
  } catch (error) {
    if (error instanceof FormatError || error instanceof UnsupportedError)
      return { volume: null, damage: error };
    throw error;
  }
}
