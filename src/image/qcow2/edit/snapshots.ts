import { FormatError, IoError, RefusedError, UnsupportedError } from "../../../errors.ts";
import { LIMIT } from "../layout.ts";
import { textOf } from "../text.ts";
import type { ImageEditor } from "./image-editor.ts";
import { countTree, l1Clusters, readL1, renewCopied, shapeOf, shareTree, writeL1 } from "./references.ts";
import {
  newSnapshot,
  parseSnapshots,
  renderSnapshots,
  type SnapshotEntry,
  type SnapshotTable,
} from "./snapshot-table.ts";

export { textOf } from "../text.ts";

/** The snapshots of an image, in the table's order. */
export function listSnapshots(editor: ImageEditor): readonly SnapshotEntry[] {
  return tableOf(editor).list;
}

function tableOf(editor: ImageEditor): SnapshotTable {
  const { count, offset } = editor.snapshots;
  if (count === 0) return { list: [], size: 0 };
  return parseSnapshots(editor.file, offset, count, editor.size);
}

function refuseDataFile(editor: ImageEditor): void {
  if (editor.header.external)
    throw new UnsupportedError(`${editor.label}: no snapshots with a data file`, "ENOTSUP");
}

/**
 * Takes a snapshot of the disk as it is now, and commits. The id is one above the highest there is. Names may be there
 * already. Throws UnsupportedError "ENOTSUP" with a data file, RefcountOverflow where the refcounts are too narrow,
 * IoError "EFBIG" for one snapshot too many.
 */
export function createSnapshot(
  editor: ImageEditor,
  name: Uint8Array,
  time: { readonly seconds: number; readonly nanoseconds: number },
): void {
  refuseDataFile(editor);
  const table = tableOf(editor);
  if (table.list.length >= LIMIT.snapshots)
    throw new IoError("EFBIG", `${editor.label}: ${table.list.length} snapshots, more are not possible`);
  let highest = 0n;
  for (const s of table.list) {
    const id = leadingNumber(textOf(s.id));
    if (id > highest) highest = id;
  }
  shareTree(editor);
  const { l1 } = editor.l2;
  const l1Offset = writeL1(editor, l1);
  const entry = newSnapshot(`${highest + 1n}`, name, l1Offset, l1.length / 2, editor.size, time);
  replaceTable(editor, table, [...table.list, entry]);
  editor.commit();
}

/** strtoul's reading of an id. */
function leadingNumber(id: string): bigint {
  const m = /^[ \t\n\v\f\r]*\+?([0-9]+)/.exec(id);
  if (m === null) return 0n;
  const n = BigInt(m[1]);
  return n < 1n << 64n ? n : (1n << 64n) - 1n;
}

/** Makes `list` the snapshot table; what the entries refer to is the caller's. No commit. */
export function replaceSnapshots(editor: ImageEditor, list: readonly SnapshotEntry[]): void {
  replaceTable(editor, tableOf(editor), list);
}

/** Writes a new table and lets the old one go. */
function replaceTable(editor: ImageEditor, old: SnapshotTable, list: readonly SnapshotEntry[]): void {
  const cs = editor.clusterSize;
  const bytes = renderSnapshots(list);
  if (bytes.length > LIMIT.snapshotTable)
    throw new IoError("EFBIG", `${editor.label}: a snapshot table of ${bytes.length} bytes`);
  if (old.size > 0) editor.freeClusters(editor.snapshots.offset, Math.ceil(old.size / cs));
  let at = 0;
  if (bytes.length > 0) {
    const clusters = Math.ceil(bytes.length / cs);
    at = editor.allocateClusters(clusters);
    const padded = new Uint8Array(clusters * cs);
    padded.set(bytes);
    editor.writeHost(padded, at);
  }
  editor.setSnapshots(list.length, at);
}

/** Removes `snapshot`, which must be one of `listSnapshots`, and commits. */
export function deleteSnapshot(editor: ImageEditor, index: number): void {
  const table = tableOf(editor);
  const snapshot = table.list[index];
  const l1 = readL1(editor, snapshot.l1Offset, snapshot.l1Entries);
  replaceTable(
    editor,
    table,
    table.list.filter((_, i) => i !== index),
  );
  countTree(editor, l1, -1);
  if (l1.length > 0) editor.freeClusters(snapshot.l1Offset, l1Clusters(editor, snapshot.l1Entries));
  renewCopied(editor);
  editor.commit();
}

/**
 * Makes the disk what it was in snapshot `index`, its size too, and commits. The snapshot stays. Throws RefusedError
 * "EBITMAPS" where the image has bitmaps, UnsupportedError "ENOTSUP" with a data file, FormatError where a version 2
 * image would have to change its size.
 */
export function applySnapshot(editor: ImageEditor, index: number): void {
  if (editor.header.bitmaps !== null && editor.header.bitmapsValid)
    throw new RefusedError("EBITMAPS", "Device has active dirty bitmaps");
  refuseDataFile(editor);
  const snapshot = tableOf(editor).list[index];
  if (snapshot.diskSize % 512 !== 0 || snapshot.diskSize > Number.MAX_SAFE_INTEGER)
    throw new FormatError(
      "qcow2 snapshot table",
      editor.snapshots.offset,
      `disk of ${snapshot.diskSize} bytes`,
    );
  const shape = shapeOf(editor);
  const needed = Math.ceil(snapshot.diskSize / shape.clusterSize / shape.perTable);
  const stored = readL1(editor, snapshot.l1Offset, snapshot.l1Entries);
  const { l2 } = editor;
  const entries = Math.max(l2.l1.length / 2, stored.length / 2, needed);
  if (entries * 8 > LIMIT.l1)
    throw new IoError("EFBIG", `${editor.label}: an L1 table of ${entries} entries`);
  editor.touch();
  const l1 = new Uint32Array(entries * 2);
  l1.set(stored);
  l2.flush();
  const before = l2.l1;
  countTree(editor, stored, 1);
  countTree(editor, before, -1);
  l2.replace(l1);
  renewCopied(editor);
  if (snapshot.diskSize !== editor.size) editor.setHeader({ size: snapshot.diskSize });
  editor.commit();
}
