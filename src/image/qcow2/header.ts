import { cString, u32be, u64be } from "../../bytes/endian.ts";
import { FormatError, UnsupportedError, withNative } from "../../errors.ts";
import {
  AUTOCLEAR,
  COMPATIBLE_LAZY_REFCOUNTS,
  COMPRESSION,
  CRYPT,
  EXTENSION,
  FEATURE_NAME_LENGTH,
  FEATURE_ROW,
  H,
  INCOMPATIBLE,
  LIMIT,
  MAGIC,
  MAX_CLUSTER_BITS,
  MAX_REFCOUNT_ORDER,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_L2_CLUSTER_BITS,
  V2_HEADER_LENGTH,
  V3_MIN_HEADER_LENGTH,
} from "./layout.ts";
import { textOf } from "./text.ts";

/** Bytes of the image's start that `parseHeader` wants (or all of a smaller one): the largest cluster. */
export const HEADER_BYTES = 2 ** MAX_CLUSTER_BITS;

/** A row of the feature name table. */
export interface FeatureName {
  /** 0 incompatible, 1 compatible, 2 autoclear. */
  readonly kind: number;
  readonly bit: number;
  readonly name: string;
}

/** A checked header with its extensions. Offsets and sizes in bytes. */
export interface Qcow2Header {
  readonly version: number;
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** Size of the disk: whole 512-byte sectors, as qemu counts. */
  readonly size: number;
  readonly cryptMethod: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly tableOffset: number;
  readonly tableClusters: number;
  readonly snapshots: number;
  readonly snapshotsOffset: number;
  readonly refcountOrder: number;
  readonly headerLength: number;
  readonly compressionType: number;
  readonly dirty: boolean;
  readonly corrupt: boolean;
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  /** The data lies in another file. */
  readonly external: boolean;
  /** Bitmaps are in step with the data. */
  readonly bitmapsValid: boolean;
  readonly rawDataFile: boolean;
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
  readonly dataFile: string | null;
  readonly bitmaps: { readonly count: number; readonly size: number; readonly offset: number } | null;
  /** Where the LUKS header lies; null without one. */
  readonly crypto: { readonly offset: number; readonly length: number } | null;
  readonly features: readonly FeatureName[];
  /** Types and lengths of extensions that are not known here. */
  readonly unknownExtensions: readonly { readonly type: number; readonly length: number }[];
}

const STRUCTURE = "qcow2 header";
const TOO_SHORT = "qcow2 header too short";
const NO_LUKS = "CRYPTO header extension only expected with LUKS encryption method";

/** `native`: what qemu-img 7.2 says instead. */
function fail(detail: string, at: number, native: string): never {
  throw withNative(new FormatError(STRUCTURE, at, detail), native);
}

function unknown(what: string, native: string): never {
  throw withNative(new UnsupportedError(`${STRUCTURE}: ${what} is not known`), native);
}

/** True where bit `bit` of the 64-bit big-endian field at `at` is set. */
function hasBit(b: Uint8Array, at: number, bit: number): boolean {
  return ((u32be(b, bit < 32 ? at + 4 : at) >>> (bit & 31)) & 1) === 1;
}

/** A 64-bit offset of a table that must start at a cluster and hold `length` bytes below 2^53. */
function tableOffset(
  b: Uint8Array,
  at: number,
  name: string,
  length: number,
  unit: number,
  native: string,
): number {
  const offset = u64be(b, at);
  const invalid = `${native} offset invalid`;
  if (offset + length > Number.MAX_SAFE_INTEGER)
    fail(`${name} offset 0x${offset.toString(16)} too large`, at, invalid);
  if (offset % unit !== 0) fail(`${name} offset 0x${offset.toString(16)} is not aligned`, at, invalid);
  return offset;
}

export interface ParseHeaderOptions {
  /**
   * For a check, which finds out for itself: no refcount table is no error, and what the header says of snapshots
   * is not looked at (`snapshots` is 0).
   */
  readonly check?: boolean;
}

/**
 * Reads and checks a header. `b`: the first HEADER_BYTES of the image, or all of it. Throws FormatError where
 * a field breaks the format or a limit qemu enforces, UnsupportedError for features that are not known here,
 * by their names.
 */
