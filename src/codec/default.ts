import type { Codecs } from "./codecs.ts";
import { portableCodecs } from "./portable.ts";

let codecs: Codecs = portableCodecs;

/** The codecs that formats use where the caller names none: the portable ones until `useCodecs`. */
export function defaultCodecs(): Codecs {
  return codecs;
}

/** Makes `c` the default, once, by the host's entry module. */
export function useCodecs(c: Codecs): void {
  codecs = c;
}
