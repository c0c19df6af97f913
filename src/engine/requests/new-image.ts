import type { ExactRules, PackerSpec } from "../../image/packer.ts";

/** A QCOW2 image to be made. Sizes in bytes. */
export interface NewQcow2 {
  readonly size: number;
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly compressionType: 0 | 1;
  readonly extendedL2: boolean;
  readonly lazyRefcounts: boolean;
  readonly dataFile: string | null;
  readonly rawDataFile: boolean;
  readonly preallocation: "off" | "metadata" | "falloc" | "full";
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
}

/** The layout of a new image for requests cut by these rules. */
export function layoutOfNew(image: NewQcow2, exact: ExactRules): Extract<PackerSpec, { kind: "qemu" }> {
  return {
    kind: "qemu",
    clusterSize: image.clusterSize,
    guestSize: image.size,
    version: image.version,
    refcountOrder: Math.log2(image.refcountBits),
    backingFile: image.backingFile,
    backingFormat: image.backingFormat,
    exact,
    compressionType: image.compressionType,
    extendedL2: image.extendedL2,
    lazyRefcounts: image.lazyRefcounts,
    dataFile: image.dataFile,
    rawDataFile: image.rawDataFile,
  };
}
