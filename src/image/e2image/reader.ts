import { DATA, HOLE, MapRuns } from "../../bytes/runs.ts";
import { ExtError } from "../../fs/ext/errors.ts";
import { uuidText } from "../../fs/ext/info.ts";
import { BLOCK_UNINIT, INODE_UNINIT, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE } from "../../fs/ext/layout.ts";
import type { InfoField } from "../../fs/volume.ts";
import type { Source } from "../../io/source.ts";
import type { OpenedImage } from "../format.ts";
import { type E2image, readE2image } from "./image.ts";
import { BLOCK_BITMAP, INODE_BITMAP, Pieces, STORED } from "./pieces.ts";
import { checkedTable, descriptorPlaces } from "./places.ts";

/** Runs in one batch of a map. */
const BATCH = 4096;

/**
 * Opens a normal image of e2image as the volume restricted to what the image holds: superblock, descriptors, inode
 * tables and initialised bitmaps at their own places (what installing it writes), holes elsewhere. Closing leaves
 * `file` open. Errors: see `readE2image`, and ExtError where an inode table lies outside the volume.
 */
export async function openE2image(file: Source): Promise<OpenedImage> {
  const image = await readE2image(file);
  return new MetadataSource(image, await placePieces(image));
}

/** Where each part of the image is on the volume. Where parts overlap, the one that installing writes last wins. */
async function placePieces(image: E2image): Promise<Pieces> {
  const { superblock: sb, sections } = image;
  const { blockSize } = sb;
  const d = image.descriptors();
  const tables = new Pieces();
  const bitmaps = new Pieces();
  const table = sb.inodeBlocks * blockSize;
  for (let group = 0; group < sb.groups; group++) {
    const r = d.load(group);
    if (r instanceof Promise) await r;
    const block = checkedTable(sb, d, group);
    tables.push(block * blockSize, block * blockSize + table, sections.inodeTables + group * table, STORED);
    const flags = sb.groupChecksums ? d.flags(group) : 0;
    const add = (at: number, kind: typeof BLOCK_BITMAP | typeof INODE_BITMAP): void => {
      if (at > 0 && at < sb.blocks)
        bitmaps.push(at * blockSize, (at + 1) * blockSize, group * blockSize, kind);
    };
    if ((flags & BLOCK_UNINIT) === 0) add(d.blockBitmap(group), BLOCK_BITMAP);
    if ((flags & INODE_UNINIT) === 0) add(d.inodeBitmap(group), INODE_BITMAP);
  }
  const all = tables;
  for (let i = 0; i < bitmaps.count; i++)
    all.push(bitmaps.starts[i], bitmaps.ends[i], bitmaps.origins[i], bitmaps.kind(i));
  for (let i = 0; i < sb.descriptorBlocks; i++)
    for (const at of descriptorPlaces(sb, i))
      all.push(at * blockSize, (at + 1) * blockSize, sections.descriptors + i * blockSize, STORED);
  all.push(SUPERBLOCK_OFFSET, SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE, sections.superblock, STORED);
  return all.resolved(sb.blocks * blockSize);
}

class MetadataSource implements OpenedImage {
  readonly format = "e2image";
  readonly size: number;
  readonly label: string;
  private readonly image: E2image;
  private readonly pieces: Pieces;

  constructor(image: E2image, pieces: Pieces) {
    this.image = image;
    this.pieces = pieces;
    this.size = image.superblock.blocks * image.superblock.blockSize;
    this.label = image.file.label;
  }

  info(): InfoField[] {
    const { header } = this.image;
    return [
      { key: "virtualSize", label: "virtual size", value: this.size, unit: "bytes" },
      { key: "hostname", label: "made on host", value: header.hostname },
      { key: "deviceName", label: "made from", value: header.deviceName },
      { key: "time", label: "made at", value: header.time, unit: "time" },
      { key: "uuid", label: "UUID of the volume", value: uuidText(header.uuid, 0) },
      { key: "blockSize", label: "block size", value: header.blockSize, unit: "bytes" },
    ];
  }

