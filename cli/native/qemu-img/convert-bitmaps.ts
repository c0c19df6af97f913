import type { ConvertSettings } from "./convert-options.ts";
import type { ConvertInput } from "./convert-source.ts";
import { QemuError } from "./errors.ts";

/** --bitmaps: copies the bitmaps of the source into the new image. */
export async function copyBitmaps(_s: ConvertSettings, _input: ConvertInput): Promise<void> {
  throw new QemuError("--bitmaps is not in this version");
}
