import type { BlockSet } from "../bytes/block-set.ts";

/** What to take of a volume. "used": every allocated block; "all": every block, free ones too. */
export type Scope = "metadata" | "data" | "used" | "all";

/** What a block is for; the allocation map is painted with it. */
export type Role =
  | "superblock"
  | "descriptors"
  | "bitmap"
  | "inode table"
  | "directory"
  | "index"
  | "journal"
  | "xattr"
  | "system"
  | "data";

/** A sorted set of blocks of a volume, decided before any data moves. */
export interface Selection {
  /** Bytes a block. */
  readonly blockSize: number;
  readonly blocks: BlockSet;
  /** How often a block was marked, duplicates and refused ones counted (the e2image QCOW2 layout needs it). */
  readonly marks: number;
  /** Blocks by role, where asked for. */
  readonly roles: ReadonlyMap<Role, BlockSet> | null;
  /** Blocks that are scrambled, where asked for: those that hold directory entries. */
  readonly scrambled?: BlockSet;
  /** Lines for a person, in order: what was odd but survivable. */
  readonly warnings: readonly string[];
}

export interface SelectOptions {
  readonly scope: Scope;
  readonly roles?: boolean;
  /** Exactly the native tool's set, its leaks and losses included. */
  readonly nativeSelection?: boolean;
  /** Also what the native tool loses (bad-blocks indirect blocks, orphans' index blocks, EA-inode values). */
  readonly complete?: boolean;
  /** With `complete`: false leaves EA-inode values out, which native tools count as file data. Default true. */
  readonly attributeValues?: boolean;
  /** Inode tables in full, parts that were never used too: what native tools put on block devices. */
  readonly wholeInodeTables?: boolean;
  /** Also answers with the blocks of directories (native's scramble map). */
  readonly scramble?: boolean;
  /** The warnings not told yet: before inodes are read, and at the end, also where it fails. */
  readonly onWarnings?: (lines: readonly string[]) => void;
  /** Called now and then; throws AbortError to stop. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** Ordered facts about a volume or image: what `imprint info` prints and the page shows. */
export interface InfoField {
  /** camelCase key of the JSON form. */
  readonly key: string;
  /** Label of the human form. */
  readonly label: string;
  readonly value: string | number | boolean | readonly string[];
  /** How the human form prints a number. */
  readonly unit?: "bytes" | "time" | "count" | "hex";
}

/** A filesystem found on a source. */
export interface Volume {
  /** "ext2", "ext3", "ext4". */
  readonly kind: string;
  /** Bytes the filesystem covers (may be less than its source). */
  readonly size: number;
  readonly blockSize: number;
  info(): InfoField[];
  select(options: SelectOptions): Promise<Selection>;
}
