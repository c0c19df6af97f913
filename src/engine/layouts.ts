import { ImprintError } from "../errors.ts";
import type { ExactRules } from "../image/packer.ts";
import { LIMIT } from "../image/qcow2/layout.ts";
import type { OutputFormat, Qcow2Options } from "./api.ts";
import type { LayoutSpec } from "./copy/spec.ts";

const KiB = 1024;

/** What qemu-img convert stores by default: zeros are left out in runs of 4 KiB. */
export const EXACT: ExactRules = { least: 8, alignment: 8 };

const SMALL_CLUSTER = 4 * KiB;
const LARGE_CLUSTER = 64 * KiB;

/**
 * Bytes a cluster of an image of metadata alone, which is scattered blocks of `blockSize` bytes: as small as
 * they are, so that the image is as small as what it holds, and as large as it takes for the L1 table of a
 * disk of `guestSize` bytes.
 */
function metadataClusterSize(blockSize: number, guestSize: number): number {
  let size = Math.max(SMALL_CLUSTER, Math.min(blockSize, LARGE_CLUSTER));
  while (Math.ceil(guestSize / size / (size / 8)) * 8 > LIMIT.l1) size *= 2;
  return size;
}

/**
 * The QCOW2 options of an image of metadata alone: as asked for, with clusters that fit blocks of `blockSize` bytes of
 * a disk of `guestSize` bytes where no size was asked for and the layout leaves it open.
 */
export function metadataOptions(
  qcow2: Qcow2Options | undefined,
  blockSize: number,
  guestSize: number,
): Qcow2Options {
  if (qcow2?.clusterSize !== undefined || qcow2?.layout === "e2image") return qcow2;
  return { ...qcow2, clusterSize: metadataClusterSize(blockSize, guestSize) };
}

/**
 * The layout of an output. `guestSize` and `zeroUnit` in bytes; `zeroUnit` is the granularity at which a raw output
 * leaves zeros out. Throws ImprintError("EOPTION") for a cluster size or refcount width that QCOW2 does not have.
 */
export function layoutFor(
  format: OutputFormat,
  guestSize: number,
  zeroUnit: number,
  options: Qcow2Options = {},
  e2image?: { readonly blockSize: number; readonly marks: number },
): LayoutSpec {
  if (format === "raw") return { kind: "raw", clusterSize: zeroUnit, guestSize, offset: 0 };
  if (options.layout === "e2image") {
    if (e2image === undefined)
      throw new ImprintError("EOPTION", "the e2image layout needs an ext filesystem, not a whole disk");
    return { kind: "e2image", clusterSize: e2image.blockSize, guestSize, marks: e2image.marks };
  }
  const clusterSize = options.clusterSize ?? 64 * KiB;
  if (clusterSize < 512 || clusterSize > 2048 * KiB || (clusterSize & (clusterSize - 1)) !== 0)
    throw new ImprintError("EOPTION", `cluster size ${clusterSize}: must be a power of two from 512 to 2M`);
  const refcountBits = options.refcountBits ?? 16;
  const refcountOrder = Math.log2(refcountBits);
  if (!Number.isInteger(refcountOrder) || refcountOrder < 0 || refcountOrder > 6)
    throw new ImprintError("EOPTION", `refcount bits ${refcountBits}: must be 1, 2, 4, 8, 16, 32 or 64`);
  const version = options.version ?? 3;
  if (version === 2 && refcountBits !== 16)
    throw new ImprintError("EOPTION", "refcount bits other than 16 need QCOW2 version 3");
  const rounded = Math.ceil(guestSize / 512) * 512;
  return {
    kind: "qemu",
    clusterSize,
    guestSize: rounded,
    version,
    refcountOrder,
    backingFile: null,
    backingFormat: null,
    exact: EXACT,
  };
}
