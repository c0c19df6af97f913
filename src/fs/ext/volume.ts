import type { Source } from "../../io/source.ts";
import type { InfoField, Selection, Volume } from "../volume.ts";
import { Descriptors } from "./descriptors.ts";
import { ExtError } from "./errors.ts";
import { describe, kindOf } from "./info.ts";
import { InodeReader } from "./inodes.ts";
import type { Parts } from "./parts.ts";
import type { ExtSelectOptions } from "./select.ts";
import { readSuperblock, type Superblock } from "./superblock.ts";
import { ExtTree } from "./tree.ts";

export interface ExtOpenOptions {
  /** Block number of a backup superblock to use (needs `blockSize`); 0 for the primary. */
  readonly superblock?: number;
  /** Bytes; a volume with other blocks is refused. 0 accepts any. */
  readonly blockSize?: number;
  /** Default for ExtSelectOptions.nativeSelection. */
  readonly nativeSelection?: boolean;
}

/** An ext2, ext3 or ext4 volume. */
export class ExtVolume implements Volume {
  readonly kind: string;
  readonly size: number;
  readonly blockSize: number;
  readonly source: Source;
  readonly superblock: Superblock;
  private readonly parts: Parts;
  private readonly defaults: ExtOpenOptions;

  /** Use openExt. */
  constructor(parts: Parts, defaults: ExtOpenOptions) {
    this.parts = parts;
    this.defaults = defaults;
    this.source = parts.source;
    this.superblock = parts.sb;
    this.kind = kindOf(parts.sb);
    this.blockSize = parts.sb.blockSize;
    this.size = parts.sb.blocks * parts.sb.blockSize;
  }

  info(): InfoField[] {
    return describe(this.parts.sb);
  }

  /**
   * Decides which blocks to take. "metadata" is what `e2image -r` takes, "data" what `-ra` takes, "used"
   * every allocated block, "all" every block. Throws ExtError where native code stops (except for "used"
   * and "all"); AbortError.
   */
  async select(options: ExtSelectOptions): Promise<Selection> {
    const { source, sb } = this.parts;
    // Loaded when it is needed: who only asks what a volume is starts no kernel.
    const { select } = await import("./select.ts");
    // Descriptors of its own: they are a window that moves with the walk.
    return select(
      { ...this.parts, descriptors: new Descriptors(source, sb) },
      {
        ...options,
        nativeSelection: options.nativeSelection ?? this.defaults.nativeSelection ?? false,
      },
    );
  }

  /** Its files and folders. */
  tree(): ExtTree {
    return new ExtTree(this.parts);
  }
}

/**
 * Opens an ext volume that starts at byte 0 of `source`. Throws ExtError or UnsupportedError whose `code`
 * starts with EXT_ (see errors.ts for native's words), in the order e2fsprogs checks; IoError from the
 * source.
 */
export async function openExt(source: Source, options: ExtOpenOptions = {}): Promise<ExtVolume> {
  const sb = await readSuperblock(source, options.superblock ?? 0, options.blockSize ?? 0);
  const descriptors = new Descriptors(source, sb);
  if (!descriptors.lastIsThere())
    throw new ExtError(
      "EXT_SHORT_READ",
      "ext group descriptors",
      descriptors.blockOf(sb.descriptorBlocks - 1) * sb.blockSize,
      `the source ends at byte ${source.size}`,
    );
  const r = descriptors.load(0);
  if (r instanceof Promise) await r;
  return new ExtVolume(
    { source, sb, descriptors, inodes: new InodeReader(source, sb, descriptors) },
    options,
  );
}

export { probeExt } from "./superblock.ts";
