import { u16le, u32le } from "../../bytes/endian.ts";
import { NtfsError } from "./errors.ts";
import {
  AT,
  ATTR,
  FN,
  INDEX_HEADER,
  IR,
  MAGIC_FILE,
  MST,
  NON_RESIDENT_HEADER,
  REC,
  REC_HEADER,
  RECORD_DIRECTORY,
  RECORD_IN_USE,
  VI,
} from "./layout.ts";
import { decodeRuns, endOf, type Runs } from "./runlist.ts";

/** 48-bit record number of a file reference. */
export function refNumber(b: Uint8Array, at: number): number {
  return u32le(b, at) + u16le(b, at + 4) * 0x100000000;
}

/** A signed 64-bit field; inexact beyond 2^53, which callers refuse. */
export function i64le(b: Uint8Array, at: number): number {
  return (u32le(b, at + 4) | 0) * 0x100000000 + u32le(b, at);
}

const decoder = new TextDecoder("utf-16le", { ignoreBOM: true });

/** `units` UTF-16 units; lone surrogates become U+FFFD. */
export function utf16(b: Uint8Array, at: number, units: number): string {
  return decoder.decode(b.subarray(at, at + units * 2));
}

/** An attribute record (one extent of an attribute) in a FILE record whose fixups are removed. */
export class Attribute {
  /** Number of the record it sits in, which may be an extension of the inode. */
  readonly record: number;
  /** That record's bytes. */
  readonly bytes: Uint8Array;
  /** Where in `bytes` it starts. */
  readonly at: number;
  readonly type: number;
  /** Bytes. */
  readonly length: number;
  readonly nonResident: boolean;
  readonly flags: number;
  readonly instance: number;
  private decoded: Runs | null = null;

  constructor(record: number, bytes: Uint8Array, at: number) {
    this.record = record;
    this.bytes = bytes;
    this.at = at;
    this.type = u32le(bytes, at + ATTR.type);
    this.length = u32le(bytes, at + ATTR.length);
    this.nonResident = bytes[at + ATTR.nonResident] !== 0;
    this.flags = u16le(bytes, at + ATTR.flags);
    this.instance = u16le(bytes, at + ATTR.instance);
  }

  /** For messages: "NTFS record 5 attribute 0x80". */
  get structure(): string {
    return `NTFS record ${this.record} attribute 0x${this.type.toString(16)}`;
  }

  get nameLength(): number {
    return this.bytes[this.at + ATTR.nameLength];
  }

  get name(): string {
    const units = this.nameLength;
    return units === 0
      ? ""
      : utf16(this.bytes, this.at + u16le(this.bytes, this.at + ATTR.nameOffset), units);
  }

  /** Resident: where its value starts in `bytes`. */
  get valueOffset(): number {
    return this.at + u16le(this.bytes, this.at + ATTR.valueOffset);
  }

  /** Resident: bytes of its value. */
  get valueLength(): number {
    return u32le(this.bytes, this.at + ATTR.valueLength);
  }

  /** Resident: its value, a view. Throws NTFS_BAD_ATTRIBUTE where it leaves the attribute. */
  get value(): Uint8Array {
    const from = this.valueOffset;
    const to = from + this.valueLength;
    // Where an empty one lies is of no concern to native.
    if (!this.nonResident && from === to) return this.bytes.subarray(0, 0);
    if (this.nonResident || to > Math.min(this.at + this.length, this.bytes.length))
      throw new NtfsError(
        "NTFS_BAD_ATTRIBUTE",
        this.structure,
        -1,
        this.nonResident ? "not resident" : `a value of ${this.valueLength} bytes in ${this.length}`,
        { text: `Corrupt resident attribute 0x${this.type.toString(16)} in MFT record ${this.record}` },
      );
    return this.bytes.subarray(from, to);
  }

  /** Non-resident: first cluster of the attribute that this extent maps. */
  get lowestVcn(): number {
    return i64le(this.bytes, this.at + ATTR.lowestVcn);
  }

  get highestVcn(): number {
    return i64le(this.bytes, this.at + ATTR.highestVcn);
  }

  /** Non-resident, first extent only: bytes allocated. */
  get allocated(): number {
    return i64le(this.bytes, this.at + ATTR.allocated);
  }

  /** Bytes of data: of a resident value too. */
  get size(): number {
    return this.nonResident ? i64le(this.bytes, this.at + ATTR.size) : this.valueLength;
  }

  /** Non-resident, first extent only: bytes that were ever written; the rest reads as zeros. */
  get initialized(): number {
    return this.nonResident ? i64le(this.bytes, this.at + ATTR.initialized) : this.valueLength;
  }

