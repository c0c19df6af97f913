import { isSafe } from "../../bytes/endian.ts";
import { FormatError } from "../../errors.ts";
import { DomainMap, FINISHED, isDomainStatus, UNTRIED } from "./domain-map.ts";

/** Runs a map file may have. */
const MOST_RUNS = 4_000_000;

/** `0x` and hexadecimal digits, at least eight. */
function hex(n: number): string {
  return `0x${n.toString(16).toUpperCase().padStart(8, "0")}`;
}

/**
 * A map as GNU ddrescue writes its map files ("mapfile structure" in its manual). `made` is what the first
 * comment says of the program.
 */
export function formatMapfile(map: DomainMap, made: string): string {
  let done = true;
  let at = 0;
  const lines: string[] = [];
  for (const r of map.runs()) {
    if (r.status === UNTRIED && done) at = r.from;
    if (r.status === UNTRIED) done = false;
    lines.push(`${hex(r.from)}  ${hex(r.to - r.from)}  ${r.status}`);
  }
  return [
    `# Mapfile. Created by ${made}`,
    "# current_pos  current_status  current_pass",
    `${hex(at)}     ${done ? FINISHED : UNTRIED}               1`,
    "#      pos        size  status",
    ...lines,
    "",
  ].join("\n");
}

/**
 * Reads a map file for a source of `size` bytes. What it does not mention is not tried yet; what lies beyond the source
 * is left out. Throws FormatError naming the line.
 */
export function parseMapfile(text: string, size: number): DomainMap {
  const map = new DomainMap(size);
  const lines = text.split(/\r?\n/);
  let head = true;
  let end = 0;
  let runs = 0;
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i].trim();
    if (line === "" || line.startsWith("#")) continue;
    const fail = (detail: string): never => {
      throw new FormatError(`map file line ${i + 1}`, -1, detail);
    };
    const words = line.split(/\s+/);
    if (head) {
      head = false;
      // Where ddrescue was, its phase, and (newer ones) its pass.
      if (words.length < 2 || words.length > 3 || number(words[0]) < 0 || !/^[?*/\-F G+]$/.test(words[1]))
        fail(`"${line.slice(0, 60)}" is no status line`);
      continue;
    }
    const from = number(words[0]);
    const length = number(words[1] ?? "");
    const status = words[2] ?? "";
    if (words.length !== 3 || from < 0 || length < 0 || !isDomainStatus(status))
      return fail(`"${line.slice(0, 60)}" is no position, size and status`);
    if (from < end) fail(`position ${from} comes after ${end}`);
    if (++runs > MOST_RUNS) fail(`more than ${MOST_RUNS} lines`);
    end = from + length;
    if (!isSafe(end)) fail(`${length} bytes from ${from} on`);
    map.set(from, end, status);
  }
  if (head) throw new FormatError("map file", -1, "it has no status line");
  return map;
}

/** Decimal, hexadecimal (0x) or octal (0); -1 for anything else. */
function number(word: string): number {
  const n = /^0x[0-9a-f]+$/i.test(word)
    ? Number.parseInt(word, 16)
    : /^0[0-7]+$/.test(word)
      ? Number.parseInt(word, 8)
      : /^\d+$/.test(word)
        ? Number(word)
        : -1;
  return isSafe(n) ? n : -1;
}
