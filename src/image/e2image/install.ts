import { putU16le, putU32le, u16le, u32le } from "../../bytes/endian.ts";
import { DATA } from "../../bytes/runs.ts";
import { AbortError, ImprintError, RefusedError } from "../../errors.ts";
import { groupFirstBlock, groupHasSuper } from "../../fs/ext/backups.ts";
import { Checksums, descriptorChecksum } from "../../fs/ext/checksum.ts";
import type { Descriptors } from "../../fs/ext/descriptors.ts";
import { uuidText } from "../../fs/ext/info.ts";
import {
  BLOCK_UNINIT,
  EXT_MAGIC,
  GD,
  INODE_UNINIT,
  SB,
  SUPERBLOCK_OFFSET,
  SUPERBLOCK_SIZE,
} from "../../fs/ext/layout.ts";
import type { Superblock } from "../../fs/ext/superblock.ts";
import { Pace } from "../../io/pace.ts";
import type { Target } from "../../io/target.ts";
import { Kernel } from "../../kernel/kernel.ts";
import type { E2image } from "./image.ts";
import { UUID_BYTES } from "./layout.ts";
import { checkedTable, descriptorPlaces } from "./places.ts";
import type { BitmapKind } from "./volume-bitmaps.ts";

const CHUNK = 512 * 1024;
/** Descriptors from this size on have the high halves of their bitmaps' checksums. */
const WIDE_CHECKSUMS = 60;
const KIB = 1024;

/** Options of `installE2image`. */
export interface InstallOptions {
  /** Size of the target, bytes. */
  readonly size: number;
  /** Seconds since 1970: the volume's time of last write. */
  readonly time: number;
  /** Install over a volume that has another UUID. */
  readonly force?: boolean;
  /** Called before the first write. */
  readonly onWrite?: () => void;
  readonly signal?: AbortSignal;
}

/**
 * Writes an image's metadata to its places on a volume: inode tables, initialised bitmaps (their and the descriptors'
 * checksums made anew), the primary descriptors (with meta_bg every copy) and, last, the primary superblock with a new
 * time of writing. Does not commit. Before the first write the whole image is read and the target looked at; throws
 * ExtError where a group's inode table cannot be, RefusedError "ETOOSMALL" where the volume does not fit and "EUUID"
 * where the target holds another one; IoError, AbortError at any time.
 */
export async function installE2image(image: E2image, target: Target, options: InstallOptions): Promise<void> {
  if (target.read === undefined)
    throw new RefusedError("ENOTSEEKABLE", `${target.label}: cannot be read back`);
  const installer = new Installer(image, target, options);
  await installer.check();
  options.onWrite?.();
  await installer.write();
}

class Installer {
  private readonly image: E2image;
  private readonly sb: Superblock;
  private readonly target: Target;
  private readonly options: InstallOptions;
  private readonly pace: Pace;
  private written = 0;

  constructor(image: E2image, target: Target, options: InstallOptions) {
    this.image = image;
    this.sb = image.superblock;
    this.target = target;
    this.options = options;
    this.pace = new Pace(() => {
      if (options.signal?.aborted) throw new AbortError();
    });
  }

  async check(): Promise<void> {
    const { image, sb, target, options } = this;
    const needed = sb.blocks * sb.blockSize;
    if (options.size < needed)
      throw new RefusedError(
        "ETOOSMALL",
        `${target.label}: has ${options.size} bytes, the volume of this image ${needed}`,
      );
    if (!options.force) await this.compareUuid();
    const d = image.descriptors();
    for (let group = 0; group < sb.groups; group++) {
      const r = d.load(group);
      if (r instanceof Promise) await r;
      checkedTable(sb, d, group);
    }
    const buffer = new Uint8Array(CHUNK);
    await this.eachStored(0, image.sections.size, buffer, () => {});
  }

  /** Refuses a target whose superblock, or the first backup where it has none, belongs to another volume. */
  private async compareUuid(): Promise<void> {
    const { sb, target } = this;
    const wanted = sb.raw.subarray(SB.uuid, SB.uuid + UUID_BYTES);
    const b = new Uint8Array(SUPERBLOCK_SIZE);
    for (let group = 0; group < sb.groups; group++) {
      if (!groupHasSuper(sb, group)) continue;
      const at = group === 0 ? SUPERBLOCK_OFFSET : groupFirstBlock(sb, group) * sb.blockSize;
      const r = target.read!(b, at);
      const n = r instanceof Promise ? await r : r;
      if (n < b.length || u16le(b, SB.magic) !== EXT_MAGIC) continue;
      if (wanted.every((byte, i) => b[SB.uuid + i] === byte)) return;
      throw new RefusedError(
        "EUUID",
        `${target.label}: holds the volume ${uuidText(b, SB.uuid)}, the image is of ${uuidText(wanted, 0)}` +
          `${group === 0 ? "" : ` (superblock at byte ${at})`}`,
      );
    }
  }

  async write(): Promise<void> {
    const { image, sb } = this;
    const d = image.descriptors();
    const table = sb.inodeBlocks * sb.blockSize;
    const buffer = new Uint8Array(CHUNK);
    for (let group = 0; group < sb.groups; group++) {
      const r = d.load(group);
      if (r instanceof Promise) await r;
      const to = d.inodeTable(group) * sb.blockSize;
      const from = image.sections.inodeTables + group * table;
      let done = 0;
      await this.eachStored(from, table, buffer, async (bytes, at) => {
        await this.zero(to + done, at - done);
        await this.put(bytes, to + at);
        done = at + bytes.length;
      });
      await this.zero(to + done, table - done);
    }
    await this.descriptors(await this.bitmaps(d));
    await this.superblock();
  }

