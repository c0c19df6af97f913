import type { InfoField } from "../../src/fs/volume.ts";

const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** Bytes for a person: "512 B", "1.5 KiB", "20 GiB"; three significant digits. */
export function formatSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  let unit = 0;
  let v = bytes / 1024;
  // Carry on where rounding would print 1024 of a unit.
  while (v >= 1023.5 && unit < UNITS.length - 1) {
    v /= 1024;
    unit++;
  }
  return `${formatThree(v)} ${UNITS[unit]}`;
}

function formatThree(v: number): string {
  return v >= 100 ? String(Math.round(v)) : String(Number(v.toPrecision(3)));
}

/** Seconds as "4 s", "2:05" or "1:02:05". */
export function formatDuration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  const two = (n: number): string => String(n).padStart(2, "0");
  const h = Math.floor(s / 3600);
  const m = Math.floor(s / 60) % 60;
  return h > 0 ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
}

/** The human form of a field's value. */
export function formatField(field: InfoField): string {
  const { value, unit } = field;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") {
    if (unit === "bytes") return value < 1024 ? `${value} B` : `${formatSize(value)} (${value} bytes)`;
    if (unit === "hex") return `0x${value.toString(16)}`;
    if (unit === "time")
      return value === 0 ? "never" : new Date(value * 1000).toISOString().replace(".000Z", "Z");
    return String(value);
  }
  if (typeof value === "string") return value === "" ? "none" : printable(value);
  return value.length === 0 ? "none" : value.map(printable).join(" ");
}

/** Text from an image with control characters made visible, so that a label cannot drive the terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** Rows in aligned columns; numbers to the right where `right` says so. Ends with a newline. */
export function table(rows: readonly (readonly string[])[], right: readonly boolean[] = []): string {
  const widths: number[] = [];
  for (const row of rows)
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows
    .map((row) =>
      row
        .map((cell, i) => (right[i] ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
        .join("  ")
        .trimEnd(),
    )
    .map((line) => line + "\n")
    .join("");
}