export function parseHeader(b: Uint8Array, options: ParseHeaderOptions = {}): Qcow2Header {
  if (b.length < V2_HEADER_LENGTH) fail(`cut short after ${b.length} bytes`, 0, TOO_SHORT);
  if (u32be(b, 0) !== MAGIC) fail("not a QCOW2 image", 0, "Image is not in qcow2 format");
  const version = u32be(b, H.version);
  if (version < 2 || version > 3) unknown(`version ${version}`, `Unsupported qcow2 version ${version}`);
  const clusterBits = u32be(b, H.clusterBits);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS)
    fail(
      `cluster size 2^${clusterBits}, 2^9 to 2^21 are possible`,
      H.clusterBits,
      `Unsupported cluster size: 2^${clusterBits}`,
    );
  const clusterSize = 2 ** clusterBits;
  const v3 = version >= 3;
  let headerLength = V2_HEADER_LENGTH;
  if (v3) {
    if (b.length < V3_MIN_HEADER_LENGTH) fail(`cut short after ${b.length} bytes`, 0, TOO_SHORT);
    headerLength = u32be(b, H.headerLength);
    if (headerLength < V3_MIN_HEADER_LENGTH)
      fail(`length ${headerLength} too short`, H.headerLength, TOO_SHORT);
    if (headerLength > clusterSize)
      fail(`length ${headerLength} exceeds the cluster`, H.headerLength, "qcow2 header exceeds cluster size");
    if (headerLength > b.length)
      fail(`length ${headerLength}, the file has ${b.length} bytes`, H.headerLength, TOO_SHORT);
  }

  const backingOffset = u64be(b, H.backingOffset);
  const backingLength = u32be(b, H.backingLength);
  let end = Math.min(clusterSize, b.length);
  let backingFile: string | null = null;
  if (backingOffset !== 0) {
    if (backingOffset > clusterSize)
      fail("backing file name outside the first cluster", H.backingOffset, "Invalid backing file offset");
    if (backingLength > LIMIT.backingName || backingLength > clusterSize - backingOffset)
      fail(`backing file name of ${backingLength} bytes`, H.backingLength, "Backing file name too long");
    if (backingOffset + backingLength > b.length)
      fail("backing file name cut short", H.backingOffset, "Could not read backing file name");
    const name = textOf(b.subarray(backingOffset, backingOffset + backingLength));
    if (name !== "") backingFile = name;
    end = backingOffset;
  }

  const cryptMethod = u32be(b, H.cryptMethod);
  const bitmaps = v3 && hasBit(b, H.autoclear, AUTOCLEAR.bitmaps);
  const ext = extensions(b, headerLength, end, clusterSize, cryptMethod === CRYPT.luks, bitmaps);
  const incompatible = (bit: number) => v3 && hasBit(b, H.incompatible, bit);
  if (v3) refuseUnknown(b, ext.features);
  const extendedL2 = incompatible(INCOMPATIBLE.extendedL2);
  if (extendedL2 && clusterBits < MIN_EXTENDED_L2_CLUSTER_BITS)
    fail(
      `extended L2 entries with clusters of ${clusterSize} bytes`,
      H.incompatible,
      "Unsupported feature: extended L2 entries with clusters below 16k",
    );
  const compressionType = v3 && headerLength > H.compressionType ? b[H.compressionType] : 0;
  if (compressionType > COMPRESSION.zstd)
    unknown(`compression type ${compressionType}`, `qcow2: unknown compression type: ${compressionType}`);
  if (incompatible(INCOMPATIBLE.compressionType) !== (compressionType !== COMPRESSION.zlib))
    fail(
      "compression type and its feature bit disagree",
      H.compressionType,
      `qcow2: Compression type incompatible feature bit must ${compressionType === 0 ? "not " : ""}be set`,
    );

  const refcountOrder = v3 ? u32be(b, H.refcountOrder) : 4;
  if (refcountOrder > MAX_REFCOUNT_ORDER)
    fail(
      `refcount width 2^${refcountOrder} bits`,
      H.refcountOrder,
      "Reference count entry width too large; may not exceed 64 bits",
    );
  if (cryptMethod > CRYPT.luks)
    unknown(`encryption method ${cryptMethod}`, `Unsupported encryption method ${cryptMethod}`);
  if (cryptMethod === CRYPT.luks && ext.crypto === null)
    fail("LUKS without its header extension", H.cryptMethod, "Missing CRYPTO header for crypt method 2");

  const rawSize = u64be(b, H.size);
  if (rawSize > Number.MAX_SAFE_INTEGER)
    fail(`disk of ${rawSize} bytes, 2^53 - 1 are possible`, H.size, "Image is too big");
  const size = Math.floor(rawSize / 512) * 512;
  const tableClusters = u32be(b, H.tableClusters);
  if (tableClusters * clusterSize > LIMIT.refcountTable)
    fail(
      `refcount table of ${tableClusters} clusters is too large`,
      H.tableClusters,
      "Reference count table too large",
    );
  const table = tableOffset(
    b,
    H.tableOffset,
    "refcount table",
    tableClusters * clusterSize,
    clusterSize,
    "Reference count table",
  );
  if (tableClusters === 0 && options.check !== true)
    fail("no refcount table", H.tableClusters, "Image does not contain a reference count table");

  const l1Entries = u32be(b, H.l1Entries);
  if (l1Entries * 8 > LIMIT.l1)
    fail(`active L1 table of ${l1Entries} entries is too large`, H.l1Entries, "Active L1 table too large");
  const perL1 = clusterSize * (clusterSize / (extendedL2 ? 16 : 8));
  if (l1Entries < Math.ceil(size / perL1))
    fail(
      `L1 table of ${l1Entries} entries, ${Math.ceil(size / perL1)} are needed`,
      H.l1Entries,
      "L1 table is too small",
    );
  const l1Offset =
    l1Entries === 0
      ? 0
      : tableOffset(b, H.l1Offset, "L1 table", l1Entries * 8, clusterSize, "Active L1 table");

  const snapshots = options.check === true ? 0 : u32be(b, H.snapshots);
  if (snapshots > LIMIT.snapshots) fail(`${snapshots} snapshots`, H.snapshots, "Snapshot table too large");
  const snapshotsOffset =
    snapshots === 0
      ? 0
      : tableOffset(
          b,
          H.snapshotsOffset,
          "snapshot table",
          LIMIT.snapshotTable,
          clusterSize,
          "Snapshot table",
        );

  return {
    version,
    clusterBits,
    clusterSize,
    size,
    cryptMethod,
    l1Entries,
    l1Offset,
    tableOffset: table,
    tableClusters,
    snapshots,
    snapshotsOffset,
    refcountOrder,
    headerLength,
    compressionType,
    dirty: incompatible(INCOMPATIBLE.dirty),
    corrupt: incompatible(INCOMPATIBLE.corrupt),
    lazyRefcounts: v3 && hasBit(b, H.compatible, COMPATIBLE_LAZY_REFCOUNTS),
    extendedL2,
    external: incompatible(INCOMPATIBLE.dataFile),
    bitmapsValid: bitmaps,
    rawDataFile: v3 && hasBit(b, H.autoclear, AUTOCLEAR.rawDataFile),
    backingFile,
    backingFormat: ext.backingFormat,
    dataFile: ext.dataFile,
    bitmaps: ext.bitmaps,
    crypto: ext.crypto,
    features: ext.features,
    unknownExtensions: ext.unknown,
  };
}