  /** Writes the bitmaps and returns the descriptor blocks with their checksums made anew. */
  private async bitmaps(d: Descriptors): Promise<Uint8Array> {
    const { image, sb } = this;
    const descriptors = new Uint8Array(image.lengths.descriptors);
    const r = image.file.read(descriptors, image.sections.descriptors);
    if (r instanceof Promise) await r;
    const checksums = Checksums.of(sb);
    const block = new Uint8Array(sb.blockSize);
    for (let group = 0; group < sb.groups; group++) {
      const l = d.load(group);
      if (l instanceof Promise) await l;
      const at = group * sb.descriptorSize;
      const raw = descriptors.subarray(at, at + sb.descriptorSize);
      const flags = sb.groupChecksums ? d.flags(group) : 0;
      let changed = false;
      for (const kind of ["block", "inode"] as const) {
        if ((flags & (kind === "block" ? BLOCK_UNINIT : INODE_UNINIT)) !== 0) continue;
        const b = image.bitmapBlock(kind, group, block);
        if (b instanceof Promise) await b;
        if (checksums !== null) setBitmapChecksum(image, checksums, kind, raw, block);
        changed = true;
        const to = kind === "block" ? d.blockBitmap(group) : d.inodeBitmap(group);
        if (to > 0 && to < sb.blocks) await this.put(block, to * sb.blockSize);
      }
      if (changed && sb.groupChecksums) putU16le(raw, GD.checksum, descriptorChecksum(sb, group, raw));
    }
    return descriptors;
  }

  private async descriptors(bytes: Uint8Array): Promise<void> {
    const { sb } = this;
    for (let i = 0; i < sb.descriptorBlocks; i++)
      for (const place of descriptorPlaces(sb, i))
        await this.put(bytes.subarray(i * sb.blockSize, (i + 1) * sb.blockSize), place * sb.blockSize);
  }

  private async superblock(): Promise<void> {
    const { sb, options } = this;
    const raw = sb.raw.slice(0, SUPERBLOCK_SIZE);
    putU32le(raw, SB.writeTime, options.time % 2 ** 32);
    raw[SB.writeTimeHigh] = Math.floor(options.time / 2 ** 32);
    putU16le(raw, SB.blockGroup, 0);
    const before = u32le(raw, SB.kibWritten) + u32le(raw, SB.kibWritten + 4) * 2 ** 32;
    if (before !== 0) {
      const now = before + Math.ceil(this.written / KIB);
      putU32le(raw, SB.kibWritten, now % 2 ** 32);
      putU32le(raw, SB.kibWritten + 4, Math.floor(now / 2 ** 32));
    }
    if (Checksums.of(sb) !== null)
      putU32le(raw, SB.checksum, Kernel.get().crc32cOf(0xffffffff, raw.subarray(0, SB.checksum)));
    await this.put(raw, SUPERBLOCK_OFFSET);
  }

  /** Reads what the image stores of [from, from + length), piece by piece; `at` counts from `from`. */
  private async eachStored(
    from: number,
    length: number,
    buffer: Uint8Array,
    use: (bytes: Uint8Array, at: number) => void | Promise<void>,
  ): Promise<void> {
    const { file } = this.image;
    const end = from + length;
    for (let at = from; at < end; ) {
      const m = file.map(at, end);
      const runs = m instanceof Promise ? await m : m;
      if (runs.end <= at) throw new ImprintError("EINTERNAL", `${file.label}: an empty map at byte ${at}`);
      for (let k = 0; k < runs.count; k++) {
        if (runs.state[k] !== DATA) continue;
        const stop = Math.min(runs.at[k] + runs.length[k], end);
        for (let p = runs.at[k]; p < stop; ) {
          const bytes = buffer.subarray(0, Math.min(buffer.length, stop - p));
          const r = file.read(bytes, p);
          const n = r instanceof Promise ? await r : r;
          if (n < bytes.length)
            throw new ImprintError("ESHORT", `${file.label}: ends at byte ${p + n}, was longer when opened`);
          const u = use(bytes, p - from);
          if (u instanceof Promise) await u;
          p += n;
          const wait = this.pace.step();
          if (wait !== undefined) await wait;
        }
      }
      at = runs.end;
    }
  }

  private put(bytes: Uint8Array, at: number): void | Promise<void> {
    this.written += bytes.length;
    return this.target.write(bytes, at);
  }

  private zero(at: number, length: number): void | Promise<void> {
    this.written += length;
    if (length > 0) return this.target.zero(at, length);
  }
}

function setBitmapChecksum(
  image: E2image,
  checksums: Checksums,
  kind: BitmapKind,
  raw: Uint8Array,
  block: Uint8Array,
): void {
  const { groupBlockBits, groupInodeBits } = image.lengths;
  const share = kind === "block" ? groupBlockBits : groupInodeBits;
  const sum = Kernel.get().crc32cOf(checksums.seed, block.subarray(0, share));
  putU16le(raw, kind === "block" ? GD.blockBitmapChecksum : GD.inodeBitmapChecksum, sum & 0xffff);
  if (raw.length >= WIDE_CHECKSUMS)
    putU16le(raw, kind === "block" ? GD.blockBitmapChecksumHigh : GD.inodeBitmapChecksumHigh, sum >>> 16);
}
