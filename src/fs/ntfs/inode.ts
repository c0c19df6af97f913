import type { Source } from "../../io/source.ts";
import { type ListEntry, parseAttributeList } from "./attribute-list.ts";
import type { BootSector } from "./boot.ts";
import { ENOENT, NtfsError } from "./errors.ts";
import { AT, MOST_ATTRIBUTE_LIST } from "./layout.ts";
import type { Mft } from "./mft.ts";
import {
  type Attribute,
  checkRecord,
  checkWhole,
  recordAttributes,
  recordInUse,
  recordIsDirectory,
  recordSequence,
} from "./record.ts";
import { readRuns } from "./run-reader.ts";
import { checkRuns } from "./runlist.ts";

/** Extension records one inode may have, bytes: more than a list of the longest kind can name in 4 KiB records. */
const MOST_EXTENSION_BYTES = 1 << 26;

/** A base record with all its attributes, those in extension records too. */
export interface Inode {
  readonly number: number;
  readonly sequence: number;
  readonly directory: boolean;
  /** Its base record, fixups removed. */
  readonly bytes: Uint8Array;
  /** Every extent of every attribute, in the order of the attribute list (of the record, where there is none). */
  readonly attributes: readonly Attribute[];
  /** Why the enumeration ended early; native stops there too, without a word. null where it is complete. */
  readonly damage: NtfsError | null;
}

/** What reading inodes needs of a volume. */
export interface NtfsParts {
  readonly source: Source;
  readonly boot: BootSector;
  readonly mft: Mft;
}

/**
 * Opens inode `number`. Throws NtfsError with native's errno: ENOENT for a record that is not in use or has no standard
 * information; EIO for one that is corrupt (both are skipped by a walk). As in native, an extension of another record
 * that has standard information of its own is opened too: walks step over those by themselves.
 */
export async function readInode(parts: NtfsParts, number: number): Promise<Inode> {
  const r = parts.mft.read(number);
  return inodeOf(parts, number, r instanceof Promise ? await r : r);
}

/** As `readInode`, and checks the base record attribute by attribute first, whatever is looked at later. */
export async function readWholeInode(parts: NtfsParts, number: number): Promise<Inode> {
  const r = parts.mft.read(number);
  const bytes = r instanceof Promise ? await r : r;
  const wrong = checkWhole(bytes, number);
  if (wrong !== null) throw wrong;
  return inodeOf(parts, number, bytes);
}

/** As `readInode`, for a base record that has been read (fixups removed; a copy that may be kept). */
export async function inodeOf(parts: NtfsParts, number: number, bytes: Uint8Array): Promise<Inode> {
  const wrong = checkRecord(bytes, number);
  if (wrong !== null) throw wrong;
  if (!recordInUse(bytes)) throw notThere(number, "not in use");
  const own = recordAttributes(bytes, number);
  const damaged = (before: number): boolean =>
    own.damage !== null && !own.attributes.some((a) => a.type > before);
  const standard = firstOf(own.attributes, AT.standardInformation);
  if (standard === null) {
    if (damaged(AT.standardInformation)) throw own.damage!;
    throw notThere(number, "no standard information", `No STANDARD_INFORMATION in base record ${number}`);
  }
  if (standard.valueLength < LEAST_STANDARD)
    throw new NtfsError("NTFS_BAD_RECORD", standard.structure, -1, `${standard.valueLength} bytes`, {
      text: `Corrupt STANDARD_INFORMATION in base record ${number}`,
    });
  const list = firstOf(own.attributes, AT.attributeList);
  const head = { number, sequence: recordSequence(bytes), directory: recordIsDirectory(bytes), bytes };
  if (list === null) {
    // Native looks for the unnamed data before it enumerates anything.
    if (damaged(AT.data - 1)) throw own.damage!;
    return { ...head, attributes: own.attributes, damage: own.damage };
  }
  const content = await readAttributeList(parts, list);
  const { entries, damage } = parseAttributeList(content, number);
  const extensions = new Extensions(parts, number, bytes, own.attributes);
  // Native looks for the unnamed data before it enumerates anything: what fails here costs the whole inode.
  const data = entries.find((e) => e.type > AT.data || (e.type === AT.data && e.name === ""));
  if (data === undefined && damage !== null) throw damage;
  if (data !== undefined && data.type === AT.data) {
    const met = await extensions.find(data);
    if (met instanceof NtfsError) throw met;
    extensions.rewind();
  }
  const attributes: Attribute[] = [];
  let last = -1;
  for (const entry of entries) {
    if (last >= 0 && last < AT.attributeList && entry.type > AT.attributeList) attributes.push(list);
    last = entry.type;
    const met = await extensions.find(entry);
    if (met instanceof NtfsError) return { ...head, attributes, damage: met };
    if (met !== null) attributes.push(met);
  }
  return { ...head, attributes, damage };
}

/** Bytes of the oldest kind of standard information. */
const LEAST_STANDARD = 48;

/** The first attribute of a type, looked for as native does: in a sorted record. */
function firstOf(attributes: readonly Attribute[], type: number): Attribute | null {
  const first = attributes.find((a) => a.type >= type);
  return first !== undefined && first.type === type ? first : null;
}

