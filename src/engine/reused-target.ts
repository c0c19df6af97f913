import { DATA } from "../bytes/runs.ts";
import type { Pace } from "../io/pace.ts";
import type { Source } from "../io/source.ts";
import type { Target } from "../io/target.ts";
import type { LayoutSpec } from "./copy/spec.ts";
import { zeroRange } from "./paced-target.ts";

/**
 * Clears a target that held something before a QCOW2 goes onto it: packers write the parts of tables that are in use
 * and count on zeros around them. As many bytes as the image can need are cleared, before anything is written.
 */
export async function clearForTables(
  source: Source,
  target: Target,
  layout: LayoutSpec,
  pace: Pace,
): Promise<void> {
  if (layout.kind === "raw" || target.fresh) return;
  const needed = mostBytes(layout, await touched(source, layout.clusterSize));
  await zeroRange(target, 0, Math.min(target.capacity, needed), pace);
}

/** Clusters that hold stored bytes of the source; an upper bound. */
async function touched(source: Source, clusterSize: number): Promise<number> {
  let clusters = 0;
  for (let from = 0; from < source.size; ) {
    const r = source.map(from, source.size);
    const b = r instanceof Promise ? await r : r;
    for (let i = 0; i < b.count; i++) {
      if (b.state[i] !== DATA) continue;
      const first = Math.floor(b.at[i] / clusterSize);
      clusters += Math.ceil((b.at[i] + b.length[i]) / clusterSize) - first;
    }
    if (b.end <= from) break;
    from = b.end;
  }
  return clusters;
}

/** An upper bound for the size of an image with `data` data clusters, bytes. */
function mostBytes(layout: Exclude<LayoutSpec, { kind: "raw" }>, data: number): number {
  const cs = layout.clusterSize;
  const l1 = Math.ceil(Math.ceil(layout.guestSize / cs) / (cs / 8));
  const tables = Math.min(l1, data) + Math.ceil((l1 * 8) / cs);
  const counted = data + tables;
  const order = layout.kind === "qemu" ? layout.refcountOrder : 4;
  const refcountBlocks = Math.ceil((counted * 1.05) / ((cs * 8) / 2 ** order)) + 2;
  const marks = layout.kind === "e2image" ? layout.marks : 0;
  const refcountTable = Math.ceil((marks + counted) / (cs * 32)) + Math.ceil((refcountBlocks * 8) / cs);
  return (counted + refcountBlocks + refcountTable + 16) * cs;
}