interface Extensions {
  backingFormat: string | null;
  dataFile: string | null;
  crypto: Qcow2Header["crypto"];
  bitmaps: Qcow2Header["bitmaps"];
  features: FeatureName[];
  unknown: { type: number; length: number }[];
}

function extensions(
  b: Uint8Array,
  start: number,
  end: number,
  clusterSize: number,
  /** The header says LUKS. */
  luks: boolean,
  /** The header says that the bitmaps are in step with the data. */
  bitmaps: boolean,
): Extensions {
  const found: Extensions = {
    backingFormat: null,
    dataFile: null,
    crypto: null,
    bitmaps: null,
    features: [],
    unknown: [],
  };
  for (let at = start; at + 8 <= end; ) {
    const type = u32be(b, at);
    const length = u32be(b, at + 4);
    if (type === EXTENSION.end) break;
    const data = at + 8;
    const failed = (detail: string, native: string): never => {
      throw withNative(new FormatError("qcow2 header extension", at, detail), native);
    };
    if (length > end - data)
      failed(
        `type 0x${type.toString(16)}: ${length} bytes, room for ${end - data}`,
        "Header extension too large",
      );
    switch (type) {
      case EXTENSION.backingFormat:
        if (length >= LIMIT.backingFormat)
          failed(
            `backing format name of ${length} bytes`,
            `ERROR: ext_backing_format: len=${length} too large (>=${LIMIT.backingFormat})`,
          );
        found.backingFormat = textOf(b.subarray(data, data + length));
        break;
      case EXTENSION.dataFile:
        found.dataFile = textOf(b.subarray(data, data + length));
        break;
      case EXTENSION.crypto:
        if (!luks) failed("LUKS header without LUKS", NO_LUKS);
        if (length !== 16)
          failed(
            `encryption header of ${length} bytes, 16 expected`,
            `CRYPTO header extension size ${length}, but expected size 16`,
          );
        found.crypto = { offset: u64be(b, data), length: u64be(b, data + 8) };
        if (found.crypto.offset % clusterSize !== 0)
          failed(
            `encryption header at 0x${found.crypto.offset.toString(16)} is not aligned`,
            `Encryption header offset '${found.crypto.offset}' is not a multiple of cluster size '${clusterSize}'`,
          );
        break;
      case EXTENSION.features:
        for (let p = data; p + FEATURE_ROW <= data + length; p += FEATURE_ROW)
          found.features.push({ kind: b[p], bit: b[p + 1], name: cString(b, p + 2, FEATURE_NAME_LENGTH) });
        break;
      case EXTENSION.bitmaps: {
        if (length !== 24)
          failed(
            `bitmaps extension of ${length} bytes, 24 expected`,
            "bitmaps_ext: Invalid extension length",
          );
        found.bitmaps = bitmaps ? bitmapsAt(b, data, clusterSize, failed) : { count: 0, size: 0, offset: 0 };
        break;
      }
      default:
        found.unknown.push({ type, length });
    }
    at = data + Math.ceil(length / 8) * 8;
  }
  return found;
}

