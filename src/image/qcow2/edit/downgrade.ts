import { u64be } from "../../../bytes/endian.ts";
import { FormatError, ImprintError } from "../../../errors.ts";
import { COMPRESSED_HIGH, COPIED_HIGH, INCOMPATIBLE, SNAPSHOT_EXTRA, ZERO_LOW } from "../layout.ts";
import type { ImageEditor } from "./image-editor.ts";
import { removeBitmaps } from "./kept-bitmaps.ts";
import { offsetOf } from "./l2-cache.ts";
import { l1Clusters, readL1, shapeOf, writeL1 } from "./references.ts";
import { listSnapshots, replaceSnapshots } from "./snapshots.ts";

/**
 * Makes a version 3 image one of version 2, as part of the current transaction: what version 2 cannot say is expressed
 * otherwise (zero clusters: unallocated, or clusters of zeros over a backing file) or removed (bitmaps, lazy
 * refcounts). Throws ImprintError "ENOTSUP" in qemu's words where that cannot be done.
 */
export function downgradeImage(editor: ImageEditor): void {
  const { header } = editor;
  const fail = (text: string): never => {
    throw new ImprintError("ENOTSUP", text);
  };
  if (header.refcountOrder !== 4) fail("compat=0.10 requires refcount_bits=16");
  if (header.external) fail("Cannot downgrade an image with a data file");
  for (const s of listSnapshots(editor))
    if (u64be(s.extra, SNAPSHOT_EXTRA.vmStateSize) > 0xffffffff || s.diskSize !== editor.size)
      fail("Internal snapshots prevent downgrade of image");
  if (header.extendedL2)
    fail(
      `Cannot downgrade an image with incompatible features 0x${(1 << INCOMPATIBLE.extendedL2).toString(16)} set`,
    );
  if (header.compressionType !== 0) {
    if (hasCompressed(editor))
      fail("Cannot downgrade an image with zstd compression type and existing compressed clusters");
    editor.setHeader({ compressionType: 0 });
  }
  editor.forgetBitmaps();
  removeBitmaps(editor);
  new ZeroExpansion(editor).run();
  editor.setHeader({ version: 2 });
}

/** True where an L2 table, also of a snapshot, has a compressed cluster. */
function hasCompressed(editor: ImageEditor): boolean {
  const seen = new Set<number>();
  const { l2 } = editor;
  const tables = [l2.l1, ...listSnapshots(editor).map((s) => readL1(editor, s.l1Offset, s.l1Entries))];
  l2.flush();
  for (const l1 of tables)
    for (let i = 0; i < l1.length; i += 2) {
      const at = offsetOf(l1[i], l1[i + 1]);
      if (at === 0 || seen.has(at)) continue;
      seen.add(at);
      const words = l2.load(i / 2, at);
      for (let p = 0; p < words.length; p += 2) if (words[p] & COMPRESSED_HIGH) return true;
    }
  return false;
}

/** Replaces zero clusters in all L2 tables. A table that several L1 tables share is made once and stays shared. */
class ZeroExpansion {
  private readonly editor: ImageEditor;
  private readonly cs: number;
  /** Old places of tables that had to be made anew, to new ones. */
  private readonly moved = new Map<number, number>();
  /** Places of tables that stay. */
  private readonly kept = new Set<number>();
  private readonly zeros: Uint8Array;

  constructor(editor: ImageEditor) {
    this.editor = editor;
    this.cs = editor.clusterSize;
    this.zeros = new Uint8Array(this.cs);
  }

  run(): void {
    const { editor } = this;
    const { l2 } = editor;
    l2.flush();
    for (let i = 0; i < l2.l1.length / 2; i++) {
      const at = l2.at(i);
      if (at === 0) continue;
      if (editor.refcounts.get(at / this.cs) === 1) this.expandOwn(i);
      else {
        const to = this.shared(i, at);
        if (to !== at) l2.redirect(i, to);
      }
      editor.relieve();
    }
    let changed = false;
    const list = listSnapshots(editor).map((s) => {
      const l1 = readL1(editor, s.l1Offset, s.l1Entries);
      let any = false;
      for (let i = 0; i < l1.length / 2; i++) {
        const at = offsetOf(l1[2 * i], l1[2 * i + 1]);
        if (at === 0) continue;
        const to = this.shared(i, at);
        if (to === at) continue;
        l1[2 * i] = Math.floor(to / 0x100000000);
        l1[2 * i + 1] = to % 0x100000000;
        any = true;
        editor.relieve();
      }
      if (!any) return s;
      changed = true;
      if (s.l1Entries > 0) editor.freeClusters(s.l1Offset, l1Clusters(editor, s.l1Entries));
      return { ...s, l1Offset: writeL1(editor, l1) };
    });
    if (changed) replaceSnapshots(editor, list);
  }

  private isZero(words: Uint32Array, p: number): boolean {
    return (words[p] & COMPRESSED_HIGH) === 0 && (words[p + 1] & ZERO_LOW) !== 0;
  }

  /** A table of the active tree alone. */
  private expandOwn(i: number): void {
    const { l2 } = this.editor;
    let { words } = l2.get(i)!;
    for (let p = 0; p < words.length; p += 2) {
      if (!this.isZero(words, p)) continue;
      words = l2.own(i).words;
      this.expand(words, p, this.guestOf(i, p), 1);
    }
  }

  /** The place of a table that several may refer to, made anew where it has zero clusters. */
  private shared(i: number, at: number): number {
    const known = this.moved.get(at);
    if (known !== undefined) return known;
    if (this.kept.has(at)) return at;
    const { editor, cs } = this;
    const words = editor.l2.load(i, at);
    const references = editor.refcounts.get(at / cs);
    if (references === 0) throw new FormatError("qcow2 L2 table", at, "has the refcount 0");
    let any = false;
    for (let p = 0; p < words.length; p += 2) {
      if (!this.isZero(words, p)) continue;
      this.expand(words, p, this.guestOf(i, p), references);
      any = true;
    }
    if (!any) {
      this.kept.add(at);
      return at;
    }
    const to = editor.allocateClusters(1);
    editor.refcounts.set(to / cs, references);
    for (let k = 0; k < references; k++) editor.freeClusters(at, 1);
    editor.writeTable(words, to);
    this.moved.set(at, to);
    this.kept.add(to);
    return to;
  }

  private guestOf(i: number, p: number): number {
    return (i * shapeOf(this.editor).perTable + p / 2) * this.cs;
  }

  /** Replaces one entry, to which `references` L1 tables lead. */
  private expand(words: Uint32Array, p: number, guest: number, references: number): void {
    const { editor, cs } = this;
    const host = offsetOf(words[p], words[p + 1]);
    for (let k = 0; host !== 0 && k < references; k++) editor.freeClusters(host, 1);
    words[p] = 0;
    words[p + 1] = 0;
    if (guest >= Math.min(editor.below, editor.size)) return;
    const at = editor.allocateClusters(1);
    editor.writeHost(this.zeros, at);
    if (references > 1) editor.refcounts.set(at / cs, references);
    const high = Math.floor(at / 0x100000000);
    words[p] = (references === 1 ? high | COPIED_HIGH : high) >>> 0;
    words[p + 1] = at % 0x100000000;
  }
}
