import { u16le, u32le, u64le } from "../bytes/endian.ts";
import { FormatError, UnsupportedError } from "../errors.ts";
import { ZSTD_FRAME } from "./codecs.ts";

/** Zstandard frames start with this (little-endian). RFC 8878, section 3.1.1. */
const MAGIC = 0xfd2fb528;
/** Skippable frames: magic 0x184d2a50 to 0x184d2a5f, then a length. */
const SKIPPABLE = 0x184d2a5;
/** Largest window accepted, bytes: the default limit of the reference decoder. */
const WINDOW_LIMIT = 2 ** 27;
/** Most bytes one block can yield, whatever the window. */
const BLOCK_LIMIT = 131072;

const BLOCK_RAW = 0;
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;

/** Where a frame lies and what its header promises. Sizes in bytes. */
export interface ZstdFrame {
  readonly start: number;
  readonly end: number;
  readonly skippable: boolean;
  readonly window: number;
  /** Decompressed size as the header states it, or -1. */
  readonly content: number;
  /** Upper bound of the decompressed size, from the block headers. */
  readonly most: number;
  /** First byte after the frame header: where the blocks begin. */
  readonly blocks: number;
  readonly checksum: boolean;
}

/**
 * Walks the headers of the frame that starts at `at`: finds its exact end without decompressing, so that
 * bytes behind it are never handed to a decoder. Throws FormatError where it is damaged or cut,
 * UnsupportedError for a dictionary.
 */
export function zstdFrame(b: Uint8Array, at: number): ZstdFrame {
  const need = (end: number) => {
    if (end > b.length) throw new FormatError(ZSTD_FRAME, -1, `cut short after ${b.length - at} bytes`);
  };
  need(at + 5);
  const magic = u32le(b, at);
  if (magic >>> 4 === SKIPPABLE) {
    need(at + 8);
    const end = at + 8 + u32le(b, at + 4);
    need(end);
    return { start: at, end, skippable: true, window: 0, content: 0, most: 0, blocks: end, checksum: false };
  }
  if (magic !== MAGIC) throw new FormatError(ZSTD_FRAME, -1, `magic 0x${magic.toString(16)}`);
  const descriptor = b[at + 4];
  if (descriptor & 8) throw new FormatError(ZSTD_FRAME, -1, "reserved descriptor bit set");
  const single = (descriptor & 0x20) !== 0;
  const checksum = (descriptor & 4) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3];
  const contentBytes = [single ? 1 : 0, 2, 4, 8][descriptor >>> 6];
  let p = at + 5;
  need(p + (single ? 0 : 1) + dictionaryBytes + contentBytes);
  let window = 0;
  if (!single) {
    const w = b[p++];
    const base = 2 ** (10 + (w >>> 3));
    window = base + (base / 8) * (w & 7);
  }
  for (let i = 0; i < dictionaryBytes; i++)
    if (b[p + i] !== 0) throw new UnsupportedError(`${ZSTD_FRAME}: compressed with a dictionary`);
  p += dictionaryBytes;
  let content = -1;
  if (contentBytes === 1) content = b[p];
  else if (contentBytes === 2) content = u16le(b, p) + 256;
  else if (contentBytes === 4) content = u32le(b, p);
  else if (contentBytes === 8) content = u64le(b, p);
  p += contentBytes;
  if (single) window = content;
  if (window > WINDOW_LIMIT) throw new FormatError(ZSTD_FRAME, -1, `window of ${window} bytes`);
  const blocks = p;
  let most = 0;
  for (let last = false; !last; ) {
    need(p + 3);
    const header = b[p] | (b[p + 1] << 8) | (b[p + 2] << 16);
    const type = (header >>> 1) & 3;
    const size = header >>> 3;
    last = (header & 1) === 1;
    if (type === BLOCK_RESERVED) throw new FormatError(ZSTD_FRAME, -1, "reserved block type");
    if (size > BLOCK_LIMIT) throw new FormatError(ZSTD_FRAME, -1, `block of ${size} bytes`);
    p += 3 + (type === BLOCK_RLE ? 1 : size);
    most += type === BLOCK_RAW || type === BLOCK_RLE ? size : BLOCK_LIMIT;
  }
  if (checksum) p += 4;
  need(p);
  if (content > most) throw new FormatError(ZSTD_FRAME, -1, `promises ${content} bytes, has ${most} at most`);
  return { start: at, end: p, skippable: false, window, content, most, blocks, checksum };
}

