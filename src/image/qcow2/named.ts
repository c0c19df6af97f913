import { u32be } from "../../bytes/endian.ts";
import { UnsupportedError } from "../../errors.ts";
import type { Gate, GateRequest } from "../../io/gate.ts";
import type { Source } from "../../io/source.ts";
import type { StatusSource } from "./block-status.ts";
import { MAGIC } from "./layout.ts";

/**
 * Opens the backing file that an image names, through the gate, in the format that the image states; where it
 * states none, a file that starts as QCOW2 does is taken as such and any other as raw. Closing the result
 * closes the file.
 */
export async function openNamed(
  request: GateRequest,
  gate: Gate,
  openQcow2: (source: Source) => Promise<Source>,
): Promise<Source> {
  const { format } = request;
  if (format !== null && format !== "raw" && format !== "qcow2")
    throw new UnsupportedError(`${request.from}: backing file "${request.name}" has the format "${format}"`);
  const file = await gate(request);
  try {
    if (format === "raw" || (format === null && !(await isQcow2(file)))) return file;
    const image = await openQcow2(file);
    return {
      size: image.size,
      label: image.label,
      read: (into, at) => image.read(into, at),
      map: (from, to) => image.map(from, to),
      ...("status" in image ? { status: (image as StatusSource).status.bind(image) } : {}),
      close: async () => {
        await image.close();
        await file.close();
      },
    };
  } catch (e) {
    await file.close();
    throw e;
  }
}

async function isQcow2(source: Source): Promise<boolean> {
  const head = new Uint8Array(4);
  const r = source.read(head, 0);
  const n = r instanceof Promise ? await r : r;
  return n === 4 && u32be(head, 0) === MAGIC;
}
