import { ImprintError } from "../../../errors.ts";
import { downgradeImage } from "./downgrade.ts";
import type { ImageEditor } from "./image-editor.ts";
import { changeRefcountWidth } from "./refcount-width.ts";
import { resizeImage } from "./resize.ts";
import { listSnapshots, replaceSnapshots } from "./snapshots.ts";

/** What `amendImage` changes; what is left out stays. */
export interface AmendOptions {
  readonly version?: 2 | 3;
  /** Bytes. */
  readonly size?: number;
  /** Backing file and format: only those that are there. Null stands for none. */
  readonly backingFile?: string | null;
  readonly backingFormat?: string | null;
  readonly lazyRefcounts?: boolean;
  /** Log2 of the bits of a refcount. */
  readonly refcountOrder?: number;
  /** Name of the data file; empty takes it out of the header. */
  readonly dataFile?: string;
  readonly rawDataFile?: boolean;
  /** Percent done. */
  readonly progress?: (percent: number) => void;
}

function refuse(text: string): never {
  throw new ImprintError("EINVAL", text);
}

/**
 * Changes format options of an image, in qemu's order, and commits. Throws ImprintError in qemu's words where something
 * is not possible: the image is then as it was, but where refcounts of another width came before the obstacle.
 */
export async function amendImage(editor: ImageEditor, o: AmendOptions): Promise<void> {
  const { header } = editor;
  const version = o.version ?? header.version;
  const order = o.refcountOrder ?? header.refcountOrder;
  const steps = Number(version !== header.version) + Number(order !== header.refcountOrder);
  let step = 0;
  const progress = (share: number) => o.progress?.(steps === 0 ? 100 : (100 * (step + share)) / steps);
  if (o.dataFile !== undefined && !header.external)
    refuse("data-file can only be set for images that use an external data file");
  if (o.rawDataFile === true && !header.rawDataFile) refuse("data-file-raw cannot be set on existing images");
  if (version > header.version) {
    progress(0);
    upgrade(editor);
    progress(0.5);
    progress(1);
    step++;
  }
  if (order !== header.refcountOrder) {
    if (version < 3 && order !== 4)
      refuse(
        "Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)",
      );
    // After an upgrade native counts from the start again.
    if (step === 0) progress(0);
    const again = step > 0;
    changeRefcountWidth(editor, order, (done, total) =>
      again ? o.progress?.((100 * done) / total) : progress(done / total),
    );
    step++;
  }
  if (o.rawDataFile !== undefined) editor.setHeader({ rawDataFile: o.rawDataFile });
  if (o.dataFile !== undefined) editor.setHeader({ dataFile: o.dataFile === "" ? null : o.dataFile });
  if (
    (o.backingFile !== undefined || o.backingFormat !== undefined) &&
    ((o.backingFile ?? null) !== header.backingFile || (o.backingFormat ?? null) !== header.backingFormat)
  )
    refuse("Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.");
  if (o.lazyRefcounts !== undefined && o.lazyRefcounts !== editor.header.lazyRefcounts) {
    if (o.lazyRefcounts && version < 3)
      refuse(
        "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)",
      );
    editor.setHeader({ lazyRefcounts: o.lazyRefcounts });
  }
  if (o.size !== undefined && o.size !== 0) await resizeImage(editor, o.size, { commit: false });
  if (version < header.version) {
    downgradeImage(editor);
    progress(1);
  }
  editor.commit();
}

/** Version 3 wants the disk's size in every snapshot. */
function upgrade(editor: ImageEditor): void {
  if (editor.header.snapshots > 0) replaceSnapshots(editor, listSnapshots(editor));
  editor.setHeader({ version: 3 });
}
