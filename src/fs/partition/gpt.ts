import { cString, u16le, u32le, u64le } from "../../bytes/endian.ts";
import { FormatError } from "../../errors.ts";
import type { Source } from "../../io/source.ts";
import { crc32 } from "./crc32.ts";
import type { PartitionEntry } from "./entry.ts";
import { GPT, GPT_ENTRY, GPT_HEADER_MIN, GPT_SIGNATURE, GPT_TYPES } from "./layout.ts";

const MOST_ENTRY_BYTES = 1 << 20;

/** A GUID field's usual text: the first three parts are little-endian. */
function guidText(b: Uint8Array, at: number): string {
  const order = [3, 2, 1, 0, -1, 5, 4, -1, 7, 6, -1, 8, 9, -1, 10, 11, 12, 13, 14, 15];
  return order.map((i) => (i < 0 ? "-" : b[at + i].toString(16).padStart(2, "0"))).join("");
}

/**
 * Reads a GPT, with sectors of the first of `sectorSizes` (bytes) that fits: the primary header, or, where that or its
 * entries fail their checksums, the one in the last sector. Null where there is no sign of one; FormatError where there
 * is but neither copy can be used.
 */
export async function readGpt(
  source: Source,
  sectorSizes: readonly number[],
): Promise<PartitionEntry[] | null> {
  let problem: FormatError | null = null;
  for (const sector of sectorSizes) {
    for (const at of [sector, source.size - sector]) {
      try {
        const entries = await readCopy(source, sector, at);
        if (entries !== null) return entries;
      } catch (e) {
        if (!(e instanceof FormatError)) throw e;
        problem ??= e;
      }
    }
  }
  if (problem !== null) throw problem;
  return null;
}

async function readCopy(source: Source, sector: number, at: number): Promise<PartitionEntry[] | null> {
  if (at < sector || at + sector > source.size) return null;
  const header = await read(source, sector, at);
  if (cString(header, GPT.signature, 8) !== GPT_SIGNATURE) return null;
  const bad = (detail: string) => new FormatError("GPT header", at, detail);
  const headerSize = u32le(header, GPT.headerSize);
  if (headerSize < GPT_HEADER_MIN || headerSize > sector) throw bad(`header of ${headerSize} bytes`);
  const checked = header.slice(0, headerSize);
  checked.fill(0, GPT.headerCrc, GPT.headerCrc + 4);
  if (crc32(checked) !== u32le(header, GPT.headerCrc)) throw bad("wrong checksum");
  if (u64le(header, GPT.ownLba) * sector !== at) throw bad("written for another place");
  const count = u32le(header, GPT.entryCount);
  const size = u32le(header, GPT.entrySize);
  if (size < 128 || size % 8 !== 0 || count * size > MOST_ENTRY_BYTES)
    throw bad(`${count} entries of ${size} bytes`);
  const entriesAt = u64le(header, GPT.entriesLba) * sector;
  if (!(entriesAt + count * size <= source.size)) throw bad("entries lie past the end of the disk");
  const b = await read(source, count * size, entriesAt);
  if (crc32(b) !== u32le(header, GPT.entriesCrc)) throw bad("wrong checksum of the entries");
  const list: PartitionEntry[] = [];
  for (let i = 0; i < count; i++) {
    const e = i * size;
    if (b.subarray(e + GPT_ENTRY.type, e + GPT_ENTRY.type + 16).every((v) => v === 0)) continue;
    const first = u64le(b, e + GPT_ENTRY.first);
    const last = u64le(b, e + GPT_ENTRY.last);
    if (last < first || (last + 1) * sector > Number.MAX_SAFE_INTEGER)
      throw new FormatError("GPT entry", entriesAt + e, `sectors ${first} to ${last}`);
    const guid = guidText(b, e + GPT_ENTRY.type);
    list.push({
      number: i + 1,
      start: first * sector,
      size: (last + 1 - first) * sector,
      type: GPT_TYPES[guid] ?? guid,
      name: utf16(b, e + GPT_ENTRY.name, GPT_ENTRY.nameUnits),
    });
  }
  return list;
}

function utf16(b: Uint8Array, at: number, units: number): string {
  let s = "";
  for (let i = 0; i < units; i++) {
    const c = u16le(b, at + i * 2);
    if (c === 0) break;
    s += String.fromCharCode(c);
  }
  return s;
}

async function read(source: Source, length: number, at: number): Promise<Uint8Array> {
  const b = new Uint8Array(length);
  const r = source.read(b, at);
  if (r instanceof Promise) await r;
  return b;
}
