import { QemuError, warn } from "./errors.ts";

const SUFFIXES = "bkmgtpe";
const MAX = 0x7fffffffffffffffn;

/** Why a size was not understood: it is no size at all, or it lies outside 64 bits. */
export type SizeTrouble = "invalid" | "range";

/**
 * Reads a size as qemu does: decimal digits with an optional fraction (which needs a suffix above b) or 0x and hex
 * digits; one suffix b k M G T P E in either case, `unit` bytes apart; nothing after it. Bytes, below 2^64.
 */
export function readSize(text: string, defaultSuffix = "b", unit = 1024n): bigint | SizeTrouble {
  const m = /^[ \t\n\v\f\r]*(\+?)(?:0[xX]([0-9a-fA-F]+)|([0-9]+)(\.[0-9]*)?)([a-zA-Z]?)$/.exec(text);
  if (m === null) return "invalid";
  const [, , hex, whole, fraction, letter] = m;
  const power = SUFFIXES.indexOf((letter === "" ? defaultSuffix : letter).toLowerCase());
  if (power < 0) return "invalid";
  if (hex !== undefined && letter !== "")
    warn(`Using a multiplier suffix on hex numbers is deprecated: ${text}`);
  const multiple = unit ** BigInt(power);
  const value = BigInt(hex === undefined ? whole : `0x${hex}`);
  if (value >= 1n << 64n) return "range";
  let bytes = value * multiple;
  if (fraction !== undefined && fraction.length > 1) {
    const digits = fraction.slice(1);
    if (multiple === 1n) {
      if (/[1-9]/.test(digits)) return "invalid";
    } else {
      const scale = 10n ** BigInt(digits.length);
      // Rounded to the nearest byte, as a 64-bit fixed-point fraction.
      bytes += (BigInt(digits) * multiple * 2n + scale) / (2n * scale);
    }
  }
  return bytes >= 1n << 64n ? "range" : bytes;
}

/**
 * The value of a size option, in bytes. Throws QemuError with native's text, which calls it `what` ("image size").
 * `min` and `max` bytes. Values above 2^53 lose their low bits: callers refuse what they cannot hold.
 */
export function parseSize(text: string, what: string, min = 0n, max = MAX): number {
  const size = readSize(text);
  if (size === "invalid")
    throw new QemuError(
      `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for\n` +
        "qemu-img: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.",
    );
  if (size === "range" || size < min || size > max)
    throw new QemuError(
      max === MAX && min === 0n
        ? `Invalid ${what} specified. Must be between 0 and ${MAX}.`
        : `Invalid ${what} specified. Must be between ${min} and ${max}.`,
    );
  return Number(size);
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** "192 KiB", "1.5 GiB": three significant digits, the next unit from 1000 on. */
export function humanSize(bytes: number): string {
  // Units of 1024 are picked so that less than 1000 of them are left.
  let unit = 0;
  while (unit < UNITS.length - 1 && bytes / 1024 ** unit >= 1000) unit++;
  return `${threeDigits(bytes / 1024 ** unit)} ${UNITS[unit]}`;
}

/** C's %0.3g of a number below 1000 or so: exact ties go to the even digit. */
function threeDigits(v: number): string {
  if (v === 0) return "0";
  const exponent = Math.floor(Math.log10(Math.abs(v)) + 1e-12);
  const decimals = 2 - exponent;
  // Scaling by a power of ten is exact enough here: ties only occur where few binary digits follow the point.
  const scale = 10 ** Math.abs(decimals);
  const scaled = decimals >= 0 ? v * scale : v / scale;
  const low = Math.floor(scaled);
  const rest = scaled - low;
  const rounded = rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
  const value = decimals >= 0 ? rounded / scale : rounded * scale;
  if (value >= 1000) return value.toExponential().replace(/^(\d(?:\.\d+)?)e\+?(\d)$/, "$1e+0$2");
  return String(Number(value.toFixed(Math.max(decimals, 0))));
}
