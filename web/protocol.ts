import type { Inspection, JobResult, OutputFormat, Progress, Qcow2Options } from "../src/engine/api.ts";
import type { AllocationPicture } from "../src/engine/picture.ts";
import type { Scope } from "../src/fs/volume.ts";
import type { GateRequest } from "../src/io/gate.ts";

/** What the person asked to write. */
export interface JobRequest {
  /** "convert" takes the whole disk inside the container; a scope takes that of the volume. */
  readonly what: Scope | "convert";
  readonly format: OutputFormat;
  readonly qcow2?: Qcow2Options;
  /** Read what was written back and compare it with the source. */
  readonly verify: boolean;
  /** File name of the output, for messages and the download. */
  readonly name: string;
}

/**
 * Where the output goes. "download": the browser's private file system under the name `id`, or a Blob where that is
 * null or there is no room.
 */
export type Sink =
  | { readonly kind: "file"; readonly handle: FileSystemFileHandle }
  | { readonly kind: "download"; readonly id: string | null };

/** An opened image, as the page needs it. */
export interface OpenedView {
  readonly inspection: Inspection;
  /** Number of the partition that captures take, or null for the whole disk. */
  readonly partition: number | null;
  /** The filesystem where captures look, or null. */
  readonly volume: string | null;
  /** Bytes of what captures take: the volume, or the partition or disk without one. */
  readonly sourceSize: number;
  /** Why the filesystem there cannot be read, or null. */
  readonly damage: PlainError | null;
}

export interface JobOutcome {
  readonly result: JobResult;
  /** The download, or null where the bytes went to a chosen file. */
  readonly output: Blob | null;
  readonly milliseconds: number;
}

/** Calls the page makes, each with its answer. */
export interface Calls {
  open: {
    args: { file: File; format: "auto" | OutputFormat; partition: number | null };
    answer: OpenedView;
  };
  picture: { args: { cells: number }; answer: AllocationPicture };
  run: { args: { job: JobRequest; sink: Sink }; answer: JobOutcome };
}

export type Call = { [K in keyof Calls]: { readonly op: K } & Calls[K]["args"] }[keyof Calls];

export type ToWorker =
  | { readonly type: "call"; readonly id: number; readonly call: Call }
  /** Answer to a "gate" question; null refuses. */
  | { readonly type: "gate"; readonly id: number; readonly file: File | null };

/** A thrown error as it crosses the thread border. */
export interface PlainError {
  readonly name: string;
  readonly code: string;
  readonly message: string;
}

export type FromWorker =
  | { readonly type: "answer"; readonly id: number; readonly value: Calls[keyof Calls]["answer"] }
  | { readonly type: "error"; readonly id: number; readonly error: PlainError }
  | { readonly type: "progress"; readonly progress: Progress }
  | { readonly type: "gate"; readonly id: number; readonly request: GateRequest };