/**
 * The frame again with its decompressed size in the header (no checksum of ours changes: it covers content
 * only), for decoders that need to know it before.
 */
export function withContentSize(b: Uint8Array, f: ZstdFrame, content: number): Uint8Array {
  const header = [0x28, 0xb5, 0x2f, 0xfd, 0x80 | (f.checksum ? 4 : 0)];
  // Window descriptor: the smallest power of two that holds the window.
  let log = 10;
  while (2 ** log < f.window) log++;
  header.push((log - 10) << 3, content & 255, (content >>> 8) & 255, (content >>> 16) & 255, content >>> 24);
  const out = new Uint8Array(header.length + f.end - f.blocks);
  out.set(header);
  out.set(b.subarray(f.blocks, f.end), header.length);
  return out;
}

/** How a host decompresses one exact frame. Null where the frame is damaged. */
export interface ZstdFrameDecoder {
  /** A frame whose header states its size, `content` bytes. */
  sized(frame: Uint8Array, content: number): Uint8Array | null;
  /** A frame of unknown size: at most `most` bytes come out. */
  unsized(frame: Uint8Array, most: number): Uint8Array | null;
}

/** Most that a frame of unknown size may unpack to where others follow it, and its largest window. Bytes. */
const UNSIZED_LIMIT = 4 * 1024 * 1024;
const UNSIZED_WINDOW = 8 * 1024 * 1024;

/**
 * Decompresses frames from the start of `input` until `size` bytes are out. Throws FormatError where a frame
 * is damaged or cut, or yields more than is left; never unpacks more than its header or block headers allow.
 */
export function zstdFrames(input: Uint8Array, size: number, decoder: ZstdFrameDecoder): Uint8Array {
  let out: Uint8Array | null = null;
  let filled = 0;
  for (let at = 0; filled < size; ) {
    const f = zstdFrame(input, at);
    at = f.end;
    if (f.skippable || f.content === 0) continue;
    const left = size - filled;
    if (f.content > left)
      throw new FormatError(ZSTD_FRAME, -1, `decompresses to ${f.content} bytes, ${left} expected`);
    const bytes = f.content >= 0 ? known(input, f, decoder) : unknown(input, f, left, decoder);
    if (bytes === null || bytes.length > left)
      throw new FormatError(ZSTD_FRAME, -1, `damaged, or not of ${f.content >= 0 ? f.content : left} bytes`);
    if (bytes.length === size) return bytes;
    out ??= new Uint8Array(size);
    out.set(bytes, filled);
    filled += bytes.length;
  }
  return out ?? new Uint8Array(size);
}

function known(input: Uint8Array, f: ZstdFrame, decoder: ZstdFrameDecoder): Uint8Array | null {
  const bytes = decoder.sized(input.subarray(f.start, f.end), f.content);
  return bytes?.length === f.content ? bytes : null;
}

/**
 * A frame without its size: taken to be the last and to fill what is left, unless that fails and another
 * follows.
 */
function unknown(
  input: Uint8Array,
  f: ZstdFrame,
  left: number,
  decoder: ZstdFrameDecoder,
): Uint8Array | null {
  if (left <= f.most) {
    const bytes = decoder.sized(withContentSize(input, f, left), left);
    if (bytes?.length === left) return bytes;
  }
  const next = f.end + 4 <= input.length ? u32le(input, f.end) : 0;
  if (next !== MAGIC && next >>> 4 !== SKIPPABLE) return null;
  if (f.most > UNSIZED_LIMIT || f.window > UNSIZED_WINDOW) return null;
  return decoder.unsized(input.subarray(f.start, f.end), f.most);
}
