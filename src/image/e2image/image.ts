import { FormatError } from "../../errors.ts";
import { Descriptors } from "../../fs/ext/descriptors.ts";
import { ExtError } from "../../fs/ext/errors.ts";
import { SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE } from "../../fs/ext/layout.ts";
import { parseSuperblock, type Superblock } from "../../fs/ext/superblock.ts";
import type { Source } from "../../io/source.ts";
import { setBits } from "./bits.ts";
import { type Header, parseHeader, probeHeader } from "./header.ts";
import { HEADER_BYTES } from "./layout.ts";
import { type Lengths, lengthsOf, type Sections } from "./sections.ts";
import type { BitmapKind } from "./volume-bitmaps.ts";

/** The parts of a normal image, checked: header, superblock, sections, and the bitmaps as blocks of the volume. */
export class E2image {
  readonly file: Source;
  readonly header: Header;
  /** The volume's superblock, placed where the volume has it. */
  readonly superblock: Superblock;
  readonly sections: Sections;
  readonly lengths: Lengths;
  private readonly inImage: Superblock;

  /** Use readE2image. */
  constructor(file: Source, header: Header, sb: Superblock, lengths: Lengths, sections: Sections) {
    this.file = file;
    this.header = header;
    this.superblock = { ...sb, offset: SUPERBLOCK_OFFSET, backupBlock: 0 };
    this.inImage = { ...sb, firstMetaGroup: sb.descriptorBlocks };
    this.lengths = lengths;
    this.sections = sections;
  }

  /** The group descriptors, read from the image. */
  descriptors(): Descriptors {
    return new Descriptors(this.file, this.inImage);
  }

  /**
   * Fills `into` (a block) with a group's bitmap as it is on a volume: what does not stand for a cluster or inode of
   * the group is set.
   */
  bitmapBlock(kind: BitmapKind, group: number, into: Uint8Array): void | Promise<void> {
    const { sections, lengths } = this;
    const share = kind === "block" ? lengths.groupBlockBits : lengths.groupInodeBits;
    const at = (kind === "block" ? sections.blockBitmap : sections.inodeBitmap) + group * share;
    const r = this.file.read(into.subarray(0, share), at);
    if (r instanceof Promise) return r.then((n) => this.pad(kind, group, into, share, at, n));
    this.pad(kind, group, into, share, at, r);
  }

  private pad(kind: BitmapKind, group: number, into: Uint8Array, share: number, at: number, n: number): void {
    if (n < share) throw shortOf(this.file, `e2image ${kind} bitmap`, at + n);
    into.fill(0xff, share);
    if (kind !== "block") return;
    const sb = this.superblock;
    const lastBlocks = (sb.blocks - sb.firstDataBlock) % sb.blocksPerGroup;
    if (group === sb.groups - 1 && lastBlocks > 0)
      setBits(into, Math.ceil(lastBlocks / 2 ** sb.clusterBits), into.length * 8);
  }
}

/**
 * Reads and checks what an image says of itself. Throws ExtError with e2fsprogs' words where header or superblock are
 * not what they must be or the file ends early, FormatError("E2IMAGE_SECTION") where the header's sections cannot be.
 */
export async function readE2image(file: Source): Promise<E2image> {
  const head = await readPart(file, "e2image header", 0, HEADER_BYTES);
  if (!probeHeader(head)) throw new ExtError("EXT_IMAGE_MAGIC", "e2image header", 0, "no magic number");
  const header = parseHeader(head);
  const { blockSize } = header;
  if (blockSize === 0) throw new ExtError("EXT_INVALID_ARGUMENT", "e2image header", 0, "a block size of 0");
  const raw = await readPart(file, "e2image superblock", blockSize, SUPERBLOCK_SIZE);
  const sb = parseSuperblock(raw, blockSize, 1, blockSize);
  const lengths = lengthsOf(sb);
  const sections = placed(header, sb, lengths);
  if (sections.inodeTables > file.size)
    throw shortOf(file, "e2image group descriptors", sections.descriptors);
  if (sections.size > file.size) {
    const what = sections.blockBitmap >= file.size ? "e2image inode tables" : "e2image bitmaps";
    throw shortOf(file, what, file.size).during("error reading bitmaps");
  }
  return new E2image(file, header, sb, lengths, sections);
}

/** The header's sections, which must follow each other without overlapping. */
function placed(header: Header, sb: Superblock, lengths: Lengths): Sections {
  const bad = (detail: string) => new FormatError("e2image header", 0, detail, "E2IMAGE_SECTION");
  const { superblock, inodeTables, blockBitmap, inodeBitmap } = header.sections;
  const parts: readonly (readonly [name: string, at: number, length: number])[] = [
    ["header", 0, sb.blockSize],
    ["superblock", superblock, sb.blockSize + lengths.descriptors],
    ["inode tables", inodeTables, lengths.inodeTables],
    ["block bitmap", blockBitmap, lengths.blockBitmap],
    ["inode bitmap", inodeBitmap, lengths.inodeBitmap],
  ];
  let end = 0;
  for (const [name, at, length] of parts) {
    if (at % sb.blockSize !== 0) throw bad(`${name} at byte ${at}, not at a block of ${sb.blockSize}`);
    if (at < end)
      throw bad(`${name} at byte ${at}, before what precedes ends at ${end} (does the image exceed 4 GiB?)`);
    end = at + length;
  }
  if (superblock !== sb.blockSize) throw bad(`superblock at byte ${superblock} instead of ${sb.blockSize}`);
  return { superblock, descriptors: 2 * sb.blockSize, inodeTables, blockBitmap, inodeBitmap, size: end };
}

function shortOf(file: Source, what: string, at: number): ExtError {
  return new ExtError("EXT_SHORT_READ", what, at, `the image ends at byte ${file.size}`);
}

async function readPart(file: Source, what: string, at: number, length: number): Promise<Uint8Array> {
  const b = new Uint8Array(length);
  const r = at < file.size ? file.read(b, at) : 0;
  const n = r instanceof Promise ? await r : r;
  if (n < length) throw shortOf(file, what, at);
  return b;
}
