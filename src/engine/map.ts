import type { MapRuns } from "../bytes/runs.ts";
import type { Source } from "../io/source.ts";

/** Batches of a source's allocation map, ascending, from byte `from` to byte `to` (the whole source by default). */
export async function* mapRuns(
  source: Source,
  from = 0,
  to = source.size,
): AsyncGenerator<MapRuns, void, void> {
  while (from < to) {
    const r = source.map(from, to);
    const batch = r instanceof Promise ? await r : r;
    if (batch.end <= from) return;
    yield batch;
    from = batch.end;
  }
}
