import type { ImageFormat } from "../format.ts";
import { probeHeader } from "./header.ts";
import { openNtfscloneImage } from "./reader.ts";

/** Special images of ntfsclone(8). */
export const ntfscloneFormat: ImageFormat = {
  name: "ntfsclone",
  probe: probeHeader,
  open: (source) => openNtfscloneImage(source),
};
