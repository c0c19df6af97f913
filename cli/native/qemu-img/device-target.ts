import { plannedSize } from "../../../src/image/qcow2/create/create.ts";
import {
  l1Entries,
  type Preallocation,
  type Qcow2CreateOptions,
} from "../../../src/image/qcow2/create/options.ts";
import { hostText } from "./host-text.ts";
import type { NewFile } from "./new-file.ts";

// Why a new image cannot go onto a block device, in native's words, told before anything is written. Files take all.

/** For a raw image of `size` bytes; null where all is well. */
export function rawTrouble(file: NewFile, size: number, mode: Preallocation): string | null {
  if (!file.device) return null;
  if (mode !== "off") return `Unsupported preallocation mode '${mode}'`;
  return size > file.target.capacity ? "Cannot grow device files" : null;
}

/** For a QCOW2 image, and its data file where there is one; null where all is well. */
export function qcow2Trouble(image: NewFile, data: NewFile | null, o: Qcow2CreateOptions): string | null {
  const { clusterSize, preallocation, rawDataFile } = o;
  const resize = (text: string): string => `Could not resize image: ${text}`;
  if (image.device) {
    const { capacity } = image.target;
    const full = hostText("ENOSPC");
    if (capacity < clusterSize) return `Could not write qcow2 header: ${full}`;
    if (capacity < 3 * clusterSize) return `Could not write refcount table: ${full}`;
    if (capacity < 3 * clusterSize + Math.ceil((l1Entries(o) * 8) / 512) * 512)
      return resize(`Failed to grow the L1 table: ${full}`);
    if (data === null && reserves(preallocation))
      return resize(`Failed to resize underlying file: ${unsupported(preallocation)}`);
    if ((preallocation !== "off" || rawDataFile) && plannedSize(o).size > capacity)
      return resize("Cannot grow device files");
  }
  if (data?.device && plannedSize(o).dataFileSize > data.target.capacity)
    return resize(reserves(preallocation) ? unsupported(preallocation) : "Cannot grow device files");
  return null;
}

/** True for a mode that reserves the bytes of the data. */
function reserves(mode: Preallocation): boolean {
  return mode === "falloc" || mode === "full";
}

/** What native says where a device is to have its bytes reserved. */
export function unsupported(mode: Preallocation): string {
  return `Preallocation mode '${mode}' unsupported for this non-regular file`;
}
