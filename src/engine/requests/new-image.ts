import type { ExactRules, PackerSpec } from "../../image/packer.ts";
import { type Qcow2CreateOptions, wholeSectors } from "../../image/qcow2/create/options.ts";

/** The layout of a new image for requests cut by these rules. `compressed`: some of them will be. */
export function layoutOfNew(
  image: Qcow2CreateOptions,
  exact: ExactRules,
  compressed: boolean,
): Extract<PackerSpec, { kind: "qemu" }> {
  return {
    kind: "qemu",
    clusterSize: image.clusterSize,
    guestSize: wholeSectors(image.size),
    version: image.version,
    refcountOrder: Math.log2(image.refcountBits),
    backingFile: image.backingFile,
    backingFormat: image.backingFormat,
    exact,
    wholeSectors: compressed,
    compressionType: image.compressionType,
    extendedL2: image.extendedL2,
    lazyRefcounts: image.lazyRefcounts,
    dataFile: image.dataFile,
    rawDataFile: image.rawDataFile,
  };
}
