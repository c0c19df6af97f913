import type { ImageEditor } from "./image-editor.ts";
import { countTable, shapeOf } from "./references.ts";

/**
 * Makes the whole disk unallocated, so that all of it reads from the backing file, and commits. The file becomes as short as
 * it can. Snapshots keep what they hold.
 */
export function emptyImage(editor: ImageEditor): void {
  const { l2, refcounts } = editor;
  const shape = shapeOf(editor);
  const cs = shape.clusterSize;
  const end = Math.ceil(editor.file.size / cs) * cs;
  editor.touch();
  for (let i = 0; i < l2.l1.length / 2; i++) {
    const at = l2.at(i);
    if (at === 0) continue;
    if (!editor.header.external) countTable(editor, shape, l2.get(i)!.words, -1);
    l2.remove(i);
    refcounts.release(at / cs);
    editor.relieve();
  }
  editor.commit();
  // Tables went behind the end as nothing else was free: now there is room.
  for (let last = end; editor.moveTables(refcounts.lowestFree() * cs + 1); ) {
    editor.commit();
    const now = editor.refcounts.end() * cs;
    if (now >= last) break;
    last = now;
  }
  editor.file.cut(editor.refcounts.end() * cs);
}
