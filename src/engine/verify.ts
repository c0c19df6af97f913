import { DATA, MapRuns } from "../bytes/runs.ts";
import { ImprintError, UnsupportedError } from "../errors.ts";
import { openQcow2 } from "../image/qcow2/reader.ts";
import { slice } from "../io/slice.ts";
import type { Source } from "../io/source.ts";
import type { Target } from "../io/target.ts";
import { compare } from "./compare.ts";
import type { BulkComparer } from "./compare-pieces.ts";
import type { LayoutSpec } from "./copy/spec.ts";
import { refuseGate } from "./open.ts";

/**
 * An output under way, read back as a source of `size` bytes; bytes past its end so far are zeros. `placed`: its map
 * says where they lie in the host file, which may be shorter than the source.
 */
export function sourceOfTarget(target: Target, size: number, placed = false): Source {
  const file = (placed && target.host) || null;
  return {
    size,
    label: target.label,
    ...(file === null ? {} : { plain: { file, base: 0 } }),
    read(into, at) {
      if (target.read === undefined) throw new UnsupportedError(`${target.label}: cannot be read back`);
      const want = Math.max(0, Math.min(into.length, size - at));
      const fill = (n: number): number => {
        into.fill(0, n, want);
        return want;
      };
      const r = target.read(into.subarray(0, want), at);
      return r instanceof Promise ? r.then(fill) : fill(r);
    },
    map(from, to) {
      const runs = new MapRuns(from);
      runs.push(Math.min(to, size) - from, DATA, 0, file === null ? -1 : from, file);
      return runs;
    },
    close() {},
  };
}

export interface VerifyOptions {
  readonly onProgress: (done: number) => void;
  /** The output kept its old bytes wherever the source stores nothing: only what was stored is compared. */
  readonly storedOnly: boolean;
  readonly comparer?: BulkComparer | undefined;
}

/**
 * Reads an output back and compares it with what went in; throws ImprintError("EVERIFY") naming the first difference.
 */
export async function verifyOutput(
  source: Source,
  output: Source,
  layout: LayoutSpec,
  options: VerifyOptions,
): Promise<void> {
  const inside =
    layout.kind === "raw"
      ? slice(output, layout.offset, layout.guestSize)
      : await openQcow2(output, refuseGate);
  if (inside.size !== layout.guestSize)
    throw new ImprintError(
      "EVERIFY",
      `${output.label}: verification failed, holds ${inside.size} bytes instead of ${layout.guestSize}`,
    );
  const { onProgress, storedOnly, comparer } = options;
  const r = await compare(source, inside, {
    storedOnly,
    onProgress: (p) => onProgress(p.done),
    ...(comparer === undefined ? {} : { comparer }),
  });
  if (!r.identical)
    throw new ImprintError(
      "EVERIFY",
      `${output.label}: verification failed, byte ${r.offset} differs from the source`,
    );
}