  /** Non-resident: log2 of a compression unit in clusters; 0 where it is not compressed. */
  get compressionUnit(): number {
    return this.nonResident ? this.bytes[this.at + ATTR.compressionUnit] : 0;
  }

  /** Non-resident: the runs of this extent. Throws NTFS_BAD_RUNLIST. */
  get runs(): Runs {
    this.decoded ??= decodeRuns({
      bytes: this.bytes,
      from: this.at + u16le(this.bytes, this.at + ATTR.mappingPairs),
      to: Math.min(this.at + this.length, this.bytes.length),
      lowestVcn: this.lowestVcn,
      highestVcn: this.highestVcn,
      structure: this.structure,
    });
    return this.decoded;
  }

  /**
   * As `runs`, for the first extent only as far as the allocated size has room for them. Throws NTFS_BAD_RUNLIST as
   * native does when it follows a run list.
   */
  runsWithin(clusterSize: number): Runs {
    const { runs, allocated } = this;
    if (this.lowestVcn !== 0) return runs;
    const end = endOf(runs);
    // A size near 2^63 is a negative number of clusters to native.
    const room =
      allocated < 0
        ? Math.min(0, Math.ceil(allocated / clusterSize))
        : allocated >= 2 ** 63 - 2 ** 31
          ? -1
          : Math.ceil(allocated / clusterSize);
    if (end <= room) return runs;
    throw new NtfsError("NTFS_BAD_RUNLIST", this.structure, -1, `${end} clusters in ${allocated} bytes`, {
      text: "ntfs_decompress_mapping_pairs",
    });
  }
}

export function recordInUse(b: Uint8Array): boolean {
  return (u16le(b, REC.flags) & RECORD_IN_USE) !== 0;
}
export function recordIsDirectory(b: Uint8Array): boolean {
  return (u16le(b, REC.flags) & RECORD_DIRECTORY) !== 0;
}
export function recordSequence(b: Uint8Array): number {
  return u16le(b, REC.sequence);
}
/** True for a record that holds more attributes of another one. */
export function isExtension(b: Uint8Array): boolean {
  return refNumber(b, REC.base) !== 0 || u16le(b, REC.baseSequence) !== 0;
}

/**
 * Checks the header of a record, as native does before it uses any; null where it is sound. `number` is for messages.
 */
export function checkRecord(b: Uint8Array, number: number): NtfsError | null {
  const bad = (detail: string, text: string) =>
    new NtfsError("NTFS_BAD_RECORD", `NTFS record ${number}`, -1, detail, { text });
  const magic = u32le(b, MST.magic);
  if (magic !== MAGIC_FILE)
    return bad(
      `magic 0x${magic.toString(16)}`,
      `Record ${number} has no FILE magic (0x${magic.toString(16)})`,
    );
  const allocated = u32le(b, REC.allocated);
  if (allocated !== b.length)
    return bad(
      `says it has ${allocated} bytes, not ${b.length}`,
      `Record ${number} has corrupt allocation size (${b.length} <> ${allocated})`,
    );
  const first = u16le(b, REC.attributes);
  if ((first & 7) !== 0)
    return bad(`attributes at byte ${first}`, `Attributes badly aligned in record ${number}`);
  if (first > b.length) return bad(`attributes at byte ${first}`, `Record ${number} is corrupt`);
  return null;
}

/** The shortest piece of an attribute that says what it is. */
const LEAST_ATTRIBUTE = 24;

/**
 * The attributes stored in one record, in their order, up to its end marker. `damage` is set where the chain breaks;
 * attributes before it are there. Bounded by the record, and by the bytes it says are in use.
 */
export function recordAttributes(
  b: Uint8Array,
  number: number,
): { readonly attributes: Attribute[]; readonly damage: NtfsError | null } {
  const attributes: Attribute[] = [];
  const end = Math.min(u32le(b, REC.inUse), b.length);
  let at = u16le(b, REC.attributes);
  for (;;) {
    if (at + 4 <= end && u32le(b, at) === AT.end) return { attributes, damage: null };
    const length = at + LEAST_ATTRIBUTE <= end ? u32le(b, at + ATTR.length) : 0;
    if (length === 0 || at + length > end)
      return {
        attributes,
        damage: new NtfsError(
          "NTFS_BAD_ATTRIBUTE",
          `NTFS record ${number}`,
          -1,
          at + LEAST_ATTRIBUTE <= end
            ? `an attribute of ${length} bytes at ${at}, ${end} in use`
            : `its attributes have no end, ${end} bytes in use`,
          { text: `Corrupt inode (${number})` },
        ),
      };
    attributes.push(new Attribute(number, b, at));
    at += length;
  }
}

