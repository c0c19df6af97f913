import type { Target } from "../../src/io/target.ts";
import { print } from "../ui/out.ts";

type Write = (bytes: Uint8Array, at: number) => void | Promise<void>;

/** What `-c` and `-n` put in place of writing. Offsets in bytes of the target. */
export interface BlockWriter {
  readonly write: Write;
  /** Blocks that the target held already. */
  unchanged(): number;
  /** Prints what is left to print. */
  finish(): void;
}

/**
 * Compares every block with what `target` holds (`-c`; null compares nothing) and passes runs of different ones to
 * `sink`. What lies past the target's end differs.
 */
export function comparingWriter(target: Target | null, blockSize: number, sink: Write): BlockWriter {
  let same = 0;
  let old = new Uint8Array(0);
  const write: Write = async (bytes, at) => {
    if (target?.read === undefined) return sink(bytes, at);
    if (old.length < bytes.length) old = new Uint8Array(bytes.length);
    const r = target.read(old.subarray(0, bytes.length), at);
    const held = r instanceof Promise ? await r : r;
    let from = 0;
    for (let b = 0; b < bytes.length; b += blockSize) {
      const end = Math.min(b + blockSize, bytes.length);
      if (end > held || Buffer.compare(bytes.subarray(b, end), old.subarray(b, end)) !== 0) continue;
      same++;
      if (b > from) await sink(bytes.subarray(from, b), at + from);
      from = end;
    }
    if (from < bytes.length) await sink(bytes.subarray(from), at + from);
  };
  return { write, unchanged: () => same, finish() {} };
}

const LIST_BYTES = 32768;

/** Lines about blocks that are to come out in the order of the blocks, among others that are printed meanwhile. */
export class BlockNotes {
  private readonly put: (text: string) => void;
  private lines: { readonly block: number; readonly line: string }[] = [];
  private next = 0;
  /** True while someone else takes the lines in time; else they are printed as they come. */
  held = false;

  constructor(put: (text: string) => void) {
    this.put = put;
  }

  /** Blocks come in ascending order. */
  add(block: number, line: string): void {
    this.lines.push({ block, line });
    if (!this.held && this.lines.length >= 512) this.finish();
  }

  /** The lines about blocks up to `block` that were not taken yet. */
  take(block: number): string {
    if (this.next === this.lines.length) return "";
    let text = "";
    for (; this.next < this.lines.length && this.lines[this.next].block <= block; this.next++)
      text += `${this.lines[this.next].line}\n`;
    if (this.next === this.lines.length) {
      this.lines = [];
      this.next = 0;
    }
    return text;
  }

  /** Prints what is left. */
  finish(): void {
    const text = this.take(Number.POSITIVE_INFINITY);
    if (text !== "") this.put(text);
  }
}

/** Prints `Writing block N` for blocks, and before it what `notes` has to say of them. */
export class BlockLister {
  private readonly notes: BlockNotes;
  private text = "";

  constructor(notes: BlockNotes) {
    this.notes = notes;
    notes.held = true;
  }

  add(first: number, count: number): void {
    for (let b = first; b < first + count; b++) {
      this.text += `${this.notes.take(b)}Writing block ${b}\n`;
      if (this.text.length > LIST_BYTES) this.finish();
    }
  }

  /** Prints what is left to print. */
  finish(): void {
    print(this.text);
    this.text = "";
  }
}

/** Lists every block (`-n`) in place of writing it; `offset` is where block 0 would go. */
export function listingWriter(blockSize: number, offset: number, notes: BlockNotes): BlockWriter {
  const list = new BlockLister(notes);
  return {
    write: (bytes, at) => list.add((at - offset) / blockSize, Math.ceil(bytes.length / blockSize)),
    unchanged: () => 0,
    finish: () => list.finish(),
  };
}

/** A target that takes nothing: what `-n` writes to. `fresh` decides whether blocks of zeros count as written. */
export function noTarget(label: string, fresh: boolean): Target {
  return {
    label,
    seekable: true,
    fresh,
    capacity: Number.POSITIVE_INFINITY,
    write() {},
    zero() {},
    commit() {},
    abort() {},
  };
}
