import { BlockSet } from "../../bytes/block-set.ts";
import { u16le } from "../../bytes/endian.ts";
import { NtfsError } from "./errors.ts";
import { isUsable, RECORD_UNREADABLE } from "./fixup.ts";
import { readIndex } from "./index.ts";
import { inodeOf, type NtfsParts } from "./inode.ts";
import { AT, FILE_ROOT, FN, NAMESPACE } from "./layout.ts";
import {
  type Attribute,
  isExtension,
  recordAttributes,
  recordInUse,
  recordIsDirectory,
  refNumber,
  utf16,
} from "./record.ts";
import { HOLE_LCN, RUN } from "./runlist.ts";
import { isSkipped, KIND_VISIT, RunScan } from "./walk.ts";

/** Folders above a file that are named; what lies deeper, or in a ring, is cut off. */
const MOST_DEPTH = 256;

/** One name of a file: a hard link, or the short name beside a long one. */
export interface FileName {
  readonly name: string;
  /** Record of the folder it stands in, and the sequence number that record should have. */
  readonly parent: number;
  readonly parentSequence: number;
  /** 0 POSIX, 1 Win32, 2 DOS, 3 both Win32 and DOS. */
  readonly namespace: number;
}

/** The name a $FILE_NAME attribute holds, or null where it is corrupt. */
function fileNameOf(attribute: Attribute): FileName | null {
  if (attribute.nonResident) return null;
  const at = attribute.valueOffset;
  const { bytes: b } = attribute;
  const length = attribute.valueLength;
  if (length < FN.name || at + length > b.length) return null;
  const units = b[at + FN.nameLength];
  if (FN.name + units * 2 > length) return null;
  return {
    name: utf16(b, at + FN.name, units),
    parent: refNumber(b, at + FN.parent),
    parentSequence: u16le(b, at + FN.parentSequence),
    namespace: b[at + FN.namespace],
  };
}

/** The names that attributes hold, short names beside long ones left out. */
function longNames(attributes: readonly Attribute[]): FileName[] {
  const names: FileName[] = [];
  for (const a of attributes) {
    if (a.type !== AT.fileName) continue;
    const name = fileNameOf(a);
    if (name !== null) names.push(name);
  }
  const long = names.filter((n) => n.namespace !== NAMESPACE.dos);
  return long.length > 0 ? long : names;
}

/** Paths of files, found upwards: each folder is looked up once. */
export class Paths {
  private readonly parts: NtfsParts;
  private readonly folders = new Map<number, string | null>();

  constructor(parts: NtfsParts) {
    this.parts = parts;
  }

  /**
   * The paths of the file with these names, "/"-separated from the root; a name whose folder is gone or replaced starts
   * with "<orphan>". Empty where it has no name.
   */
  async of(names: readonly FileName[]): Promise<string[]> {
    const paths: string[] = [];
    for (const n of names) {
      const folder = await this.folder(n.parent, n.parentSequence);
      paths.push(`${folder ?? "<orphan>"}/${n.name}`);
    }
    return paths;
  }

  /** Path of a folder without a slash at its end ("" for the root), or null where it does not lead to the root. */
  private async folder(number: number, sequence: number): Promise<string | null> {
    const keys: number[] = [];
    const names: string[] = [];
    let path: string | null = null;
    for (let at = { parent: number, parentSequence: sequence }; ; ) {
      if (at.parent === FILE_ROOT) {
        path = "";
        break;
      }
      const key = at.parent * 0x10000 + at.parentSequence;
      const known = this.folders.get(key);
      if (known !== undefined) {
        path = known;
        break;
      }
      const next = keys.length < MOST_DEPTH ? await this.nameOf(at.parent, at.parentSequence) : null;
      // A ring of folders ends here too: what is on the way up counts as unknown.
      this.folders.set(key, null);
      if (next === null) break;
      keys.push(key);
      names.push(next.name);
      at = next;
    }
    for (let i = keys.length - 1; i >= 0; i--) {
      if (path !== null) path = `${path}/${names[i]}`;
      this.folders.set(keys[i], path);
    }
    return path;
  }

  private async nameOf(number: number, sequence: number): Promise<FileName | null> {
    try {
      const r = this.parts.mft.read(number);
      const bytes = r instanceof Promise ? await r : r;
      if (!recordInUse(bytes) || isExtension(bytes)) return null;
      const inode = await inodeOf(this.parts, number, bytes);
      if (sequence !== 0 && inode.sequence !== sequence) return null;
      return longNames(inode.attributes)[0] ?? null;
    } catch (error) {
      if (isSkipped(error)) return null;
      throw error;
    }
  }
}

