import type { Source } from "../../io/source.ts";
import type { BootSector } from "./boot.ts";
import { NtfsError } from "./errors.ts";
import { extentsOf, type Inode } from "./inode.ts";
import { ATTR_COMPRESSION_MASK, ATTR_ENCRYPTED, ATTR_SPARSE } from "./layout.ts";
import type { Attribute } from "./record.ts";
import { readRuns } from "./run-reader.ts";
import { checkRuns, joinRuns, type Runs } from "./runlist.ts";

/**
 * The contents of one attribute, all its extents joined, read as stored (compressed or encrypted bytes as they are).
 */
export class Stream {
  readonly structure: string;
  /** Bytes. */
  readonly size: number;
  /** Bytes that were ever written; the rest reads as zeros. */
  readonly initialized: number;
  readonly flags: number;
  /** Clusters of a compression unit; 0 where it is not compressed. */
  readonly unitClusters: number;
  /** Where it lies; empty for a resident one. */
  readonly runs: Runs;
  /** Its value where it is resident, else null. */
  readonly value: Uint8Array | null;
  private readonly source: Source;
  private readonly clusterSize: number;

  /** Use openStream. */
  constructor(parts: { readonly source: Source; readonly boot: BootSector }, extents: readonly Attribute[]) {
    const first = extents[0];
    this.source = parts.source;
    this.clusterSize = parts.boot.clusterSize;
    this.structure = first.structure;
    this.flags = first.flags;
    this.size = first.size;
    this.initialized = first.initialized;
    this.value = first.nonResident ? null : first.value;
    this.runs = new Float64Array(0);
    this.unitClusters = 0;
    const bad = (detail: string) => new NtfsError("NTFS_BAD_STREAM", this.structure, -1, detail);
    if (!first.nonResident) return;
    if ((first.flags & ATTR_COMPRESSION_MASK) !== 0 && first.compressionUnit > 0) {
      if (first.compressionUnit > 16) throw bad(`a compression unit of 2^${first.compressionUnit} clusters`);
      this.unitClusters = 2 ** first.compressionUnit;
    }
    if (first.lowestVcn !== 0) throw bad(`its first extent starts at cluster ${first.lowestVcn}`);
    const pieces = extents.filter((a) => a.nonResident).map((a) => a.runsWithin(this.clusterSize));
    this.runs = joinRuns(pieces, this.structure);
    checkRuns(this.runs, parts.boot.clusters + 1, this.structure);
    const sizes = [this.size, this.initialized];
    if (sizes.some((v) => !(v >= 0))) throw bad(`sizes ${sizes.join(" and ")}`);
  }

  get resident(): boolean {
    return this.value !== null;
  }
  get compressed(): boolean {
    return this.unitClusters > 0;
  }
  get encrypted(): boolean {
    return (this.flags & ATTR_ENCRYPTED) !== 0;
  }
  get sparse(): boolean {
    return (this.flags & ATTR_SPARSE) !== 0;
  }

  /**
   * Reads stored bytes from `at`; returns how many, 0 at the end. What was never initialized reads as zeros. Throws
   * NtfsError, IoError.
   */
  read(into: Uint8Array, at: number): number | Promise<number> {
    const n = Math.max(0, Math.min(into.length, this.size - at));
    const piece = into.subarray(0, n);
    if (n === 0) return 0;
    if (this.value !== null) {
      piece.set(this.value.subarray(at, at + n));
      return n;
    }
    const real = Math.max(0, Math.min(n, this.initialized - at));
    piece.fill(0, real);
    if (real === 0) return n;
    const r = this.readStored(piece.subarray(0, real), at);
    return r instanceof Promise ? r.then(() => n) : n;
  }

  /** Fills `into` with the clusters' bytes from `at` of a non-resident stream, whatever the sizes say. */
  readStored(into: Uint8Array, at: number): void | Promise<void> {
    return readRuns(this.source, this.clusterSize, this.runs, into, at, this.structure);
  }
}

/**
 * One attribute of an inode as a stream, or null where it has none. Throws NtfsError for extents
 * that do not fit together.
 */
export function openStream(
  parts: { readonly source: Source; readonly boot: BootSector },
  inode: Inode,
  type: number,
  name = "",
): Stream | null {
  const extents = extentsOf(inode, type, name);
  return extents.length === 0 ? null : new Stream(parts, extents);
}
