import { u16le } from "../../bytes/endian.ts";
import type { Source } from "../../io/source.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { groupEndBlock, groupFirstBlock } from "./backups.ts";
import { type Checksums, descriptorChecksumOk } from "./checksum.ts";
import type { Descriptors } from "./descriptors.ts";
import { BLOCK_UNINIT, GD } from "./layout.ts";
import type { Marker } from "./marker.ts";
import type { Superblock } from "./superblock.ts";

const BATCH = 256 * 1024;

/**
 * Adds what the block bitmaps of groups [from, to) say is in use; their descriptors must be loaded. Groups
 * whose bitmap is not initialised add nothing (their layout is added elsewhere). Where a bitmap cannot be
 * trusted (outside the volume or source, wrong checksum) the whole group is taken and a warning says so.
 */
export async function addAllocated(
  source: Source,
  sb: Superblock,
  d: Descriptors,
  checksums: Checksums | null,
  marker: Marker,
  from: number,
  to: number,
): Promise<void> {
  const kernel = Kernel.get();
  const perBatch = Math.max(1, Math.floor(BATCH / sb.blockSize));
  const slot = kernel.take(Math.max(BATCH, sb.blockSize));
  try {
    for (let group = from; group < to; ) {
      if (sb.groupChecksums && (d.flags(group) & BLOCK_UNINIT) !== 0) {
        if (!descriptorChecksumOk(sb, group, d.raw(group)))
          takeWhole(sb, marker, group, "is called unused by a descriptor with a wrong checksum");
        group++;
        continue;
      }
      const block = d.blockBitmap(group);
      let n = 1;
      while (
        n < perBatch &&
        group + n < to &&
        d.blockBitmap(group + n) === block + n &&
        !(sb.groupChecksums && (d.flags(group + n) & BLOCK_UNINIT) !== 0)
      )
        n++;
      const inside = block >= sb.firstDataBlock && block + n <= sb.blocks && block !== 0;
      let got = 0;
      if (inside && block * sb.blockSize < source.size) {
        const r = source.read(slot.bytes.subarray(0, n * sb.blockSize), block * sb.blockSize);
        got = r instanceof Promise ? await r : r;
      }
      for (let i = 0; i < n; i++, group++) {
        if ((i + 1) * sb.blockSize > got) takeWhole(sb, marker, group, "cannot be read");
        else addGroup(sb, d, checksums, marker, group, slot.at + i * sb.blockSize);
      }
    }
  } finally {
    kernel.give(slot);
  }
}

function takeWhole(sb: Superblock, marker: Marker, group: number, why: string): void {
  marker.warn(`group ${group}: its block bitmap ${why}; the whole group is taken`);
  marker.extra(groupFirstBlock(sb, group), groupEndBlock(sb, group), "data");
}

function addGroup(
  sb: Superblock,
  d: Descriptors,
  checksums: Checksums | null,
  marker: Marker,
  group: number,
  at: number,
): void {
  const kernel = Kernel.get();
  const first = groupFirstBlock(sb, group);
  const end = groupEndBlock(sb, group);
  const unit = 2 ** sb.clusterBits;
  const bits = Math.min(sb.clustersPerGroup, sb.blockSize * 8);
  const used = Math.min(bits, Math.ceil((end - first) / unit));
  if (checksums !== null) {
    const raw = d.raw(group);
    let sum = kernel.crc32c(checksums.seed, at, Math.floor(sb.clustersPerGroup / 8));
    let want = u16le(raw, GD.blockBitmapChecksum);
    if (sb.descriptorSize >= 64) want += u16le(raw, GD.blockBitmapChecksumHigh) * 0x10000;
    else sum &= 0xffff;
    if (sum !== want) {
      takeWhole(sb, marker, group, "has a wrong checksum");
      return;
    }
  }
  for (let bit = 0; bit < used; ) {
    const n = kernel.setRuns(at, bit, used);
    if (n === 0) break;
    const { out } = kernel;
    for (let i = 0; i < n; i++) {
      const start = first + out[2 * i] * unit;
      marker.extra(start, Math.min(start + out[2 * i + 1] * unit, end), "data");
    }
    bit = out[2 * n - 2] + out[2 * n - 1];
  }
}
