/** What was found of one original word in the finished image. */
export interface LeakFound {
  /** As it stands in the image; bytes that are no printable ASCII as \xNN. */
  readonly text: string;
  readonly kind: WordKind;
  readonly count: number;
  /** Byte offsets in the image's disk of the first few. */
  readonly offsets: readonly number[];
}

/** What an original word was. */
export type WordKind = "name" | "target" | "attribute name" | "value" | "label" | "path";

/** Something that was left as it is. */
export interface Kept {
  readonly what: string;
  readonly count: number;
  readonly why: string;
}

/** What a sanitised capture did, and what a search of its result found. */
export interface SanitizeReport {
  /** Give it as --seed to get the same names again. */
  readonly seed: string;
  readonly journal: "none" | "external" | "dropped" | "replayed" | "dropped unreplayed";
  readonly directories: number;
  readonly indexedDirectories: number;
  /** Names in directories that were replaced. */
  readonly names: number;
  /** Names that moved to another leaf of their directory's index, because none fit the old one. */
  readonly movedNames: number;
  /** Directories whose index was given up. */
  readonly unindexedDirectories: number;
  readonly symlinkTargets: number;
  /** Different names of user attributes. */
  readonly attributeNames: number;
  readonly attributeValues: number;
  readonly inlineFiles: number;
  /** Inodes that are not in use and held something. */
  readonly wipedInodes: number;
  readonly superblockTexts: number;
  readonly kept: readonly Kept[];
  readonly warnings: readonly string[];
  readonly search: LeakSearch;
}

export interface LeakSearch {
  /** Different words of 4 and more bytes that were looked for. */
  readonly words: number;
  /** Words that were not looked for: all their bytes are the same. */
  readonly uniform: number;
  /** What was searched: the output, read back, or, where it cannot be, the data as it was written. */
  readonly searched: "output" | "stream";
  readonly bytes: number;
  readonly found: readonly LeakFound[];
  /** Words found beyond those listed. */
  readonly unlisted: number;
}

/** Counts things that were kept, by what they are. */
export class KeptCounter {
  private readonly counts = new Map<string, { count: number; why: string }>();

  add(what: string, why: string, count = 1): void {
    const c = this.counts.get(what);
    if (c === undefined) this.counts.set(what, { count, why });
    else c.count += count;
  }

  list(): Kept[] {
    return [...this.counts].map(([what, { count, why }]) => ({ what, count, why }));
  }
}
