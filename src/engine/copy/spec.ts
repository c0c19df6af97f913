import type { Packer, PackerSpec } from "../../image/packer.ts";
import { createPacker } from "../../image/qcow2/packer.ts";
import { RawPacker } from "./raw-packer.ts";

/** Any output's layout, as plain data that can be sent to another thread. Sizes in bytes. */
export type LayoutSpec =
  | PackerSpec
  | {
      readonly kind: "raw";
      readonly clusterSize: number;
      readonly guestSize: number;
      readonly offset: number;
    };

/** The packer of a layout. */
export function packerOf(spec: LayoutSpec): Packer {
  return spec.kind === "raw"
    ? new RawPacker(spec.clusterSize, spec.guestSize, spec.offset)
    : createPacker(spec);
}
