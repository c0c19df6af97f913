import type { MapRuns } from "../../../bytes/runs.ts";
import type { Codecs } from "../../../codec/codecs.ts";
import type { DurableFile } from "../../../io/durable.ts";
import type { Source } from "../../../io/source.ts";
import type { Qcow2Header } from "../header.ts";

export interface EditorOptions {
  /** What lies under the image: unallocated clusters read from it. Null (the default): they read as zeros. */
  readonly backing?: Source | null;
  /** Where the guest data is, for images with an external data file. */
  readonly dataFile?: DurableFile;
  /** Decompressors; those of `useCodecs` by default. */
  readonly codecs?: Codecs;
  /** Gets what is found in an image that was not closed cleanly, as lines of qemu's words. */
  readonly report?: (line: string) => void;
}

/** What `setHeader` can change. What is left out stays. */
export interface HeaderChanges {
  /** 2 or 3. Version 2 drops everything that only version 3 has. */
  readonly version?: number;
  /** Guest bytes. The caller sees to it that the L1 table is long enough (`resizeImage`). */
  readonly size?: number;
  /** Backing file name; null removes it and its format. */
  readonly backingFile?: string | null;
  readonly backingFormat?: string | null;
  readonly dataFile?: string | null;
  readonly rawDataFile?: boolean;
  readonly lazyRefcounts?: boolean;
  /** Log2 of the refcounts' bits; the blocks are the caller's to rewrite. */
  readonly refcountOrder?: number;
  readonly compressionType?: number;
  readonly dirty?: boolean;
  readonly corrupt?: boolean;
  /** Bitmap directory; null removes the extension. Offsets and sizes in bytes. */
  readonly bitmaps?: { readonly count: number; readonly size: number; readonly offset: number } | null;
  /** The bitmaps are in step with the data (autoclear bit 0). */
  readonly bitmapsValid?: boolean;
}

/**
 * An existing QCOW2 image that is being changed. Nothing an editor does to the image's metadata is visible before
 * `commit`: changed tables go to clusters that are free before and after, and one write of the header switches. A
 * process that dies in between leaves the image as it was. Guest data is written in place where its cluster is owned
 * alone, else to new clusters. Offsets and lengths in bytes, unless said otherwise.
 */
export interface Editor {
  /** The header as it will be after the next commit. */
  readonly header: Qcow2Header;
  /** Guest bytes. */
  readonly size: number;
  readonly label: string;
  /** Reads guest bytes, uncommitted ones too; what the image does not hold comes from the backing source. */
  read(into: Uint8Array, at: number): number | Promise<number>;
  /** As `Source.map`. */
  map(from: number, to: number): MapRuns | Promise<MapRuns>;
  /** Writes guest bytes at any offset; the rest of a cluster keeps what it read as. Throws RangeError past the end. */
  write(bytes: Uint8Array, at: number): void | Promise<void>;
  /**
   * Makes guest bytes read as zeros: zero clusters (version 3), unallocated ones where nothing lies below, real zeros
   * in version 2 over a backing file.
   */
  writeZeros(at: number, length: number): void | Promise<void>;
  /** Makes the clusters that lie wholly in the range unallocated: they read from the backing source again. */
  discard(at: number, length: number): void | Promise<void>;
  /** Stores one whole cluster (or the image's last, partial one) at guest offset `at` as a compressed stream. */
  writeCompressed(stream: Uint8Array, at: number): void | Promise<void>;

  /** Takes `n` clusters in a row; returns the host offset of the first. Their refcount is 1. */
  allocateClusters(n: number): number;
  /** Takes one reference from each of `n` clusters from host offset `at`. */
  freeClusters(at: number, n: number): void;
  /** References to cluster number `cluster` (host offset / cluster size). */
  refcount(cluster: number): number;
  /** Reads bytes of the image file itself; what lies past its end reads as zeros. */
  readHost(into: Uint8Array, at: number): void;
  /** Writes bytes of the image file itself: only into clusters allocated since the last commit. */
  writeHost(bytes: Uint8Array, at: number): void;

  setHeader(changes: HeaderChanges): void;
  /** Makes everything done so far the image, durably. */
  commit(): void;
  /** Lets go; what was not committed is forgotten. The file stays open. */
  close(): void;
}
