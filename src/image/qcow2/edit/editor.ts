import { FormatError, RefusedError } from "../../../errors.ts";
import type { DurableFile } from "../../../io/durable.ts";
import { HEADER_BYTES, parseHeader } from "../header.ts";
import { ImageEditor } from "./image-editor.ts";
import type { EditorOptions } from "./types.ts";

export { ImageEditor } from "./image-editor.ts";
export { editorTarget } from "./target.ts";
export type { Editor, EditorOptions, HeaderChanges } from "./types.ts";

/**
 * Opens an image to be changed. Throws FormatError and UnsupportedError as opening for reading does; RefusedError "ECORRUPT"
 * for images marked corrupt, "EDIRTY" for images whose refcounts have to be repaired first, "EDATAFILE" where the image has
 * a data file and the caller gave none.
 */
export async function openEditor(file: DurableFile, options: EditorOptions = {}): Promise<ImageEditor> {
  const bytes = new Uint8Array(Math.min(HEADER_BYTES, file.size()));
  const n = file.read(bytes, 0);
  if (n < bytes.length) throw new FormatError("qcow2 header", 0, `cut short after ${n} bytes`);
  const header = parseHeader(bytes);
  if (header.corrupt)
    throw new RefusedError("ECORRUPT", "qcow2: Image is corrupt; cannot be opened read/write");
  if (header.dirty)
    throw new RefusedError(
      "EDIRTY",
      `${file.label}: was not closed cleanly; its refcounts have to be repaired first (check -r all)`,
    );
  return new ImageEditor(file, bytes.subarray(0, header.clusterSize), header, options);
}
