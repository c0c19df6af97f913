import type { PartitionEntry } from "../fs/partition/entry.ts";
import type { InfoField, Role, Scope } from "../fs/volume.ts";
import type { Gate } from "../io/gate.ts";
import type { BulkComparer } from "./compare-pieces.ts";
import type { BulkCopier } from "./copy/bulk.ts";

export type { PartitionEntry } from "../fs/partition/entry.ts";

/** What a job reports while it runs: bytes of the source walked so far, of the total planned. */
export interface Progress {
  readonly phase: "scan" | "copy" | "verify";
  readonly done: number;
  readonly total: number;
}

/** Options every job takes. */
export interface JobOptions {
  readonly onProgress?: (p: Progress) => void;
  /** Aborting makes the job throw AbortError and leave no output. */
  readonly signal?: AbortSignal;
  /** The host's fast copier, where it has one (Node: several threads, shared extents). */
  readonly bulk?: BulkCopier;
  /** The host's fast comparer, where it has one (Node: two threads), for comparing and verifying. */
  readonly comparer?: BulkComparer;
}

export type OutputFormat = "raw" | "qcow2";

/** How a QCOW2 output is laid out. "e2image": the bytes native `e2image -Q` writes (v2, cluster = block). */
export interface Qcow2Options {
  readonly layout?: "qemu" | "e2image";
  readonly version?: 2 | 3;
  /** Bytes, 512 to 2 MiB, a power of two. */
  readonly clusterSize?: number;
  readonly refcountBits?: number;
}

export interface OutputOptions extends JobOptions {
  readonly format: OutputFormat;
  readonly qcow2?: Qcow2Options;
  /** Read the output back and compare it with the source. */
  readonly verify?: boolean;
}

export interface CaptureOptions extends OutputOptions {
  readonly scope: Scope;
  /** ext: take whole bigalloc clusters and nothing for orphans, as native e2image does. */
  readonly nativeSelection?: boolean;
}

/** What a finished job did. Sizes in bytes. */
export interface JobResult {
  readonly format: OutputFormat;
  /** Size of the disk or volume inside the output. */
  readonly guestSize: number;
  /** Size of the output itself. */
  readonly outputSize: number;
  /** Bytes selected by the plan. */
  readonly selected: number;
  /** Bytes written as data (selected, less the zeros that were left out). */
  readonly written: number;
  readonly verified: boolean;
  readonly warnings: readonly string[];
}

/** What `imprint info` says of a file. */
export interface Inspection {
  readonly label: string;
  readonly size: number;
  /** Container format: "raw", "qcow2". */
  readonly format: string;
  readonly container: readonly InfoField[];
  /** Virtual size of the disk inside. */
  readonly diskSize: number;
  readonly partitionTable: "none" | "mbr" | "gpt";
  readonly partitions: readonly (PartitionEntry & { readonly filesystem: FilesystemSummary | null })[];
  /** What covers the whole disk, where there is no partition table. */
  readonly filesystem: FilesystemSummary | null;
}

export interface FilesystemSummary {
  /** Its name; "damaged" where it cannot be read. */
  readonly kind: string;
  /** False where it was recognised by its signature and no more of it can be read. */
  readonly supported: boolean;
  /** Bytes; 0 where that is not known. */
  readonly size: number;
  readonly blockSize: number;
  readonly info: readonly InfoField[];
}

/** One cell of the allocation picture: share of each role in it, 0 to 1. */
export interface AllocationCell {
  readonly role: Role | "free";
  readonly share: number;
}

export interface OpenOptions {
  readonly gate: Gate;
  /** "auto" probes; naming the format probes nothing. */
  readonly format?: "auto" | OutputFormat;
  /** 1-based partition to take; without it a disk with exactly one filesystem answers with that. */
  readonly partition?: number;
  /** Bytes of a sector of the disk, which partition tables count in; without it the device's own, or a guess. */
  readonly sectorSize?: number;
}
