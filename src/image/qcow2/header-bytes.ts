import { putU32be, putU64be } from "../../bytes/endian.ts";
import { EXTENSION, FEATURE_NAMES, FEATURE_ROW, H } from "./layout.ts";

/** A header extension: its type and its data, without padding. */
export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/**
 * The order in which qemu writes the extensions that it knows; the others follow in theirs. Source: qemu-img 7.2's own
 * headers.
 */
const ORDER: readonly number[] = [
  EXTENSION.backingFormat,
  EXTENSION.dataFile,
  EXTENSION.crypto,
  EXTENSION.features,
  EXTENSION.bitmaps,
];

/** True for an extension that qemu knows: there is one of each at most. */
export function isKnown(type: number): boolean {
  return ORDER.includes(type);
}

/**
 * A whole header: the fixed fields (with the place of the backing file name set in them), the extensions in qemu's
 * order, their end, and the backing file name.
 */
export function joinHeader(
  fields: Uint8Array,
  extensions: readonly HeaderExtension[],
  backingName: Uint8Array | null,
): Uint8Array {
  const rank = (e: HeaderExtension) => (isKnown(e.type) ? ORDER.indexOf(e.type) : ORDER.length);
  const sorted = [...extensions].sort((a, b) => rank(a) - rank(b));
  sorted.push({ type: EXTENSION.end, data: new Uint8Array(0) });
  const room = (e: HeaderExtension) => 8 + Math.ceil(e.data.length / 8) * 8;
  const nameAt = sorted.reduce((at, e) => at + room(e), fields.length);
  const out = new Uint8Array(nameAt + (backingName?.length ?? 0));
  out.set(fields);
  putU64be(out, H.backingOffset, backingName === null ? 0 : nameAt);
  putU32be(out, H.backingLength, backingName === null ? 0 : backingName.length);
  let at = fields.length;
  for (const e of sorted) {
    putU32be(out, at, e.type);
    putU32be(out, at + 4, e.data.length);
    out.set(e.data, at + 8);
    at += room(e);
  }
  if (backingName !== null) out.set(backingName, nameAt);
  return out;
}

/** True where qemu writes a table of feature names: it wants clusters with room to spare. */
export function hasFeatureNames(version: number, clusterSize: number): boolean {
  return version >= 3 && clusterSize > 4096;
}

/** The table of feature names: the rows qemu writes, then those of `old` that name other bits. */
export function featureNames(old?: Uint8Array): HeaderExtension {
  const text = new TextEncoder();
  const rows: Uint8Array[] = FEATURE_NAMES.map(([kind, bit, name]) => {
    const row = new Uint8Array(FEATURE_ROW);
    row[0] = kind;
    row[1] = bit;
    row.set(text.encode(name), 2);
    return row;
  });
  for (let p = 0; old !== undefined && p + FEATURE_ROW <= old.length; p += FEATURE_ROW)
    if (!rows.some((r) => r[0] === old[p] && r[1] === old[p + 1])) rows.push(old.slice(p, p + FEATURE_ROW));
  const data = new Uint8Array(rows.length * FEATURE_ROW);
  rows.forEach((r, i) => {
    data.set(r, i * FEATURE_ROW);
  });
  return { type: EXTENSION.features, data };
}
