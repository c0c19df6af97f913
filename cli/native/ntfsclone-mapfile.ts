import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { DomainMap } from "../../src/engine/rescue/domain-map.ts";
import { formatMapfile, parseMapfile } from "../../src/engine/rescue/mapfile.ts";
import { version } from "../version.ts";
import type { NtfscloneOptions } from "./ntfsclone-options.ts";
import { errorName, refusal, refusalOf, systemRefusal } from "./ntfsclone-text.ts";

/** Whether a clone goes on where an earlier one left its map; without any trace of one it starts anew. Throws Refusal. */
export function resumes(o: NtfscloneOptions): boolean {
  if (!o.resume || o.mapfile === null) return false;
  if (existsSync(o.mapfile)) return true;
  if (o.output !== null && existsSync(o.output))
    throw refusal(`--resume: there is no map file '${o.mapfile}', and '${o.output}' exists`);
  return false;
}

/** The map of a source of `size` bytes that an earlier run left; null where there is none. Throws Refusal. */
export function readMap(o: NtfscloneOptions, size: number): DomainMap | null {
  if (o.mapfile === null || !existsSync(o.mapfile)) return null;
  try {
    return parseMapfile(readFileSync(o.mapfile, "utf8"), size);
  } catch (error) {
    const { code, errno } = error as NodeJS.ErrnoException;
    if (errno !== undefined) throw systemRefusal(code ?? errorName(errno), `Reading '${o.mapfile}' failed`);
    throw refusalOf(error);
  }
}

/** Writes a map file; it is there whole or not at all. Throws Refusal. */
export function writeMap(path: string, map: DomainMap): void {
  try {
    const fd = openSync(`${path}.new`, "w");
    try {
      writeFileSync(fd, formatMapfile(map, `imprint ${version()}`));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(`${path}.new`, path);
  } catch (error) {
    throw systemRefusal((error as NodeJS.ErrnoException).code ?? "EIO", `Writing '${path}' failed`);
  }
}
