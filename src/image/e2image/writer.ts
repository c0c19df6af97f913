import { AbortError } from "../../errors.ts";
import { Descriptors } from "../../fs/ext/descriptors.ts";
import { ExtError } from "../../fs/ext/errors.ts";
import { SB, SUPERBLOCK_SIZE } from "../../fs/ext/layout.ts";
import type { Superblock } from "../../fs/ext/superblock.ts";
import { Pace } from "../../io/pace.ts";
import type { Source } from "../../io/source.ts";
import type { Target } from "../../io/target.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { encodeHeader, type Origin } from "./header.ts";
import { UUID_BYTES } from "./layout.ts";
import { checkedTable } from "./places.ts";
import { lengthsOf, type Sections, sectionsOf } from "./sections.ts";
import { UninitMarks } from "./uninit-marks.ts";
import { type BitmapKind, volumeBitmaps } from "./volume-bitmaps.ts";

const CHUNK = 512 * 1024;

/** Options of `writeE2image`. */
export interface E2imageOptions {
  readonly origin: Origin;
  readonly signal?: AbortSignal;
  /** What is being done, in e2fsprogs' words ("while writing inode table"), before it is. */
  readonly onStep?: (doing: string) => void;
}

/**
 * Writes the normal image of an ext volume: superblock, descriptors, whole inode tables, bitmaps; no directories, no
 * file maps, so that it survives volumes whose trees are broken. Zero blocks of inode tables are left out where the
 * target reads them as zeros. Does not commit; returns the image's size in bytes. Throws, before anything is written:
 * UnsupportedError where a section would lie beyond 4 GiB, ExtError where a group has no inode table or one outside
 * the volume. ExtError and IoError where the source cannot be read, AbortError.
 */
export async function writeE2image(
  source: Source,
  sb: Superblock,
  target: Target,
  options: E2imageOptions,
): Promise<number> {
  return new Writer(source, sb, target, options).run();
}

class Writer {
  private readonly source: Source;
  private readonly sb: Superblock;
  private readonly target: Target;
  private readonly options: E2imageOptions;
  private readonly sections: Sections;
  private readonly descriptors: Descriptors;
  private readonly marks: UninitMarks;
  private readonly pace: Pace;

  constructor(source: Source, sb: Superblock, target: Target, options: E2imageOptions) {
    this.source = source;
    this.sb = sb;
    this.target = target;
    this.options = options;
    this.sections = sectionsOf(sb);
    this.descriptors = new Descriptors(source, sb);
    this.marks = new UninitMarks(sb);
    this.pace = new Pace(() => {
      if (options.signal?.aborted) throw new AbortError();
    });
  }

  async run(): Promise<number> {
    const { sb, sections, target } = this;
    this.step("while writing inode table");
    await this.survey();
    const header = encodeHeader({
      ...this.options.origin,
      uuid: sb.raw.subarray(SB.uuid, SB.uuid + UUID_BYTES),
      blockSize: sb.blockSize,
      sections: {
        superblock: sections.superblock,
        inodeTables: sections.inodeTables,
        blockBitmap: sections.blockBitmap,
        inodeBitmap: sections.inodeBitmap,
      },
    });
    // What is half-made must not look like an image: its header comes last where the target lets it.
    if (target.seekable) await this.zero(0, sb.blockSize);
    else await target.write(header, 0);
    this.step("while writing superblock");
    await this.superblock();
    this.step("while writing inode table");
    await this.inodeTables();
    const lengths = lengthsOf(sb);
    this.step("while writing block bitmap");
    await this.bitmap("block", sections.blockBitmap, lengths.groupBlockBits, sections.inodeBitmap);
    this.step("while writing inode bitmap");
    await this.bitmap("inode", sections.inodeBitmap, lengths.groupInodeBits, sections.size);
    this.step("");
    if (target.seekable) await target.write(header, 0);
    return sections.size;
  }

  /** Looks at every descriptor before anything is written. */
  private async survey(): Promise<void> {
    const { sb, descriptors: d } = this;
    for (let group = 0; group < sb.groups; group++) {
      const r = d.load(group);
      if (r instanceof Promise) await r;
      checkedTable(sb, d, group);
      this.marks.addGroup(d, group);
    }
  }

