import { DATA, HOLE } from "../../bytes/runs.ts";
import { AbortError, ImprintError } from "../../errors.ts";
import type { ExactRules } from "../../image/packer.ts";
import type { Pace } from "../../io/pace.ts";
import type { Source } from "../../io/source.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { type IterationRules, Iterations, SECTOR } from "../copy/iterations.ts";
import { partsOf } from "../copy/plan.ts";
import type { RequestSink } from "./sink.ts";

/** What failed of a conversion, and at which byte of the disk. */
export class RequestError extends ImprintError {
  readonly step: "read" | "write" | "status";
  readonly offset: number;
  constructor(step: "read" | "write" | "status", offset: number, cause: unknown) {
    const what = cause instanceof Error ? cause.message : String(cause);
    super(cause instanceof ImprintError ? cause.code : "EIO", what, { cause });
    this.step = step;
    this.offset = offset;
  }
}

export interface RequestJob {
  readonly source: Source;
  readonly rules: IterationRules;
  /** Null: data are stored as they come, zeros too. */
  readonly exact: ExactRules | null;
  readonly sink: RequestSink;
  readonly pace: Pace;
  /** Called with the bytes of data dealt with so far. */
  readonly onProgress: (done: number) => void;
  /** Unreadable sectors are told to this and taken for zeros. Absent: the error ends the job. */
  readonly onReadError?: (error: unknown, at: number) => void;
}

/**
 * Walks a source as qemu-img convert does and sends its requests to a sink, on this thread; works with any source and
 * sink. Throws RequestError.
 */
export async function copyRequests(job: RequestJob): Promise<void> {
  const { source, rules, sink, exact } = job;
  const kernel = Kernel.get();
  const iterations = new Iterations(partsOf(source), rules);
  const slot = kernel.take(rules.buffer * SECTOR);
  let done = 0;
  try {
    for (;;) {
      const r = atStep(
        "status",
        () => iterations.next(),
        () => (iterations.sector + iterations.count) * SECTOR,
      );
      if (!(typeof r === "boolean" ? r : await r)) return;
      const { sector, state, count } = iterations;
      const at = sector * SECTOR;
      const length = count * SECTOR;
      if (state === HOLE) continue;
      if (state !== DATA && !rules.zerosToo) {
        if (sink.zero !== null) await atStep("write", () => sink.zero!(at, length), at);
      } else {
        const bytes = slot.bytes.subarray(0, length);
        if (state !== DATA) bytes.fill(0);
        else {
          const r = read(job, bytes, at);
          if (r !== null) await r;
        }
        if (exact === null || exact.least === 0) await atStep("write", () => sink.write(bytes, at), at);
        else {
          const pairs = kernel.storedSectors(slot.at, count, sector, exact.least, exact.alignment);
          const runs = kernel.out.slice(0, pairs * 2);
          let next = 0;
          for (let i = 0; i <= pairs; i++) {
            const from = i < pairs ? runs[2 * i] * SECTOR : length;
            if (from > next && sink.zero !== null)
              await atStep("write", () => sink.zero!(at + next, from - next), at + next);
            if (i === pairs) break;
            next = from + runs[2 * i + 1] * SECTOR;
            await atStep("write", () => sink.write(bytes.subarray(from, next), at + from), at + from);
          }
        }
        done += length;
        job.onProgress(done);
      }
      const wait = job.pace.step();
      if (wait !== undefined) await wait;
    }
  } finally {
    kernel.give(slot);
  }
}

/** Runs one step; what fails in it becomes a RequestError at byte `at` of the disk. */
export function atStep<T>(
  step: RequestError["step"],
  work: () => T | Promise<T>,
  at: number | (() => number),
): T | Promise<T> {
  const failed = (error: unknown): never => {
    if (error instanceof AbortError || error instanceof RequestError) throw error;
    throw new RequestError(step, typeof at === "number" ? at : at(), error);
  };
  try {
    const r = work();
    return r instanceof Promise ? r.catch(failed) : r;
  } catch (error) {
    return failed(error);
  }
}

/** Reads [at, at + bytes.length) of the disk; past the end of a source are zeros. */
function read(
  job: Pick<RequestJob, "source" | "onReadError">,
  bytes: Uint8Array,
  at: number,
): Promise<void> | null {
  const failed = (error: unknown): Promise<void> => {
    if (job.onReadError === undefined) throw new RequestError("read", at, error);
    return readSectors(job, bytes, at);
  };
  try {
    const r = job.source.read(bytes, at);
    if (typeof r !== "number")
      return r.then(
        (n) => void bytes.fill(0, n),
        (error) => failed(error),
      );
    bytes.fill(0, r);
    return null;
  } catch (error) {
    return failed(error);
  }
}

/** Reads sector by sector; those that cannot be read are reported and become zeros. */
async function readSectors(
  job: Pick<RequestJob, "source" | "onReadError">,
  bytes: Uint8Array,
  at: number,
): Promise<void> {
  for (let i = 0; i < bytes.length; i += SECTOR) {
    const sector = bytes.subarray(i, i + SECTOR);
    try {
      const r = job.source.read(sector, at + i);
      sector.fill(0, typeof r === "number" ? r : await r);
    } catch (error) {
      job.onReadError!(error, at + i);
      sector.fill(0);
    }
  }
}

export { read as readDisk };
