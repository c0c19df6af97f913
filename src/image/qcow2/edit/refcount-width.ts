import { ImprintError } from "../../../errors.ts";
import type { ImageEditor } from "./image-editor.ts";
import { Refcounts } from "./refcounts.ts";

/**
 * Rewrites the refcounts with 2^order bits each (version 3), as part of the current transaction. `progress` gets steps
 * done and in all: two for each entry of the refcount table, as qemu counts. Throws ImprintError "EINVAL" in qemu's
 * words where a count is too large for the new width: the editor must be closed then.
 */
export function changeRefcountWidth(
  editor: ImageEditor,
  order: number,
  progress: (done: number, total: number) => void = () => {},
): void {
  if (order === editor.header.refcountOrder) return;
  // The old counts are read while the new ones come into being: nothing may be pending in them.
  editor.commit();
  const old = editor.refcounts;
  const cs = editor.clusterSize;
  const next = Refcounts.empty(editor.file, cs, order, old.end());
  const steps = (2 * old.place.clusters * cs) / 8;
  let step = 0;
  const upTo = (end: number) => {
    while (step < end) progress(++step, steps);
  };
  for (const { first, bytes } of old.storedBlocks()) {
    for (let i = 0; i < old.perBlock; i++) {
      const count = old.countIn(bytes, i);
      if (count === 0) continue;
      if (count > next.most)
        throw new ImprintError(
          "EINVAL",
          `Cannot decrease refcount entry width to ${2 ** order} bits: Cluster at offset 0x${((first + i) * cs).toString(16)} has a refcount of ${count}`,
        );
      next.set(first + i, count);
    }
    if (next.crowded) next.spill();
    upTo(Math.min(first / old.perBlock, steps / 2));
  }
  editor.replaceRefcounts(next);
  for (const at of old.blockOffsets()) next.release(at / cs);
  next.release(old.place.at / cs, old.place.clusters);
  upTo(steps);
  editor.setHeader({ refcountOrder: order });
}