function notThere(number: number, detail: string, text = ""): NtfsError {
  return new NtfsError("NTFS_NO_RECORD", `NTFS record ${number}`, -1, detail, { text, errno: ENOENT });
}

/** The bytes of an attribute list. Throws NTFS_BAD_ATTRIBUTE_LIST for one that is empty or longer than any can be. */
export async function readAttributeList(
  parts: { readonly source: Source; readonly boot: BootSector },
  list: Attribute,
): Promise<Uint8Array> {
  const { size } = list;
  if (!(size > 0 && size <= MOST_ATTRIBUTE_LIST))
    throw new NtfsError("NTFS_BAD_ATTRIBUTE_LIST", list.structure, -1, `a list of ${size} bytes`, {
      text: `Too large attrlist attribute (${size}), inode ${list.record}`,
    });
  if (!list.nonResident) return list.value;
  const content = new Uint8Array(size);
  const runs = list.runsWithin(parts.boot.clusterSize);
  checkRuns(runs, parts.boot.clusters + 1, list.structure);
  const r = readRuns(parts.source, parts.boot.clusterSize, runs, content, 0, list.structure);
  if (r instanceof Promise) await r;
  return content;
}

/** The records of one inode, read as its attribute list leads to them. */
class Extensions {
  private readonly parts: NtfsParts;
  private readonly inode: number;
  private readonly mostRecords: number;
  private readonly sequences = new Map<number, number>();
  private readonly records = new Map<number, ReadonlyMap<number, Attribute> | NtfsError>();
  private current: number;

  constructor(parts: NtfsParts, inode: number, base: Uint8Array, own: readonly Attribute[]) {
    this.parts = parts;
    this.inode = inode;
    this.current = inode;
    this.mostRecords = MOST_EXTENSION_BYTES / parts.boot.recordSize;
    this.records.set(inode, byInstance(own));
    this.sequences.set(inode, recordSequence(base));
  }

  /** Starts anew from the base record. */
  rewind(): void {
    this.current = this.inode;
  }

  /**
   * The attribute an entry stands for; null where its record has none of that instance (native goes on then); the error
   * that ends the enumeration.
   */
  async find(entry: ListEntry): Promise<Attribute | null | NtfsError> {
    let known = this.records.get(entry.record);
    if (known === undefined) {
      known = this.records.size > this.mostRecords ? this.tooMany() : await this.load(entry.record);
      this.records.set(entry.record, known);
    }
    if (known instanceof NtfsError) return known;
    const sequence = this.sequences.get(entry.record)!;
    if (entry.record === this.current) {
      if (entry.sequence !== sequence)
        return this.stale(entry, sequence, "Found stale mft reference in attribute list!");
    } else if (entry.record !== this.inode && entry.sequence !== 0 && entry.sequence !== sequence) {
      const text = `Record ${entry.record} has wrong SeqNo (${entry.sequence} <> ${sequence})`;
      return this.stale(entry, sequence, text);
    }
    this.current = entry.record;
    const attribute = known.get(entry.instance);
    if (attribute === undefined) return null;
    if (attribute.type === entry.type && attribute.name === entry.name) return attribute;
    return this.bad(
      `attribute 0x${entry.type.toString(16)} instance ${entry.instance} is 0x${attribute.type.toString(16)} in record ${entry.record}`,
    );
  }

  private async load(number: number): Promise<ReadonlyMap<number, Attribute> | NtfsError> {
    try {
      const r = this.parts.mft.read(number);
      const bytes = r instanceof Promise ? await r : r;
      const wrong = checkRecord(bytes, number);
      if (wrong !== null) return wrong;
      this.sequences.set(number, recordSequence(bytes));
      return byInstance(recordAttributes(bytes, number).attributes);
    } catch (error) {
      if (error instanceof NtfsError) return error;
      throw error;
    }
  }

  private tooMany(): NtfsError {
    return this.bad(`more than ${this.records.size} records`);
  }

  private bad(detail: string): NtfsError {
    return new NtfsError(
      "NTFS_BAD_ATTRIBUTE_LIST",
      `NTFS attribute list of record ${this.inode}`,
      -1,
      detail,
      {
        text: `Corrupt attribute list entry in MFT record ${this.inode}`,
      },
    );
  }

  private stale(entry: ListEntry, sequence: number, text: string): NtfsError {
    return new NtfsError(
      "NTFS_STALE_REFERENCE",
      `NTFS attribute list of record ${this.inode}`,
      -1,
      `record ${entry.record} has sequence number ${sequence}, not ${entry.sequence}`,
      { text },
    );
  }
}

/** The first attribute of each instance number. */
function byInstance(attributes: readonly Attribute[]): ReadonlyMap<number, Attribute> {
  const map = new Map<number, Attribute>();
  for (const a of attributes) if (!map.has(a.instance)) map.set(a.instance, a);
  return map;
}

/** All extents of one attribute of an inode, ascending by VCN. */
export function extentsOf(inode: Inode, type: number, name = ""): Attribute[] {
  return inode.attributes
    .filter((a) => a.type === type && a.name === name)
    .sort((a, b) => (a.nonResident && b.nonResident ? a.lowestVcn - b.lowestVcn : 0));
}
