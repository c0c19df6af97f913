import type { HostFile } from "../../bytes/runs.ts";
import type { Source } from "../../io/source.ts";
import type { CopyCounts } from "./copier.ts";
import type { LayoutSpec } from "./spec.ts";

/** A copy whose source bytes are plain bytes of host files and whose target is a host file. */
export interface BulkJob {
  readonly source: Source;
  readonly target: HostFile;
  readonly layout: LayoutSpec;
  readonly skipZero: boolean;
  /** True where the target is fresh: extents may be shared and nothing has to be zeroed. */
  readonly fresh: boolean;
  /** Stored bytes of the source, as the plan counted them. */
  readonly total: number;
  /** Called with the bytes walked so far; throws AbortError to stop. */
  readonly onProgress: (walked: number) => void;
}

/** What a bulk copy leaves: its counts, and the packer's state for `finish`. */
export interface BulkResult extends CopyCounts {
  readonly state: Float64Array;
}

/** A host's fast copier. */
export interface BulkCopier {
  /** Says early that up to `bytes` will be copied to `target`, so that helpers can start up meanwhile. */
  prepare(bytes: number, target: HostFile | undefined): void;
  run(job: BulkJob): Promise<BulkResult>;
  /** Lets helpers go. */
  close(): Promise<void>;
}
