import type { InfoField } from "../src/fs/volume.ts";

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
const whole = new Intl.NumberFormat("en");

/** 1536 -> "1.5 KiB". */
export function bytes(n: number): string {
  let unit = 0;
  let v = n;
  while (v >= 1024 && unit < UNITS.length - 1) {
    v /= 1024;
    unit++;
  }
  if (unit === 0) return n === 1 ? "1 byte" : `${whole.format(n)} bytes`;
  return `${v >= 100 || Number.isInteger(v) ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2)} ${UNITS[unit]}`;
}

export function count(n: number): string {
  return whole.format(n);
}

export function percent(share: number): string {
  if (share > 0 && share < 0.001) return "<0.1 %";
  const v = share * 100;
  return `${v >= 99.95 || v === 0 ? v.toFixed(0) : v.toFixed(1)} %`;
}

/** Seconds as "5 s", "2 min 5 s", "1 h 2 min". */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/** The text of one fact. */
export function fact(field: InfoField): string {
  const { value, unit } = field;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "object") return value.length === 0 ? "none" : value.join(", ");
  if (typeof value === "string") return value === "" ? "none" : value;
  if (unit === "bytes") return value >= 1024 ? `${bytes(value)} (${count(value)})` : bytes(value);
  if (unit === "time") return value === 0 ? "never" : new Date(value * 1000).toLocaleString();
  if (unit === "hex") return `0x${value.toString(16)}`;
  return unit === "count" ? count(value) : String(value);
}