/** Least bytes of the values that have a fixed part, by attribute type. */
const LEAST_VALUE: ReadonlyMap<number, readonly [bytes: number, name: string]> = new Map([
  [AT.standardInformation, [48, "standard information"]],
  [AT.fileName, [FN.name, "file name attribute"]],
  [AT.objectId, [16, "object id"]],
  [AT.volumeInformation, [VI.flags + 2, "volume information"]],
  [AT.indexRoot, [IR.header + INDEX_HEADER, "index root"]],
]);

/** A signed 64-bit number as native compares it there: without its sign. */
function unsigned(v: number): number {
  return v < 0 ? v + 2 ** 64 : v;
}

/** Whether the name of an attribute runs out of it. */
function nameLeaves(a: Attribute): boolean {
  return a.nameLength > 0 && u16le(a.bytes, a.at + ATTR.nameOffset) + a.nameLength * 2 > a.length;
}

/** What is wrong inside the value of a name or of an index root; null where nothing is. */
function valueFault(a: Attribute): string | null {
  const { bytes: b, valueOffset: at, valueLength: length } = a;
  if (at + length > b.length) return null;
  if (a.type === AT.fileName) {
    const units = b[at + FN.nameLength];
    return units === 0 || FN.name + units * 2 > length ? `a name of ${units} units in ${length} bytes` : null;
  }
  if (a.type !== AT.indexRoot) return null;
  const block = u32le(b, at + IR.blockSize);
  if (block === 0 || (block & (block - 1)) !== 0) return `index blocks of ${block} bytes`;
  const [first, used, room] = [0, 4, 8].map((field) => u32le(b, at + IR.header + field));
  return first < INDEX_HEADER || first > used || used > room || room > length - IR.header
    ? `entries from ${first} to ${used} of ${room} in ${length} bytes`
    : null;
}

/**
 * Checks a record and each of its attributes, as native does with the records that $MFTMirr holds; null where all are
 * sound.
 */
export function checkWhole(b: Uint8Array, number: number): NtfsError | null {
  const wrong = checkRecord(b, number);
  if (wrong !== null) return wrong;
  const bad = (detail: string, text: string) =>
    new NtfsError("NTFS_BAD_RECORD", `NTFS record ${number}`, -1, detail, { text });
  const used = u32le(b, REC.inUse);
  if (used > b.length)
    return bad(`${used} bytes in use`, `Record ${number} has corrupt in-use size (${used} > ${b.length})`);
  const { attributes, damage } = recordAttributes(b, number);
  let last = 0;
  for (const a of attributes) {
    const type = a.type.toString(16);
    if (a.type < last)
      return bad(`attribute 0x${type} behind 0x${last.toString(16)}`, `Bad end of MFT record ${number}`);
    last = a.type;
    const least = LEAST_VALUE.get(a.type);
    if (a.nonResident) {
      const pairs = u16le(b, a.at + ATTR.mappingPairs);
      if (
        least !== undefined ||
        a.length < NON_RESIDENT_HEADER ||
        pairs >= a.length ||
        nameLeaves(a) ||
        unsigned(a.lowestVcn) > unsigned(a.highestVcn)
      )
        return bad(
          `attribute 0x${type} of ${a.length} bytes, mapping pairs at ${pairs}`,
          `Corrupt non resident attribute 0x${type} in MFT record ${number}`,
        );
    } else {
      const value = a.valueOffset - a.at;
      if ((a.valueLength > 0 && value + a.valueLength > a.length) || nameLeaves(a))
        return bad(
          `attribute 0x${type} of ${a.length} bytes, a value of ${a.valueLength} at ${value}`,
          `Corrupt resident attribute 0x${type} in MFT record ${number}`,
        );
      if (least !== undefined && a.valueLength < least[0])
        return bad(`${least[1]} of ${a.valueLength} bytes`, `Corrupt ${least[1]} in MFT record ${number}`);
      const inside = least === undefined ? null : valueFault(a);
      if (inside !== null) return bad(inside, `Corrupt ${least![1]} in MFT record ${number}.`);
    }
  }
  if (damage === null) return null;
  const text =
    u32le(b, REC.inUse) < REC_HEADER + 8
      ? `Bad end of MFT record ${number}`
      : `Corrupted MFT record ${number}`;
  return bad(damage.message, text);
}
