import { ImprintError, IoError } from "../../../src/errors.ts";
import type { ImageEditor } from "../../../src/image/qcow2/edit/editor.ts";
import type { Source } from "../../../src/io/source.ts";
import { printError } from "../../ui/out.ts";
import { errorText, QemuError } from "./errors.ts";
import { hostText, numberedText } from "./host-text.ts";
import type { Editable } from "./open.ts";

/**
 * Opens the editor of a QCOW2 image; `backing`: what lies under it, where that is not its own backing file. Throws
 * QemuError with native's text.
 */
export async function editImage(
  image: Pick<Editable, "file" | "name" | "dataFile" | "backing">,
  backing: Source | null = image.backing?.disk ?? null,
): Promise<ImageEditor> {
  const { openEditor } = await import("../../../src/image/qcow2/edit/editor.ts");
  try {
    return await openEditor(image.file, {
      backing,
      dataFile: image.dataFile ?? undefined,
      report: (line) => printError(`${line}\n`),
    });
  } catch (error) {
    if (error instanceof ImprintError)
      throw new QemuError(`Could not open '${image.name}': ${errorText(error)}`);
    throw error;
  }
}

/**
 * The code that native has for an error of the engine: the host's own, EINVAL for refcounts that
 * are too narrow, else EIO.
 */
export function codeOf(error: ImprintError): string {
  if (error.code === "EREFCOUNT") return "EINVAL";
  if (error.code === "ENOTSUP") return "ENOTSUP";
  if (error instanceof IoError && hostText(error.code) !== null) return error.code;
  return "EIO";
}

/** "-28 (No space left on device)", with our own words where strerror's say nothing of what is damaged. */
export function numbered(error: ImprintError): string {
  const code = codeOf(error);
  return code === "EIO" ? `${numberedText(code)}: ${error.message}` : numberedText(code);
}

/** strerror's words, or our own where these say nothing of what is damaged. */
export function worded(error: ImprintError): string {
  const code = codeOf(error);
  return code === "EIO" ? error.message : hostText(code)!;
}
