import { FormatError, RefusedError } from "../../../errors.ts";
import type { DurableFile } from "../../../io/durable.ts";
import { HEADER_BYTES, parseHeader } from "../header.ts";
import { ImageEditor } from "./image-editor.ts";
import type { EditorOptions } from "./types.ts";

export { HeaderFull } from "./header-rewrite.ts";
export { ImageEditor } from "./image-editor.ts";
export { editorTarget } from "./target.ts";
export type { Editor, EditorOptions, HeaderChanges } from "./types.ts";

function readHead(file: DurableFile): Uint8Array {
  const bytes = new Uint8Array(Math.min(HEADER_BYTES, file.size()));
  const n = file.read(bytes, 0);
  if (n < bytes.length) throw new FormatError("qcow2 header", 0, `cut short after ${n} bytes`);
  return bytes;
}

/**
 * Opens an image to be changed. One that was not closed cleanly is repaired first. Throws FormatError and
 * UnsupportedError as opening for reading does; RefusedError "ECORRUPT" for images marked corrupt, "EDIRTY" for images
 * that cannot be repaired, "EDATAFILE" where the image has a data file and the caller gave none.
 */
export async function openEditor(file: DurableFile, options: EditorOptions = {}): Promise<ImageEditor> {
  let bytes = readHead(file);
  let header = parseHeader(bytes);
  if (header.corrupt)
    throw new RefusedError("ECORRUPT", "qcow2: Image is corrupt; cannot be opened read/write");
  if (header.dirty) {
    const { repairImage } = await import("../check/repair.ts");
    const { result, failure } = repairImage(file, { repair: "all", report: options.report });
    if (failure !== null || result.errors > 0)
      throw new RefusedError("EDIRTY", "Could not repair dirty image: Input/output error");
    bytes = readHead(file);
    header = parseHeader(bytes);
    if (header.dirty) throw new RefusedError("EDIRTY", "Could not repair dirty image: Input/output error");
  }
  return new ImageEditor(file, bytes.subarray(0, header.clusterSize), header, options);
}
