import { ExtentList } from "../../bytes/extents.ts";
import { descriptorChecksumOk } from "../../fs/ext/checksum.ts";
import type { Descriptors } from "../../fs/ext/descriptors.ts";
import { ExtError } from "../../fs/ext/errors.ts";
import { BLOCK_UNINIT, INODE_UNINIT } from "../../fs/ext/layout.ts";
import type { Superblock } from "../../fs/ext/superblock.ts";
import type { Source } from "../../io/source.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { setBits } from "./bits.ts";
import type { UninitMarks } from "./uninit-marks.ts";

export type BitmapKind = "block" | "inode";

const BATCH = 256 * 1024;

/**
 * The bitmaps of a volume's groups one after the other, `share` bytes each, as native code holds them in memory:
 * zeros where the group's bitmap is not initialised (and its descriptor's checksum vouches for that) or lies outside
 * the volume, and the layout of groups without a block bitmap set. `emit` gets up to 256 KiB of them at a time, which
 * it may keep until it returns. Throws ExtError where a bitmap cannot be read.
 */
export async function volumeBitmaps(
  source: Source,
  sb: Superblock,
  d: Descriptors,
  kind: BitmapKind,
  share: number,
  marks: UninitMarks,
  emit: (bytes: Uint8Array) => void | Promise<void>,
): Promise<void> {
  const kernel = Kernel.get();
  const perBatch = Math.max(1, Math.floor(BATCH / sb.blockSize));
  const slot = kernel.take(Math.max(BATCH, sb.blockSize));
  const out = new Uint8Array(perBatch * share);
  try {
    for (let group = 0; group < sb.groups; ) {
      const r = d.load(group);
      if (r instanceof Promise) await r;
      const loadEnd = Math.min(sb.groups, (Math.floor(group / d.groupsPerLoad) + 1) * d.groupsPerLoad);
      const most = Math.min(perBatch, loadEnd - group);
      const block = bitmapBlock(sb, d, kind, group);
      let n = 1;
      if (block === 0) {
        while (n < most && bitmapBlock(sb, d, kind, group + n) === 0) n++;
        out.fill(0, 0, n * share);
      } else {
        while (n < most && bitmapBlock(sb, d, kind, group + n) === block + n) n++;
        const bytes = slot.bytes.subarray(0, n * sb.blockSize);
        const got = block * sb.blockSize < source.size ? source.read(bytes, block * sb.blockSize) : 0;
        if ((got instanceof Promise ? await got : got) < bytes.length)
          throw new ExtError(
            kind === "block" ? "EXT_BLOCK_BITMAP_READ" : "EXT_INODE_BITMAP_READ",
            `ext ${kind} bitmap of group ${group}`,
            block * sb.blockSize,
            `the source ends at byte ${source.size}`,
          );
        for (let i = 0; i < n; i++)
          out.set(bytes.subarray(i * sb.blockSize, i * sb.blockSize + share), i * share);
      }
      if (kind === "block") setMarks(sb, marks, out, group, n);
      const e = emit(out.subarray(0, n * share));
      if (e instanceof Promise) await e;
      group += n;
    }
  } finally {
    kernel.give(slot);
  }
}

/** Block a group's bitmap is read from, or 0 where it counts as zeros. */
function bitmapBlock(sb: Superblock, d: Descriptors, kind: BitmapKind, group: number): number {
  const block = kind === "block" ? d.blockBitmap(group) : d.inodeBitmap(group);
  if (block >= sb.blocks) return 0;
  const uninit = kind === "block" ? BLOCK_UNINIT : INODE_UNINIT;
  const known = sb.groupChecksums && (d.flags(group) & uninit) !== 0;
  return known && descriptorChecksumOk(sb, group, d.raw(group)) ? 0 : block;
}

/** Sets the marks that fall into `n` groups from `group` in their bitmaps. */
function setMarks(sb: Superblock, marks: UninitMarks, out: Uint8Array, group: number, n: number): void {
  if (marks.clusters.count === 0) return;
  const first = Math.floor(sb.firstDataBlock / 2 ** sb.clusterBits) + group * sb.clustersPerGroup;
  const found = new ExtentList();
  marks.clusters.runs(first, first + n * sb.clustersPerGroup, found);
  for (let i = 0; i < found.count; i++) setBits(out, found.start(i) - first, found.end(i) - first);
}