  read(into: Uint8Array, at: number): number | Promise<number> {
    const length = Math.max(0, Math.min(into.length, this.size - at));
    if (length === 0) return 0;
    const { pieces } = this;
    let pending: Promise<void> | null = null;
    let done = 0;
    for (let i = pieces.find(at); i < pieces.count && pieces.starts[i] < at + length; i++) {
      const from = Math.max(pieces.starts[i], at) - at;
      const part = into.subarray(from, Math.min(pieces.ends[i], at + length) - at);
      into.fill(0, done, from);
      done = from + part.length;
      if (pending !== null) pending = pending.then(() => this.fill(part, i, at + from));
      else {
        const r = this.fill(part, i, at + from);
        if (r instanceof Promise) pending = r;
      }
    }
    into.fill(0, done, length);
    return pending === null ? length : pending.then(() => length);
  }

  map(from: number, to: number): MapRuns | Promise<MapRuns> {
    const runs = new MapRuns(from);
    return this.mapOn(runs, this.pieces.find(from), Math.min(to, this.size));
  }

  close(): void {}

  /** Bytes of piece `i` from byte `at` of the volume on. */
  private fill(into: Uint8Array, i: number, at: number): void | Promise<void> {
    const { pieces, image } = this;
    const origin = pieces.origins[i] + (at - pieces.starts[i]);
    if (pieces.kinds[i] === STORED) {
      const check = (n: number): void => {
        if (n < into.length)
          throw new ExtError(
            "EXT_SHORT_READ",
            "e2image section",
            origin + n,
            `the image ends at byte ${image.file.size}`,
          );
      };
      const r = image.file.read(into, origin);
      return r instanceof Promise ? r.then(check) : check(r);
    }
    const { blockSize } = image.superblock;
    const kind = pieces.kinds[i] === BLOCK_BITMAP ? "block" : "inode";
    const block = new Uint8Array(blockSize);
    const next = (done: number): void | Promise<void> => {
      while (done < into.length) {
        const group = Math.floor((origin + done) / blockSize);
        const within = (origin + done) % blockSize;
        const n = Math.min(blockSize - within, into.length - done);
        const put = (): void => into.set(block.subarray(within, within + n), done);
        const r = image.bitmapBlock(kind, group, block);
        if (r instanceof Promise)
          return r.then(() => {
            put();
            return next(done + n);
          });
        put();
        done += n;
      }
    };
    return next(0);
  }

  private mapOn(runs: MapRuns, i: number, to: number): MapRuns | Promise<MapRuns> {
    const { pieces, image } = this;
    while (runs.end < to && runs.count < BATCH) {
      while (i < pieces.count && pieces.ends[i] <= runs.end) i++;
      const start = i < pieces.count ? Math.min(pieces.starts[i], to) : to;
      if (start > runs.end) {
        runs.push(start - runs.end, HOLE);
        continue;
      }
      const end = Math.min(pieces.ends[i], to);
      if (pieces.kinds[i] !== STORED) {
        runs.push(end - runs.end, DATA);
        continue;
      }
      // Where the image file has holes, so has the volume.
      const origin = pieces.origins[i] + (runs.end - pieces.starts[i]);
      const r = image.file.map(origin, origin + end - runs.end);
      if (r instanceof Promise)
        return r.then((b) => {
          copyRuns(b, runs, end);
          return this.mapOn(runs, i, to);
        });
      copyRuns(r, runs, end);
    }
    return runs;
  }
}

/** Appends a batch of the image file's map up to byte `end` of the volume. */
function copyRuns(from: MapRuns, runs: MapRuns, end: number): void {
  const before = runs.end;
  for (let k = 0; k < from.count && runs.end < end; k++) {
    const length = Math.min(from.length[k], end - runs.end);
    const plain = from.state[k] === DATA && from.file[k] >= 0;
    runs.push(
      length,
      from.state[k] as 0 | 1 | 2,
      from.depth[k],
      plain ? from.host[k] : -1,
      plain ? from.files[from.file[k]] : null,
    );
  }
  if (runs.end === before) runs.push(end - runs.end, DATA);
}