/** A file, or a part of the filesystem, that lies on some clusters. */
export interface FileOnClusters {
  /** Record number. */
  readonly record: number;
  /** Its paths: more than one for hard links. "<record 17>" where it has no name. */
  readonly paths: readonly string[];
  /** What of it: "" for its contents, else the stream's or the attribute's name (":stream", "$INDEX_ROOT" ...). */
  readonly part: string;
  /** Byte ranges of that part that lie on the clusters: (from, to), ascending. */
  readonly ranges: readonly (readonly [from: number, to: number])[];
}

const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [AT.attributeList, "$ATTRIBUTE_LIST"],
  [AT.securityDescriptor, "$SECURITY_DESCRIPTOR"],
  [AT.indexAllocation, "$INDEX_ALLOCATION"],
  [AT.bitmap, "$BITMAP"],
  [AT.reparsePoint, "$REPARSE_POINT"],
  [AT.ea, "$EA"],
  [AT.loggedUtilityStream, "$LOGGED_UTILITY_STREAM"],
]);

/** What of a file an attribute is: "" for its contents, ":name" for a named stream, "$BITMAP" and the like. */
function partName(attribute: Attribute): string {
  const { type, name } = attribute;
  if (type === AT.data) return name === "" ? "" : `:${name}`;
  const kind = TYPE_NAMES.get(type) ?? `attribute 0x${type.toString(16)}`;
  return name === "" ? kind : `${kind}:${name}`;
}

/** The clusters that byte ranges (from, to) of a volume touch. */
export function clustersOf(
  parts: NtfsParts,
  ranges: Iterable<readonly [from: number, to: number]>,
): BlockSet {
  const { clusterSize, clusters } = parts.boot;
  const set = new BlockSet(clusters + 1);
  for (const [from, to] of ranges) set.add(Math.floor(from / clusterSize), Math.ceil(to / clusterSize));
  return set;
}

/**
 * The files that lie on clusters of a set, by record number; records of files whose own $MFT records lie there are
 * among them (part "$MFT record"). Files whose records cannot be read are named by their folders.
 */
export async function filesOn(parts: NtfsParts, clusters: BlockSet): Promise<FileOnClusters[]> {
  const { mft, boot } = parts;
  const paths = new Paths(parts);
  const found: FileOnClusters[] = [];
  const unreadable = new Set<number>();
  const scan = new RunScan(parts);
  const { records, triples } = scan;
  const size = mft.recordSize;
  try {
    for (;;) {
      const more = scan.next();
      if (!(more instanceof Promise ? await more : more)) break;
      // Most batches own nothing on a few clusters: then only records the kernel could not judge are looked at.
      const n = scan.classify();
      let near = false;
      const odd = new Set<number>();
      for (let i = 0; i < n * 3; i += 3) {
        if (triples[i + 1] >>> 16 === KIND_VISIT) odd.add(triples[i]);
        else if (!near) {
          const lcn = (triples[i + 1] & 0xffff) * 0x100000000 + triples[i];
          near = onSet(clusters, lcn, lcn + triples[i + 2]);
        }
      }
      for (let i = 0; i < records.count; i++) {
        const place = mft.place(records.first + i);
        const lies =
          place >= 0 &&
          onSet(clusters, Math.floor(place / boot.clusterSize), Math.ceil((place + size) / boot.clusterSize));
        if (!near && !lies && !odd.has(i)) continue;
        if (lies && records.states[i] === RECORD_UNREADABLE) unreadable.add(records.first + i);
        const record = records.bytes.subarray(i * size, (i + 1) * size);
        if (!isUsable(records.states[i]) || !recordInUse(record) || isExtension(record)) continue;
        if (lies || touches(record, records.first + i, clusters, boot.clusterSize))
          await addFile(parts, records.first + i, record.slice(), clusters, paths, found);
      }
    }
  } finally {
    scan.close();
  }
  if (unreadable.size > 0) await addUnreadable(parts, unreadable, paths, found);
  return found;
}

/** Files whose records cannot be read: their names are in their folders. Records that no folder knows are left out. */
async function addUnreadable(
  parts: NtfsParts,
  records: ReadonlySet<number>,
  paths: Paths,
  found: FileOnClusters[],
): Promise<void> {
  const names = await namesInFolders(parts, records);
  const size = parts.mft.recordSize;
  for (const [record, known] of names)
    found.push({
      record,
      paths: await paths.of(known),
      part: "$MFT record",
      ranges: [[record * size, (record + 1) * size]],
    });
  found.sort((a, b) => a.record - b.record);
}

