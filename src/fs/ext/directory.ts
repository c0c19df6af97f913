import { u16le, u32le } from "../../bytes/endian.ts";
import { ExtError } from "./errors.ts";

const HEADER = 8;

const decoder = new TextDecoder();

/**
 * One name of a directory. Holds on to its block instead of copying, so that a million of them stay small.
 */
export class DirectoryEntry {
  readonly ino: number;
  private readonly block: Uint8Array;
  private readonly at: number;
  private readonly length: number;

  constructor(ino: number, block: Uint8Array, at: number, length: number) {
    this.ino = ino;
    this.block = block;
    this.at = at;
    this.length = length;
  }

  /** The name's bytes, as stored. */
  get rawName(): Uint8Array {
    return this.block.subarray(this.at, this.at + this.length);
  }

  /** The name as UTF-8 text; bytes that are none become U+FFFD. */
  get name(): string {
    return decoder.decode(this.rawName);
  }
}

/** Bytes of a record; blocks of 64 KiB store lengths that do not fit into 16 bits in the low two bits. */
export function recordLength(b: Uint8Array, at: number, blockSize: number): number {
  const n = u16le(b, at + 4);
  if (blockSize < 65536) return n;
  if (n === 0 || n === 65535) return blockSize;
  return (n & 0xfffc) | ((n & 3) << 16);
}

/**
 * Appends the names in b[from, to), a directory block or an inline area. Index nodes look like one empty
 * record, so they need no care. `at` is the byte offset of b[0] in the volume, for messages. `b` must stay
 * as it is while the entries are in use. Throws ExtError (EXT_BAD_DIRECTORY).
 */
export function parseEntries(
  b: Uint8Array,
  from: number,
  to: number,
  blockSize: number,
  hasType: boolean,
  at: number,
  into: DirectoryEntry[],
): void {
  for (let o = from; o + HEADER <= to; ) {
    const length = recordLength(b, o, blockSize);
    if (length < HEADER || (length & 3) !== 0 || o + length > to)
      throw new ExtError("EXT_BAD_DIRECTORY", "ext directory record", at + o, `length ${length}`);
    const ino = u32le(b, o);
    const nameLength = hasType ? b[o + 6] : u16le(b, o + 6);
    if (ino !== 0) {
      if (nameLength === 0 || HEADER + nameLength > length)
        throw new ExtError(
          "EXT_BAD_DIRECTORY",
          "ext directory record",
          at + o,
          `name of ${nameLength} bytes in a record of ${length}`,
        );
      into.push(new DirectoryEntry(ino, b, o + HEADER, nameLength));
    }
    o += length;
  }
}
