/** What qemu's JSON writer prints. Numbers are integers; bigint for those above 2^53. */
export type Json = string | number | bigint | boolean | null | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json | undefined;
}

const BUCKETS = 512;

/** Bucket of a key in qemu's dictionaries: their entries are printed bucket by bucket. */
function bucket(key: string): number {
  const bytes = new TextEncoder().encode(key);
  let h = Math.imul(0x238f13af, bytes.length) >>> 0;
  for (let i = 0; i < bytes.length; i++) h = (h + (bytes[i] << ((i * 5) % 24))) >>> 0;
  h = (Math.imul(h, 1103515243) + 12345) >>> 0;
  return h % BUCKETS;
}

/** Keys of an object that have a value, in the order in which qemu prints them. */
export function qemuOrder(keys: readonly string[]): string[] {
  // Within a bucket the one put in last comes first.
  return keys
    .map((key, i) => ({ key, i, b: bucket(key) }))
    .sort((x, y) => x.b - y.b || y.i - x.i)
    .map((e) => e.key);
}

/** A value as qemu's JSON printer writes it. Pretty: four spaces a level; a newline is the caller's. */
export function qemuJson(value: Json, pretty = true): string {
  return write(value, pretty ? 0 : -1);
}

/** `level` -1: everything on one line. */
function write(value: Json, level: number): string {
  if (value === null) return "null";
  if (typeof value === "string") return quoted(value);
  if (typeof value !== "object") return String(value);
  const inner = level < 0 ? -1 : level + 1;
  const newline = (n: number): string => (n < 0 ? "" : `\n${"    ".repeat(n)}`);
  const join = level < 0 ? ", " : ",";
  if (isArray(value)) {
    const items = value.map((v) => newline(inner) + write(v, inner));
    return `[${items.join(join)}${newline(level)}]`;
  }
  const keys = qemuOrder(Object.keys(value).filter((k) => value[k] !== undefined));
  const items = keys.map((k) => `${newline(inner)}${quoted(k)}: ${write(value[k]!, inner)}`);
  return `{${items.join(join)}${newline(level)}}`;
}

function isArray(value: readonly Json[] | JsonObject): value is readonly Json[] {
  return Array.isArray(value);
}

const SHORT: Readonly<Record<string, string>> = {
  '"': '\\"',
  "\\": "\\\\",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

/** A string in quotes; everything outside printable ASCII as \uXXXX. */
function quoted(text: string): string {
  let out = '"';
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    const code = text.charCodeAt(i);
    if (SHORT[c] !== undefined) out += SHORT[c];
    else if (code >= 0x20 && code < 0x7f) out += c;
    else out += `\\u${code.toString(16).toUpperCase().padStart(4, "0")}`;
  }
  return `${out}"`;
}
