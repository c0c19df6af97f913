/**
 * strtoull(text, NULL, 0) of C: leading blanks, a sign, 0x and 0 prefixes; stops at the first character that does not
 * belong, so that text without a number is 0. Values past 2^53 lose their low bits; callers refuse those.
 */
export function strtoull(text: string): number {
  const m = /^[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)/.exec(text);
  if (m === null) return 0;
  const digits = /^0[0-7]+$/.test(m[2]) ? `0o${m[2].slice(1)}` : m[2];
  let value = BigInt(digits);
  const top = 1n << 64n;
  if (value >= top) return Number(top - 1n);
  if (m[1] === "-" && value > 0n) value = top - value;
  return Number(value);
}
