import { UnsupportedError } from "../../../errors.ts";
import {
  LIMIT,
  MAX_CLUSTER_BITS,
  MAX_REFCOUNT_ORDER,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_L2_CLUSTER_BITS,
  SUBCLUSTERS,
} from "../layout.ts";

/**
 * How clusters are made ahead: not at all, without their bytes, with their bytes reserved, with their bytes written.
 */
export type Preallocation = "off" | "metadata" | "falloc" | "full";

/** A QCOW2 image to be made. Sizes in bytes. */
export interface Qcow2CreateOptions {
  /** Guest bytes; the image gets whole 512-byte sectors. */
  readonly size: number;
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: number;
  /** 0 zlib, 1 zstd. */
  readonly compressionType: 0 | 1;
  readonly extendedL2: boolean;
  readonly lazyRefcounts: boolean;
  /** Name of the external data file, as the image will hold it. */
  readonly dataFile: string | null;
  readonly rawDataFile: boolean;
  readonly preallocation: Preallocation;
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
}

/** What a new image is like where nothing else is said. */
export const DEFAULTS: Qcow2CreateOptions = {
  size: 0,
  version: 3,
  clusterSize: 65536,
  refcountBits: 16,
  compressionType: 0,
  extendedL2: false,
  lazyRefcounts: false,
  dataFile: null,
  rawDataFile: false,
  preallocation: "off",
  backingFile: null,
  backingFormat: null,
};

const NEWER = "compatibility level 1.1 and above (use version=v3 or greater)";

/** The code of the error that `checkCreateOptions` throws where the disk is too large for its clusters. */
export const TOO_LARGE = "EFBIG";

/**
 * Refuses options that do not go together, in the order and with the texts of qemu-img 7.2. Throws UnsupportedError,
 * with the code TOO_LARGE where the L1 table would be longer than qemu reads.
 */
export function checkCreateOptions(o: Qcow2CreateOptions): void {
  const fail = (text: string, code?: string): never => {
    throw new UnsupportedError(text, code);
  };
  const bits = Math.log2(o.clusterSize);
  if (!Number.isInteger(bits) || bits < MIN_CLUSTER_BITS || bits > MAX_CLUSTER_BITS)
    fail("Cluster size must be a power of two between 512 and 2048k");
  if (o.extendedL2) {
    if (o.version < 3) fail(`Extended L2 entries are only supported with ${NEWER}`);
    if (bits < MIN_EXTENDED_L2_CLUSTER_BITS)
      fail(
        `Extended L2 entries are only supported with cluster sizes of at least ${2 ** MIN_EXTENDED_L2_CLUSTER_BITS} bytes`,
      );
  }
  if (o.preallocation !== "off" && o.backingFile !== null && !o.extendedL2)
    fail("Backing file and preallocation can only be used at the same time if extended_l2 is on");
  if (o.backingFormat !== null && o.backingFile === null)
    fail("Backing format cannot be used without backing file");
  if (o.lazyRefcounts && o.version < 3) fail(`Lazy refcounts only supported with ${NEWER}`);
  const order = Math.log2(o.refcountBits);
  if (!Number.isInteger(order) || order < 0 || order > MAX_REFCOUNT_ORDER)
    fail("Refcount width must be a power of two and may not exceed 64 bits");
  if (o.refcountBits !== 16 && o.version < 3)
    fail(
      "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)",
    );
  if (o.rawDataFile && o.dataFile === null) fail("data-file-raw requires data-file");
  if (o.rawDataFile && o.backingFile !== null)
    fail("Backing file and data-file-raw cannot be used at the same time");
  if (o.dataFile !== null && o.version < 3) fail(`External data files are only supported with ${NEWER}`);
  if (o.compressionType !== 0 && o.version < 3)
    fail(`Non-zlib compression type is only supported with ${NEWER}`);
  if (l1Entries(o) * 8 > LIMIT.l1)
    fail("The image size is too large for file format 'qcow2' (try using a larger cluster size)", TOO_LARGE);
}

/** Entries of one L2 table. */
export function l2Entries(o: Qcow2CreateOptions): number {
  return o.clusterSize / (o.extendedL2 ? 16 : 8);
}

/** Entries of the L1 table. */
export function l1Entries(o: Qcow2CreateOptions): number {
  return Math.ceil(wholeSectors(o.size) / (o.clusterSize * l2Entries(o)));
}

/** `size` bytes in whole sectors of 512, as bytes: how long the disk is. */
export function wholeSectors(size: number): number {
  return Math.ceil(size / 512) * 512;
}

/** Guest bytes that are mapped where all are: whole subclusters. */
export function mappedSize(o: Qcow2CreateOptions): number {
  const unit = o.extendedL2 ? o.clusterSize / SUBCLUSTERS : o.clusterSize;
  return Math.ceil(o.size / unit) * unit;
}
