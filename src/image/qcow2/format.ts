import { u32be } from "../../bytes/endian.ts";
import type { ImageFormat } from "../format.ts";
import { MAGIC } from "./layout.ts";
import { openQcow2 } from "./reader.ts";

/** QCOW2, versions 2 and 3, with the host's decompressors. */
export const qcow2Format: ImageFormat = {
  name: "qcow2",
  probe: (head) => head.length >= 4 && u32be(head, 0) === MAGIC,
  open: (source, gate) => openQcow2(source, gate),
};
