import type { InfoField } from "../fs/volume.ts";
import type { Gate } from "../io/gate.ts";
import type { Source } from "../io/source.ts";

/** An opened image: a Source of the disk inside it, and what is known of its container. */
export interface OpenedImage extends Source {
  readonly format: string;
  info(): InfoField[];
}

/** One image format: a folder under image/, and a line in engine/formats.ts. */
export interface ImageFormat {
  readonly name: string;
  /** True where `head` (the first bytes of the source, at least 512 or all of it) looks like this format. */
  probe(head: Uint8Array): boolean;
  /** Opens the image. Named files come through `gate` only. Throws FormatError, UnsupportedError, RefusedError. */
  open(source: Source, gate: Gate): Promise<OpenedImage>;
}
