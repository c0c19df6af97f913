import type { ImageEditor } from "./image-editor.ts";
import { dropTables } from "./references.ts";

/**
 * Makes the whole disk unallocated, so that all of it reads from the backing file, and commits. The file becomes as
 * short as it can. Snapshots keep what they hold.
 */
export function emptyImage(editor: ImageEditor): void {
  const { refcounts } = editor;
  const cs = editor.clusterSize;
  const end = Math.ceil(editor.file.size / cs) * cs;
  editor.touch();
  dropTables(editor, 0);
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
