/**
 * Image formats that leave zero blocks out and append the rest (QCOW2) decide, in guest order, where each
 * block goes. A packer is that decision and nothing else: no I/O. Several threads can take turns with one
 * packer, because all of its mutable state is a flat array of numbers that can live in shared memory.
 */

/** Where the decisions go. Offsets and lengths are bytes. */
export interface WriteList {
  /** The guest bytes [guest, guest + length) belong at `target` of the image file. */
  data(guest: number, target: number, length: number): void;
  /** These metadata bytes belong at `target`; they are copied before the call returns. */
  meta(target: number, bytes: Uint8Array): void;
}

export interface Packer {
  /** Unit of allocation, bytes: the cluster. */
  readonly clusterSize: number;
  /**
   * For bytes that do not depend on how the guest is cut (and are the native tool's), chunks begin and end at
   * multiples of this many guest bytes, a multiple of cluster and zero unit. Any other cut gives a valid
   * image too. Absent: the cluster.
   */
  readonly chunkUnit?: number;
  /**
   * For the native tool's bytes, the caller widens runs to whole units of this many guest bytes (clipped at
   * the guest's end): it stores zeros in shorter runs. Runs that are not widened give a valid, smaller image.
   * Absent: the cluster.
   */
  readonly zeroUnit?: number;
  /** Guest size in bytes (the last cluster may be short of source bytes; it is padded with zeros). */
  readonly guestSize: number;
  /** Everything that changes; replaceable by a shared array of the same length before the first call. */
  state: Float64Array;
  /**
   * Places the non-zero clusters of one chunk of the guest: `runs` holds `count` pairs (first, number) of
   * cluster indexes relative to guest cluster `base`. Chunks come in ascending order and never overlap.
   */
  place(base: number, runs: Uint32Array, count: number, out: WriteList): void;
  /** Present where the layout asks for the native tool's bytes. */
  readonly exact?: ByteRequests;
  /** The metadata that is known only at the end (header, L1, refcounts); returns the file's size in bytes. */
  finish(out: WriteList): number;
}

/** How a worker rebuilds the same packer. */
export type PackerSpec =
  | {
      readonly kind: "e2image";
      readonly clusterSize: number;
      readonly guestSize: number;
      readonly marks: number;
    }
  | {
      readonly kind: "qemu";
      readonly clusterSize: number;
      readonly guestSize: number;
      /** 2 or 3. */
      readonly version: number;
      readonly refcountOrder: number;
      readonly backingFile: string | null;
      readonly backingFormat: string | null;
      /** Place what is written as the native tool's own requests (see `ByteRequests`), one by one. */
      readonly exact?: ExactRules;
      /** 0 zlib (default), 1 zstd. */
      readonly compressionType?: number;
      readonly extendedL2?: boolean;
      readonly lazyRefcounts?: boolean;
      /** Name of the file that holds the data, at the guest's own offsets. */
      readonly dataFile?: string | null;
      readonly rawDataFile?: boolean;
      /** The file ends with a whole sector of 512 bytes. */
      readonly wholeSectors?: boolean;
    };

/** Which sectors an exact copy stores; units of 512 bytes. */
export interface ExactRules {
  /** Zeros are left out where at least so many sectors are zero; 0 stores everything. */
  readonly least: number;
  /** Stored pieces begin and end at multiples of this power of two. */
  readonly alignment: number;
}

/**
 * Placing by requests: for the native tool's bytes, the copy is cut where the tool's own requests begin and end. A copy
 * that calls `request` does not call `place`.
 */
export interface ByteRequests {
  readonly rules: ExactRules;
  /**
   * Places the guest bytes [from, to), one write of the native tool. Requests come in ascending order and do not
   * overlap; several may share a cluster.
   */
  request(from: number, to: number, out: WriteList): void;
  /**
   * Places the guest cluster `guest`, compressed to `size` bytes (fewer than a cluster has); returns the byte of the
   * image where they go. For one thread only.
   */
  compressed(guest: number, size: number, out: WriteList): number;
  /**
   * Makes the clusters (or subclusters) of the guest bytes [from, to) read as zeros; whole ones, the last one of the
   * disk excepted. Version 3 only.
   */
  zero(from: number, to: number, out: WriteList): void;
  /** Hands on the entries of the requests since the last call: at the end of each turn. */
  flush(out: WriteList): void;
}
