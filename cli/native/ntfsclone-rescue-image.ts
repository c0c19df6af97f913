import { statSync } from "node:fs";
import { RescueImageInput } from "../../src/engine/rescue/image-input.ts";
import { RescueSource } from "../../src/engine/rescue/rescue-source.ts";
import { ImprintError } from "../../src/errors.ts";
import { openNtfs } from "../../src/fs/ntfs/volume.ts";
import { openNtfscloneImage } from "../../src/image/ntfsclone/reader.ts";
import type { Source } from "../../src/io/source.ts";
import { printable } from "../ui/format.ts";
import { readMap, writeMap } from "./ntfsclone-mapfile.ts";
import { MAPPED_PIPE, type NtfscloneOptions } from "./ntfsclone-options.ts";
import { sayLost } from "./ntfsclone-rescue.ts";
import { refusal, type Say } from "./ntfsclone-text.ts";

/** A special image on a failing disk, restored with `--rescue`; a map file is about positions in the image. */
export class RescueImage {
  readonly input: RescueImageInput;
  private readonly file: Source;
  private readonly mapfile: string | null;

  /** Throws Refusal for a map file that makes no sense. */
  constructor(file: Source, o: NtfscloneOptions, say: Say) {
    const domain = readMap(o, file.size);
    this.file = file;
    this.mapfile = o.mapfile;
    this.input = new RescueImageInput(file, {
      retries: o.retries,
      onLost: (at) => say(`WARNING: Can't read sector at ${at}, lost data.\n`),
      onGuess: (at) => say(`WARNING: Can't read the command at ${at}: concluded from what follows it.\n`),
      ...(domain === null ? {} : { domain }),
    });
  }

  /** Writes the map file, where one is kept. */
  save(): void {
    if (this.mapfile !== null) writeMap(this.mapfile, this.input.domain);
  }

  /** Says which files lie on what was lost. */
  async report(say: Say): Promise<void> {
    const { lost, domain } = this.input;
    if (lost.length === 0) return;
    try {
      // All that can be read was read: sectors as small as can be let nothing else be lost.
      const known = new RescueSource(this.file, { sectorSize: 1, domain });
      for (const [at, command] of this.input.concluded) known.patch(at, Uint8Array.of(command));
      const image = await openNtfscloneImage(known);
      await sayLost(lost, await openNtfs(image), say);
    } catch (error) {
      if (!(error instanceof ImprintError)) throw error;
      const bytes = lost.reduce((n, [from, to]) => n + to - from, 0);
      say(`Lost: ${bytes} bytes. Which files lie there cannot be told: ${printable(error.message)}\n`);
    }
  }
}

/** Whether the image can be read in any order, so that reading goes on behind what cannot be read. Throws Refusal. */
export function canRescue(o: NtfscloneOptions): boolean {
  const can = o.source !== "-" && !statSync(o.source).isFIFO();
  if (!can && o.mapfile !== null) throw refusal(MAPPED_PIPE);
  return can;
}