/** The bitmaps extension at `data`; one that is out of step with the data is not looked at. */
function bitmapsAt(
  b: Uint8Array,
  data: number,
  clusterSize: number,
  failed: (detail: string, native: string) => never,
): NonNullable<Qcow2Header["bitmaps"]> {
  const count = u32be(b, data);
  const size = u64be(b, data + 8);
  const offset = u64be(b, data + 16);
  if (u32be(b, data + 4) !== 0) failed("reserved field set", "bitmaps_ext: Reserved field is not zero");
  if (count > LIMIT.bitmaps)
    failed(
      `${count} bitmaps`,
      `bitmaps_ext: Image has ${count} bitmaps, exceeding the QEMU supported maximum of ${LIMIT.bitmaps}`,
    );
  if (count === 0) failed("no bitmaps", "found bitmaps extension with zero bitmaps");
  if (offset % clusterSize !== 0)
    failed(
      `bitmap directory at 0x${offset.toString(16)} is not aligned`,
      "bitmaps_ext: invalid bitmap directory offset",
    );
  if (size > LIMIT.bitmapDirectory)
    failed(
      `bitmap directory of ${size} bytes`,
      `bitmaps_ext: bitmap directory size (${size}) exceeds the maximum supported size (${LIMIT.bitmapDirectory})`,
    );
  return { count, size, offset };
}

/** Refuses incompatible features that are not known here, by the names the image gives them. */
function refuseUnknown(b: Uint8Array, features: readonly FeatureName[]): void {
  const known = new Set<number>(Object.values(INCOMPATIBLE));
  const names: string[] = [];
  const native: string[] = [];
  let nameless = 0n;
  for (let bit = 0; bit < 64; bit++) {
    if (known.has(bit) || !hasBit(b, H.incompatible, bit)) continue;
    const row = features.find((f) => f.kind === 0 && f.bit === bit && f.name !== "");
    names.push(row === undefined ? `bit ${bit}` : `"${row.name}"`);
    if (row === undefined) nameless |= 1n << BigInt(bit);
    else native.push(row.name);
  }
  if (nameless !== 0n) native.push(`Unknown incompatible feature: ${nameless.toString(16)}`);
  if (names.length > 0)
    throw withNative(
      new UnsupportedError(`${STRUCTURE}: needs what is not known here: feature ${names.join(", feature ")}`),
      `Unsupported qcow2 feature(s): ${native.join(", ")}`,
    );
}