/** Names that folders have for some records, found by reading every folder. Folders that are corrupt are left out. */
async function namesInFolders(
  parts: NtfsParts,
  wanted: ReadonlySet<number>,
): Promise<Map<number, FileName[]>> {
  const names = new Map<number, FileName[]>();
  const scan = parts.mft.scan();
  const size = parts.mft.recordSize;
  try {
    for (;;) {
      const more = scan.next();
      if (!(more instanceof Promise ? await more : more)) return names;
      for (let i = 0; i < scan.count; i++) {
        const record = scan.bytes.subarray(i * size, (i + 1) * size);
        if (!isUsable(scan.states[i]) || !recordInUse(record)) continue;
        if (!recordIsDirectory(record) || isExtension(record)) continue;
        try {
          const folder = await inodeOf(parts, scan.first + i, record.slice());
          for (const e of await readIndex(parts, folder)) {
            if (!wanted.has(e.record) || e.name === ".") continue;
            const name = { ...e, parent: folder.number, parentSequence: folder.sequence };
            names.set(e.record, [...(names.get(e.record) ?? []), name]);
          }
        } catch (error) {
          if (!isSkipped(error)) throw error;
        }
      }
    }
  } finally {
    scan.close();
  }
}

/** True where a record's own attributes lie on the set, or where it has more of them elsewhere. */
function touches(record: Uint8Array, number: number, set: BlockSet, clusterSize: number): boolean {
  return recordAttributes(record, number).attributes.some(
    (a) => a.type === AT.attributeList || (a.nonResident && rangesOn(a, set, clusterSize).length > 0),
  );
}

async function addFile(
  parts: NtfsParts,
  number: number,
  bytes: Uint8Array,
  clusters: BlockSet,
  paths: Paths,
  found: FileOnClusters[],
): Promise<void> {
  const { clusterSize } = parts.boot;
  let attributes: readonly Attribute[];
  try {
    attributes = (await inodeOf(parts, number, bytes)).attributes;
  } catch (error) {
    if (!isSkipped(error)) throw error;
    return;
  }
  const byPart = new Map<string, [number, number][]>();
  const records = new Set([number]);
  for (const a of attributes) {
    records.add(a.record);
    if (!a.nonResident) continue;
    const ranges = rangesOn(a, clusters, clusterSize);
    if (ranges.length > 0) byPart.set(partName(a), [...(byPart.get(partName(a)) ?? []), ...ranges]);
  }
  for (const record of records) {
    const at = parts.mft.place(record);
    const size = parts.mft.recordSize;
    if (at >= 0 && onSet(clusters, Math.floor(at / clusterSize), Math.ceil((at + size) / clusterSize)))
      byPart.set("$MFT record", [...(byPart.get("$MFT record") ?? []), [record * size, (record + 1) * size]]);
  }
  if (byPart.size === 0) return;
  const named = number === FILE_ROOT ? ["/"] : await paths.of(longNames(attributes));
  for (const [part, ranges] of byPart)
    found.push({
      record: number,
      paths: named.length > 0 ? named : [`<record ${number}>`],
      part,
      ranges: ranges.sort((a, b) => a[0] - b[0]),
    });
}

function onSet(set: BlockSet, from: number, to: number): boolean {
  return set.firstMember(from, to) < to;
}

/** Byte ranges of an attribute's extent that lie on clusters of the set; none where its run list is corrupt. */
function rangesOn(attribute: Attribute, set: BlockSet, clusterSize: number): [number, number][] {
  const ranges: [number, number][] = [];
  try {
    const { runs } = attribute;
    for (let i = 0; i < runs.length; i += RUN) {
      const [vcn, lcn, length] = runs.subarray(i, i + RUN);
      if (lcn === HOLE_LCN) continue;
      const end = Math.min(lcn + length, set.limit);
      for (let at = set.firstMember(lcn, end); at < end; ) {
        const stop = set.firstMissing(at, end);
        const from = (vcn + at - lcn) * clusterSize;
        const last = ranges[ranges.length - 1];
        if (last !== undefined && last[1] === from) last[1] = (vcn + stop - lcn) * clusterSize;
        else ranges.push([from, (vcn + stop - lcn) * clusterSize]);
        at = set.firstMember(stop, end);
      }
    }
  } catch (error) {
    if (!(error instanceof NtfsError)) throw error;
  }
  return ranges;
}
