/**
 * Whether case `i` is in the share of a matrix that every run goes through, one in `n`; with IMPRINT_TEST_FULL=1 all
 * are. For checks that depend little on the case.
 */
export function inShare(i: number, n: number): boolean {
  return process.env["IMPRINT_TEST_FULL"] === "1" || i % n === 0;
}

/** Rounds of a random test: `usual`, or `full` with IMPRINT_TEST_FULL=1. */
export function rounds(usual: number, full: number): number {
  return process.env["IMPRINT_TEST_FULL"] === "1" ? full : usual;
}
