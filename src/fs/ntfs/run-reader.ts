import type { Source } from "../../io/source.ts";
import { NtfsError } from "./errors.ts";
import { HOLE_LCN, RUN, type Runs, runOf } from "./runlist.ts";

/**
 * Fills `into` from byte `at` of what `runs` map; holes read as zeros. Answers synchronously where the source does.
 * Throws NTFS_BAD_STREAM past the last run, NTFS_SHORT_READ past the end of the source, and what the source throws.
 */
export function readRuns(
  source: Source,
  clusterSize: number,
  runs: Runs,
  into: Uint8Array,
  at: number,
  structure: string,
): void | Promise<void> {
  let done = 0;
  let i = runOf(runs, Math.floor(at / clusterSize));
  while (done < into.length) {
    const vcn = i >= 0 && i < runs.length ? runs[i] : -1;
    const offset = at + done - vcn * clusterSize;
    if (vcn < 0 || offset < 0)
      throw new NtfsError("NTFS_BAD_STREAM", structure, -1, `byte ${at + done} is not mapped`);
    const n = Math.min(into.length - done, runs[i + 2] * clusterSize - offset);
    const piece = into.subarray(done, done + n);
    done += n;
    const lcn = runs[i + 1];
    i += RUN;
    if (lcn === HOLE_LCN) {
      piece.fill(0);
      continue;
    }
    const from = lcn * clusterSize + offset;
    const r = from < source.size ? source.read(piece, from) : 0;
    if (r instanceof Promise) {
      const rest = into.subarray(done);
      const next = at + done;
      return r.then((got) => {
        checkLength(source, got, n, from, structure);
        if (rest.length > 0) return readRuns(source, clusterSize, runs, rest, next, structure);
      });
    }
    checkLength(source, r, n, from, structure);
  }
}

function checkLength(source: Source, got: number, wanted: number, at: number, structure: string): void {
  if (got < wanted)
    throw new NtfsError("NTFS_SHORT_READ", structure, at + got, `the source ends at byte ${source.size}`);
}
