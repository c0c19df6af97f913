import { putU32be, putU64be } from "../../bytes/endian.ts";
import { featureNames, type HeaderExtension, hasFeatureNames, joinHeader } from "./header-bytes.ts";
import {
  AUTOCLEAR,
  COMPATIBLE_LAZY_REFCOUNTS,
  COMPRESSION,
  EXTENSION,
  H,
  INCOMPATIBLE,
  MAGIC,
  V2_HEADER_LENGTH,
  V3_HEADER_LENGTH,
} from "./layout.ts";

/** What a new header says. Offsets and sizes in bytes, `l1Entries` and `tableClusters` counts. */
export interface HeaderFields {
  readonly version: number;
  readonly clusterBits: number;
  readonly size: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly tableOffset: number;
  readonly tableClusters: number;
  readonly refcountOrder: number;
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
  /** 0 zlib (default), 1 zstd: see COMPRESSION. */
  readonly compressionType?: number;
  readonly extendedL2?: boolean;
  readonly lazyRefcounts?: boolean;
  /** Name of the file that holds the data. */
  readonly dataFile?: string | null;
  /** The data file can be read as a raw image. */
  readonly rawDataFile?: boolean;
}

/** The first 72 bytes: all of a version 2 header. */
export function v2Header(f: HeaderFields): Uint8Array {
  const b = new Uint8Array(V2_HEADER_LENGTH);
  putU32be(b, 0, MAGIC);
  putU32be(b, H.version, f.version);
  putU32be(b, H.clusterBits, f.clusterBits);
  putU64be(b, H.size, f.size);
  putU32be(b, H.l1Entries, f.l1Entries);
  putU64be(b, H.l1Offset, f.l1Offset);
  putU64be(b, H.tableOffset, f.tableOffset);
  putU32be(b, H.tableClusters, f.tableClusters);
  return b;
}

/**
 * The header with its extensions and the backing file name. Throws RangeError where it does not fit into one cluster.
 */
export function qemuHeader(f: HeaderFields): Uint8Array {
  const text = new TextEncoder();
  const v3 = f.version >= 3;
  const clusterSize = 2 ** f.clusterBits;
  const fields = new Uint8Array(v3 ? V3_HEADER_LENGTH : V2_HEADER_LENGTH);
  fields.set(v2Header(f));
  if (v3) {
    const bits = (...flags: (number | false)[]) =>
      flags.reduce<number>((sum, bit) => (bit === false ? sum : sum + 2 ** bit), 0);
    const compression = f.compressionType ?? COMPRESSION.zlib;
    putU64be(
      fields,
      H.incompatible,
      bits(
        f.dataFile != null && INCOMPATIBLE.dataFile,
        compression !== COMPRESSION.zlib && INCOMPATIBLE.compressionType,
        f.extendedL2 === true && INCOMPATIBLE.extendedL2,
      ),
    );
    putU64be(fields, H.compatible, bits(f.lazyRefcounts === true && COMPATIBLE_LAZY_REFCOUNTS));
    putU64be(fields, H.autoclear, bits(f.rawDataFile === true && AUTOCLEAR.rawDataFile));
    fields[H.compressionType] = compression;
    putU32be(fields, H.refcountOrder, f.refcountOrder);
    putU32be(fields, H.headerLength, V3_HEADER_LENGTH);
  }
  const extensions: HeaderExtension[] = [];
  if (f.backingFile !== null && f.backingFormat !== null)
    extensions.push({ type: EXTENSION.backingFormat, data: text.encode(f.backingFormat) });
  if (f.dataFile != null) extensions.push({ type: EXTENSION.dataFile, data: text.encode(f.dataFile) });
  if (hasFeatureNames(f.version, clusterSize)) extensions.push(featureNames());
  const out = joinHeader(fields, extensions, f.backingFile === null ? null : text.encode(f.backingFile));
  if (out.length > clusterSize)
    throw new RangeError(`qcow2 header: ${out.length} bytes do not fit into a cluster of ${clusterSize}`);
  return out;
}
