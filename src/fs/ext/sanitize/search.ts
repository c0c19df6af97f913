import { DATA } from "../../../bytes/runs.ts";
import { AbortError } from "../../../errors.ts";
import type { Source } from "../../../io/source.ts";
import { Kernel } from "../../../kernel/kernel.ts";
import type { LeakFound, LeakSearch } from "./report.ts";
import { MOST_WORD, type Words } from "./words.ts";

const PIECE = 512 * 1024;
/** Words that are listed, and offsets of each. */
const MOST_LISTED = 1000;
const MOST_OFFSETS = 8;
const MOST_TEXT = 64;

export interface SearchOptions {
  readonly searched: LeakSearch["searched"];
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

interface Hit {
  count: number;
  text: string;
  readonly offsets: number[];
}

/**
 * Searches everything a source stores for words: windows of four bytes are looked up in a filter in the
 * kernel, and what passes is compared by hash. Linear in the bytes searched.
 */
export async function searchWords(source: Source, words: Words, options: SearchOptions): Promise<LeakSearch> {
  const search = new Search(words);
  try {
    await search.run(source, options);
    return search.result(options.searched);
  } finally {
    search.close();
  }
}

class Search {
  private readonly words: Words;
  private readonly kernel = Kernel.get();
  /** MOST_WORD bytes of what came before, then the piece at hand. */
  private readonly slot = this.kernel.take(MOST_WORD + PIECE);
  private readonly filter;
  private readonly shift: number;
  private readonly hits = new Map<number, Hit>();
  private bytes = 0;

  constructor(words: Words) {
    this.words = words;
    const bits = Math.min(25, Math.max(16, Math.ceil(Math.log2(words.shapes + 1)) + 4));
    this.shift = 32 - bits;
    this.filter = this.kernel.take(1 << (bits - 3));
    words.fillFilter(this.filter.bytes, this.shift);
  }

  close(): void {
    this.kernel.give(this.filter);
    this.kernel.give(this.slot);
  }

  async run(source: Source, options: SearchOptions): Promise<void> {
    for (let from = 0; from < source.size; ) {
      const r = source.map(from, source.size);
      const runs = r instanceof Promise ? await r : r;
      for (let i = 0; i < runs.count; i++)
        if (runs.state[i] === DATA) await this.searchRun(source, runs.at[i], runs.length[i], options);
      if (runs.end <= from) break;
      from = runs.end;
    }
  }

  private async searchRun(source: Source, at: number, length: number, options: SearchOptions): Promise<void> {
    const { slot } = this;
    /** Bytes at the slot's start that the piece before left: where words may begin that end in this one. */
    let kept = 0;
    for (let done = 0; done < length; ) {
      if (options.signal?.aborted) throw new AbortError();
      const n = Math.min(PIECE, length - done);
      const r = source.read(slot.bytes.subarray(kept, kept + n), at + done);
      const got = r instanceof Promise ? await r : r;
      if (got <= 0) return;
      done += got;
      this.bytes += got;
      const end = kept + got;
      const last = done >= length || got < n;
      const stop = last ? end : Math.max(end - MOST_WORD, 0);
      this.searchPiece(end, stop, at + done - end);
      if (last) return;
      slot.bytes.copyWithin(0, stop, end);
      kept = end - stop;
      options.onProgress?.(at + done, source.size);
    }
  }

  /**
   * Looks for words that begin before `stop` in the first `end` bytes of the slot, which are those from
   * `base`.
   */
  private searchPiece(end: number, stop: number, base: number): void {
    const { slot, kernel, words } = this;
    const b = slot.bytes;
    for (let from = 0; ; ) {
      const n = kernel.raw.scanWords(slot.at, end, from, this.filter.at, this.shift) >>> 0;
      if (n === 0) return;
      from = kernel.out[0];
      const places = kernel.out.slice(1, 1 + n);
      for (const at of places) {
        const window = (b[at] | (b[at + 1] << 8) | (b[at + 2] << 16) | (b[at + 3] << 24)) >>> 0;
        words.eachShape(window, (place, length) => {
          const first = at - place;
          if (first >= 0 && first < stop && first + length <= end) this.check(first, length, base + first);
        });
      }
    }
  }

  private check(at: number, length: number, offset: number): void {
    const { slot, kernel, words } = this;
    kernel.raw.describeWord(slot.at + at, length);
    const word = words.find(kernel.out[1], kernel.out[2]);
    if (word < 0) return;
    let hit = this.hits.get(word);
    if (hit === undefined) {
      hit = {
        count: 0,
        text: printable(slot.bytes.subarray(at, at + Math.min(length, MOST_TEXT))),
        offsets: [],
      };
      this.hits.set(word, hit);
    }
    hit.count++;
    if (hit.offsets.length < MOST_OFFSETS) hit.offsets.push(offset);
  }

  result(searched: LeakSearch["searched"]): LeakSearch {
    const found: LeakFound[] = [...this.hits]
      .map(([word, { count, text, offsets }]) => ({ text, kind: this.words.kindOf(word), count, offsets }))
      .sort((a, b) => b.count - a.count);
    return {
      words: this.words.count,
      uniform: this.words.uniform,
      searched,
      bytes: this.bytes,
      found: found.slice(0, MOST_LISTED),
      unlisted: Math.max(0, found.length - MOST_LISTED),
    };
  }
}

function printable(bytes: Uint8Array): string {
  let s = "";
  for (const b of bytes)
    s +=
      b >= 0x20 && b < 0x7f && b !== 0x5c ? String.fromCharCode(b) : `\\x${b.toString(16).padStart(2, "0")}`;
  return s;
}
