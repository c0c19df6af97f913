import type { MapRuns } from "../../bytes/runs.ts";
import type { InfoField } from "../../fs/volume.ts";
import type { Source } from "../../io/source.ts";
import type { OpenedImage } from "../format.ts";

/** A source taken as it is: a raw disk image or a device. Closing leaves `source` open. */
export function openRaw(source: Source): OpenedImage {
  return new RawImage(source);
}

class RawImage implements OpenedImage {
  readonly format = "raw";
  readonly size: number;
  readonly label: string;
  readonly sectorSize?: number;
  readonly plain?: Source["plain"];
  private readonly source: Source;

  constructor(source: Source) {
    this.source = source;
    this.size = source.size;
    this.label = source.label;
    if (source.sectorSize !== undefined) this.sectorSize = source.sectorSize;
    if (source.plain !== undefined) this.plain = source.plain;
  }

  info(): InfoField[] {
    return [{ key: "virtualSize", label: "virtual size", value: this.size, unit: "bytes" }];
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    return this.source.read(into, at);
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    return this.source.map(from, to);
  }

  close(): void {}
}
