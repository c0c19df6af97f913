/** A stored text up to its first zero byte, where qemu ends it. */
export function untilZero(stored: Uint8Array): Uint8Array {
  const zero = stored.indexOf(0);
  return zero < 0 ? stored : stored.subarray(0, zero);
}

/** The same as a string; what is not UTF-8 becomes U+FFFD. */
export function textOf(stored: Uint8Array): string {
  return new TextDecoder().decode(untilZero(stored));
}
