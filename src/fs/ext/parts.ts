import type { Source } from "../../io/source.ts";
import type { Descriptors } from "./descriptors.ts";
import type { InodeReader } from "./inodes.ts";
import type { Superblock } from "./superblock.ts";

/** An opened volume, as its readers share it. */
export interface Parts {
  readonly source: Source;
  readonly sb: Superblock;
  readonly descriptors: Descriptors;
  readonly inodes: InodeReader;
}