  private async superblock(): Promise<void> {
    const { sb, sections, target, descriptors: d } = this;
    const block = new Uint8Array(sb.blockSize);
    block.set(sb.raw.subarray(0, SUPERBLOCK_SIZE));
    await target.write(block, sections.superblock);
    let to = sections.descriptors;
    for (let i = 0; i < sb.descriptorBlocks; ) {
      const first = d.blockOf(i);
      const most = Math.max(1, Math.floor(CHUNK / sb.blockSize));
      let n = 1;
      while (n < most && i + n < sb.descriptorBlocks && d.blockOf(i + n) === first + n) n++;
      const bytes = new Uint8Array(n * sb.blockSize);
      await this.read(bytes, first, "ext group descriptors");
      await target.write(bytes, to);
      to += bytes.length;
      i += n;
    }
  }

  private async inodeTables(): Promise<void> {
    const { sb, descriptors: d } = this;
    const most = Math.max(1, Math.floor(CHUNK / sb.blockSize));
    const kernel = Kernel.get();
    const slot = kernel.take(most * sb.blockSize);
    let to = this.sections.inodeTables;
    // Tables that touch are read as one.
    let first = 0;
    let count = 0;
    const flush = async (): Promise<void> => {
      for (let done = 0; done < count; ) {
        const n = Math.min(most, count - done);
        const bytes = slot.bytes.subarray(0, n * sb.blockSize);
        await this.read(bytes, first + done, "ext inode table");
        await this.put(bytes, slot.at, n, to);
        done += n;
        to += bytes.length;
      }
    };
    try {
      for (let group = 0; group < sb.groups; group++) {
        const r = d.load(group);
        if (r instanceof Promise) await r;
        const table = d.inodeTable(group);
        if (count > 0 && table === first + count) {
          count += sb.inodeBlocks;
          continue;
        }
        await flush();
        first = table;
        count = sb.inodeBlocks;
      }
      await flush();
    } finally {
      kernel.give(slot);
    }
  }

  /** Writes the blocks of `bytes` (at `at` of the kernel's memory) that are not zero, and makes the others read so. */
  private async put(bytes: Uint8Array, at: number, blocks: number, to: number): Promise<void> {
    const { blockSize } = this.sb;
    const kernel = Kernel.get();
    const pairs = kernel.nonzeroRuns(at, blockSize, blocks);
    const runs = kernel.out.slice(0, 2 * pairs);
    let end = 0;
    for (let i = 0; i < pairs; i++) {
      const start = runs[2 * i] * blockSize;
      await this.zero(to + end, start - end);
      end = start + runs[2 * i + 1] * blockSize;
      const w = this.target.write(bytes.subarray(start, end), to + start);
      if (w instanceof Promise) await w;
    }
    await this.zero(to + end, bytes.length - end);
  }

  /** A bitmap section, padded with zeros up to `end`. */
  private async bitmap(kind: BitmapKind, at: number, share: number, end: number): Promise<void> {
    await volumeBitmaps(this.source, this.sb, this.descriptors, kind, share, this.marks, async (bytes) => {
      await this.target.write(bytes, at);
      at += bytes.length;
      await this.pace.step();
    });
    await this.zero(at, end - at);
  }

  private zero(at: number, length: number): void | Promise<void> {
    if (length > 0 && !this.target.fresh) return this.target.zero(at, length);
  }

  private async read(into: Uint8Array, block: number, what: string): Promise<void> {
    const wait = this.pace.step();
    if (wait !== undefined) await wait;
    const at = block * this.sb.blockSize;
    const r = at < this.source.size ? this.source.read(into, at) : 0;
    const n = r instanceof Promise ? await r : r;
    if (n < into.length)
      throw new ExtError("EXT_SHORT_READ", what, at + n, `the source ends at byte ${this.source.size}`);
  }

  private step(doing: string): void {
    this.options.onStep?.(doing);
  }
}
