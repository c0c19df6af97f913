import type { ImageFormat } from "../format.ts";
import { openRaw } from "./reader.ts";

/** Raw disk images: any bytes at all, so `probe` always says yes and this format comes last. */
export const rawFormat: ImageFormat = {
  name: "raw",
  probe: () => true,
  open: async (source) => openRaw(source),
};
