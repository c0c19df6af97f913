/** What ntfsclone puts in the place of a sector that cannot be read: question marks, after ten bytes that say so. */
const FILL = 0x3f;
const MARK = new TextEncoder().encode("BadSectoR\0");

/** Fills `sector` as one that could not be read. */
export function markLost(sector: Uint8Array): void {
  sector.fill(FILL);
  sector.set(MARK.subarray(0, sector.length));
}
