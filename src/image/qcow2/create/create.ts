import type { Target } from "../../../io/target.ts";
import { layOutImage } from "./new-image.ts";
import { checkCreateOptions, mappedSize, type Qcow2CreateOptions, wholeSectors } from "./options.ts";

/** Where a new image goes: a target that answers at once. */
export interface CreateTarget extends Target {
  write(bytes: Uint8Array, at: number): void;
  zero(at: number, length: number): void;
}

/** What was made. Sizes in bytes. */
export interface CreatedQcow2 {
  /** Of the image file: commit the target with it. */
  readonly size: number;
  /** Of the external data file, 0 where there is none. */
  readonly dataFileSize: number;
  /** Allocated for the guest's data: a range of the image file, or of the data file; empty where nothing is. */
  readonly data: { readonly from: number; readonly to: number };
}

/**
 * Writes a new, empty QCOW2 image with the bytes of `qemu-img create` 7.2. Nothing is committed, and the range for the
 * data is not allocated in the file: that is the caller's (`CreatedQcow2`). Throws UnsupportedError for options that do
 * not go together, RangeError for names that do not fit into the first cluster, IoError.
 */
export function createQcow2(target: CreateTarget, options: Qcow2CreateOptions): CreatedQcow2 {
  checkCreateOptions(options);
  const cs = options.clusterSize;
  if (!target.fresh) target.zero(0, 3 * cs);
  return layOut(options, (at, bytes) => {
    if (!target.fresh || bytes.some((b) => b !== 0)) target.write(bytes, at);
  });
}

/** What `createQcow2` would make. Throws as it does. */
export function plannedSize(options: Qcow2CreateOptions): CreatedQcow2 {
  checkCreateOptions(options);
  return layOut(options, () => {});
}

function layOut(options: Qcow2CreateOptions, meta: (at: number, bytes: Uint8Array) => void): CreatedQcow2 {
  const layout = layOutImage(options, { data: () => {}, meta });
  const { dataFile, preallocation, rawDataFile } = options;
  if (dataFile === null) return { size: layout.size, dataFileSize: 0, data: layout.data };
  const size = wholeSectors(options.size);
  const dataFileSize = preallocation === "off" && !rawDataFile ? size : mappedSize(options);
  return {
    size: layout.size,
    dataFileSize,
    data: { from: 0, to: preallocation === "off" ? 0 : dataFileSize },
  };
}
