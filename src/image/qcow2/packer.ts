import { UnsupportedError } from "../../errors.ts";
import type { PackerSpec } from "../packer.ts";
import { E2imagePacker } from "./e2image-packer.ts";
import { MAX_CLUSTER_BITS, MAX_REFCOUNT_ORDER, MIN_CLUSTER_BITS } from "./layout.ts";
import { QemuPacker } from "./qemu-packer.ts";
import type { StreamablePacker } from "./streamable-packer.ts";

/**
 * The packer of a specification. Throws UnsupportedError for sizes that the format or the layout cannot hold.
 */
export function createPacker(spec: PackerSpec): StreamablePacker {
  const bits = Math.log2(spec.clusterSize);
  if (!Number.isInteger(bits) || bits < MIN_CLUSTER_BITS || bits > MAX_CLUSTER_BITS)
    throw new UnsupportedError(
      `qcow2: clusters of ${spec.clusterSize} bytes; a power of two, 512 to 2097152, is needed`,
    );
  if (!Number.isSafeInteger(spec.guestSize) || spec.guestSize < 0)
    throw new UnsupportedError(`qcow2: a disk of ${spec.guestSize} bytes`);
  if (spec.kind === "e2image") return new E2imagePacker(spec);
  if (spec.version !== 2 && spec.version !== 3)
    throw new UnsupportedError(`qcow2: version ${spec.version} cannot be written`);
  const { refcountOrder } = spec;
  if (!Number.isInteger(refcountOrder) || refcountOrder < 0 || refcountOrder > MAX_REFCOUNT_ORDER)
    throw new UnsupportedError(`qcow2: refcounts of ${2 ** refcountOrder} bits; 1 to 64 are possible`);
  if (spec.version === 2 && refcountOrder !== 4)
    throw new UnsupportedError("qcow2: version 2 has refcounts of 16 bits only");
  return new QemuPacker(spec);
}
