import type { ImageFormat } from "../format.ts";
import { probeHeader } from "./header.ts";
import { openE2image } from "./reader.ts";

/** Normal images of e2image(8): the metadata of an ext volume. */
export const e2imageFormat: ImageFormat = {
  name: "e2image",
  probe: probeHeader,
  open: (source) => openE2image(source),
};
