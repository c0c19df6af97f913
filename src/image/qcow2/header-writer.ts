import { putU32be, putU64be } from "../../bytes/endian.ts";
import {
  AUTOCLEAR,
  COMPATIBLE_LAZY_REFCOUNTS,
  COMPRESSION,
  EXTENSION,
  FEATURE_NAMES,
  FEATURE_ROW,
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
 * The header with its extensions and the backing file name, in the order qemu writes them: backing format,
 * data file, feature names (version 3 and clusters above 4 KiB only), end, name. Throws RangeError where it does not fit
 * into one cluster.
 */
export function qemuHeader(f: HeaderFields): Uint8Array {
  const text = new TextEncoder();
  const parts: Uint8Array[] = [];
  let length = 0;
  const add = (b: Uint8Array) => {
    parts.push(b);
    length += b.length;
  };
  const extension = (type: number, data: Uint8Array) => {
    const b = new Uint8Array(8 + ((data.length + 7) & ~7));
    putU32be(b, 0, type);
    putU32be(b, 4, data.length);
    b.set(data, 8);
    add(b);
  };
  const head = new Uint8Array(f.version >= 3 ? V3_HEADER_LENGTH : V2_HEADER_LENGTH);
  head.set(v2Header(f));
  if (f.version >= 3) {
    const bits = (...flags: (number | false)[]) =>
      flags.reduce<number>((sum, bit) => (bit === false ? sum : sum + 2 ** bit), 0);
    const zstd = (f.compressionType ?? COMPRESSION.zlib) !== COMPRESSION.zlib;
    putU64be(
      head,
      H.incompatible,
      bits(
        f.dataFile != null && INCOMPATIBLE.dataFile,
        zstd && INCOMPATIBLE.compressionType,
        f.extendedL2 === true && INCOMPATIBLE.extendedL2,
      ),
    );
    putU64be(head, H.compatible, bits(f.lazyRefcounts === true && COMPATIBLE_LAZY_REFCOUNTS));
    putU64be(head, H.autoclear, bits(f.rawDataFile === true && AUTOCLEAR.rawDataFile));
    head[H.compressionType] = f.compressionType ?? COMPRESSION.zlib;
    putU32be(head, H.refcountOrder, f.refcountOrder);
    putU32be(head, H.headerLength, V3_HEADER_LENGTH);
  }
  add(head);
  if (f.backingFile !== null && f.backingFormat !== null)
    extension(EXTENSION.backingFormat, text.encode(f.backingFormat));
  if (f.dataFile != null) extension(EXTENSION.dataFile, text.encode(f.dataFile));
  if (f.version >= 3 && f.clusterBits > 12) {
    const rows = new Uint8Array(FEATURE_NAMES.length * FEATURE_ROW);
    FEATURE_NAMES.forEach(([kind, bit, name], i) => {
      rows[i * FEATURE_ROW] = kind;
      rows[i * FEATURE_ROW + 1] = bit;
      rows.set(text.encode(name), i * FEATURE_ROW + 2);
    });
    extension(EXTENSION.features, rows);
  }
  extension(EXTENSION.end, new Uint8Array(0));
  if (f.backingFile !== null) {
    const name = text.encode(f.backingFile);
    putU64be(head, H.backingOffset, length);
    putU32be(head, H.backingLength, name.length);
    add(name);
  }
  if (length > 2 ** f.clusterBits)
    throw new RangeError(`qcow2 header: ${length} bytes do not fit into a cluster of ${2 ** f.clusterBits}`);
  const out = new Uint8Array(length);
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}
