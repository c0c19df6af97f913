import { constants } from "node:os";
import { AbortError, ImprintError } from "../../src/errors.ts";
import { printable } from "../ui/format.ts";
import { strerror } from "./native-errors.ts";

/** Where messages go. */
export type Say = (text: string) => void;

/** What ends a run: `text` is printed as it is, `library` before it on standard error. */
export class Refusal extends Error {
  readonly text: string;
  readonly library: string;
  constructor(text: string, library = "") {
    super(text);
    this.text = text;
    this.library = library;
  }
}

/** A refusal in native's form for what it decides itself. */
export function refusal(text: string): Refusal {
  return new Refusal(`ERROR: ${text}\n`);
}

/** A refusal in native's form for a system call that failed: `doing` and the system's words; `more` lines follow. */
export function systemRefusal(code: string, doing: string, more = "", library = ""): Refusal {
  const number = (constants.errno as Readonly<Record<string, number>>)[code] ?? constants.errno.EIO;
  return new Refusal(`ERROR(${number}): ${doing}: ${strerror(code)}\n${more}`, library);
}

/** Name of an error number ("EINVAL"). */
export function errorName(errno: number): string {
  for (const [name, value] of Object.entries(constants.errno)) if (value === errno) return name;
  return "EIO";
}

/** A refusal for any error that Imprint throws; AbortError and what is no error of ours is thrown on. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof ImprintError && !(error instanceof AbortError))
    return refusal(printable(error.message));
  throw error;
}

/** Millions of bytes, rounded up. */
export function megabytes(bytes: number): number {
  return Math.ceil(bytes / 1e6);
}

/** `NAME: N bytes (M MB)`. */
export function volumeSizeLine(name: string, bytes: number): string {
  return `${name}: ${bytes} bytes (${megabytes(bytes)} MB)\n`;
}

/** What is in use, and its share of the volume; `pad` widens the name to those of the lines around it. */
export function spaceLine(pad: string, clusterSize: number, inUse: number, clusters: number): string {
  const percent = Math.fround(Math.fround(100 * Math.fround(inUse)) / Math.fround(clusters));
  return `Space in use       ${pad}: ${megabytes(inUse * clusterSize)} MB (${fixed(percent, 1)}%)   \n`;
}

/** printf's `%.Nf` of a number with few digits: ties go to the even digit. */
export function fixed(value: number, digits: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "-nan" : value > 0 ? "inf" : "-inf";
  const scale = 10 ** digits;
  const scaled = Math.abs(value) * scale;
  let whole = Math.floor(scaled);
  const rest = scaled - whole;
  if (rest > 0.5 || (rest === 0.5 && whole % 2 === 1)) whole++;
  const text = `${Math.floor(whole / scale)}.${String(whole % scale).padStart(digits, "0")}`;
  return value < 0 ? `-${text}` : text;
}
