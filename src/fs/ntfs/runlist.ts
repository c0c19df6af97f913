import { u32le } from "../../bytes/endian.ts";
import { EINVAL, EIO, NtfsError } from "./errors.ts";

/**
 * Runs of a non-resident attribute, ascending by VCN: triples (vcn, lcn, length) in clusters, `RUN` numbers each. A
 * hole has the lcn HOLE_LCN.
 */
export type Runs = Float64Array;
/** Numbers a run takes in `Runs`. */
export const RUN = 3;
export const HOLE_LCN = -1;

/** Runs of at most this many bytes of mapping pairs are decoded; more cannot be in one record. */
const FIRST_ROOM = 16 * RUN;
/** Beyond this a VCN or LCN is no number JavaScript holds exactly, and no place on any volume. */
const MOST_CLUSTERS = 2 ** 52;

/** What decoding needs to know of the attribute. */
export interface MappingPairs {
  readonly bytes: Uint8Array;
  /** Where the pairs start and where the attribute ends, offsets into `bytes`. */
  readonly from: number;
  readonly to: number;
  readonly lowestVcn: number;
  /** As stored; 0 is "not said". */
  readonly highestVcn: number;
  /** For messages, e.g. "NTFS record 5 attribute 0x80". */
  readonly structure: string;
}

/**
 * Decodes mapping pairs. Throws NtfsError NTFS_BAD_RUNLIST for pairs that run past the attribute, have no length or a
 * negative one, lead below cluster 0, or do not end at the highest VCN. Whether the clusters exist is for the caller to
 * check (`checkRuns`). Zero-length holes are left out.
 */
export function decodeRuns(pairs: MappingPairs): Runs {
  const { bytes: b, from, to } = pairs;
  const bad = (detail: string, errno = EIO): NtfsError =>
    new NtfsError("NTFS_BAD_RUNLIST", pairs.structure, -1, detail, {
      text: "ntfs_decompress_mapping_pairs",
      errno,
    });
  if (pairs.lowestVcn < 0) throw bad(`an extent from cluster ${pairs.lowestVcn} on`, EINVAL);
  if (pairs.lowestVcn >= MOST_CLUSTERS) throw bad(`an extent from cluster ${pairs.lowestVcn} on`);
  if (from < 0 || from > to || to > b.length) throw bad(`mapping pairs from byte ${from} to ${to}`);
  let runs = new Float64Array(FIRST_ROOM);
  let n = 0;
  let p = from;
  let vcn = pairs.lowestVcn;
  let lcn = 0;
  while (p < to && b[p] !== 0) {
    const lengthBytes = b[p] & 15;
    const lcnBytes = b[p] >>> 4;
    const end = p + 1 + lengthBytes + lcnBytes;
    if (end > to) throw bad(`a mapping pair ends at byte ${end} of ${to}`);
    if (lengthBytes === 0) throw bad("a mapping pair without a length");
    const length = signedField(b, p + 1, lengthBytes);
    if (!(length >= 0 && length < MOST_CLUSTERS)) throw bad(`a run of ${length} clusters`);
    let place = HOLE_LCN;
    if (lcnBytes > 0) {
      lcn += signedField(b, p + 1 + lengthBytes, lcnBytes);
      if (!(lcn >= HOLE_LCN && lcn < MOST_CLUSTERS)) throw bad(`a run at cluster ${lcn}`);
      if (length === 0 && lcn !== HOLE_LCN) throw bad("a run without clusters");
      place = lcn;
    }
    if (length > 0) {
      if (n === runs.length) {
        const wider = new Float64Array(n * 2);
        wider.set(runs);
        runs = wider;
      }
      runs[n] = vcn;
      runs[n + 1] = place;
      runs[n + 2] = length;
      n += RUN;
      vcn += length;
      if (vcn >= MOST_CLUSTERS) throw bad(`runs up to cluster ${vcn} of the attribute`);
    }
    p = end;
  }
  if (p >= to) throw bad("mapping pairs without an end");
  const { highestVcn } = pairs;
  if (highestVcn !== 0 && highestVcn !== vcn - 1)
    throw bad(`runs end at cluster ${vcn - 1} of the attribute, not at ${highestVcn}`);
  return runs.slice(0, n);
}

/** A signed little-endian field of 1 to 15 bytes; inexact beyond 2^53. */
function signedField(b: Uint8Array, at: number, length: number): number {
  if (length === 4) return u32le(b, at) | 0;
  let v = b[at + length - 1];
  if (v >= 128) v -= 256;
  for (let i = length - 2; i >= 0; i--) v = v * 256 + b[at + i];
  return v;
}

/** Clusters of the attribute that the runs reach: the VCN after the last one. */
export function endOf(runs: Runs): number {
  return runs.length === 0 ? 0 : runs[runs.length - RUN] + runs[runs.length - 1];
}

/** Clusters the runs take on the volume, holes left out. */
export function allocatedClusters(runs: Runs): number {
  let n = 0;
  for (let i = 0; i < runs.length; i += RUN) if (runs[i + 1] !== HOLE_LCN) n += runs[i + 2];
  return n;
}

/** Index (in `runs`) of the run that holds `vcn`, or -1. */
export function runOf(runs: Runs, vcn: number): number {
  let low = 0;
  let high = runs.length / RUN - 1;
  while (low <= high) {
    const mid = (low + high) >>> 1;
    const i = mid * RUN;
    if (vcn < runs[i]) high = mid - 1;
    else if (vcn >= runs[i] + runs[i + 2]) low = mid + 1;
    else return i;
  }
  return -1;
}

/** Throws NTFS_BAD_RUNLIST where a run leaves a volume of `clusters` clusters. */
export function checkRuns(runs: Runs, clusters: number, structure: string): void {
  for (let i = 0; i < runs.length; i += RUN) {
    const lcn = runs[i + 1];
    if (lcn === HOLE_LCN || lcn + runs[i + 2] <= clusters) continue;
    throw new NtfsError(
      "NTFS_BAD_RUNLIST",
      structure,
      -1,
      `clusters ${lcn} to ${lcn + runs[i + 2] - 1} of ${clusters}`,
      { errno: 0 },
    );
  }
}

/** Pieces of one attribute, joined: each must start where the one before ends. Throws NTFS_BAD_RUNLIST. */
export function joinRuns(pieces: readonly Runs[], structure: string): Runs {
  if (pieces.length === 1) return pieces[0];
  let n = 0;
  for (const p of pieces) n += p.length;
  const all = new Float64Array(n);
  n = 0;
  let next = 0;
  for (const p of pieces) {
    if (p.length > 0 && p[0] !== next)
      throw new NtfsError(
        "NTFS_BAD_RUNLIST",
        structure,
        -1,
        `an extent starts at cluster ${p[0]} of the attribute instead of ${next}`,
      );
    all.set(p, n);
    n += p.length;
    if (p.length > 0) next = endOf(p);
  }
  return all;
}
