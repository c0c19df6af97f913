import { putU32le, u16le, u32le } from "../../../bytes/endian.ts";
import { OLD_INODE_SIZE, XATTR_MAGIC } from "../layout.ts";
import { DOMAIN, type Keys } from "./keys.ts";
import {
  XATTR_ACL_ACCESS,
  XATTR_ACL_DEFAULT,
  XATTR_BLOCK_HASH,
  XATTR_BLOCK_HEADER,
  XATTR_ENCRYPTION,
  XATTR_ENTRY,
  XATTR_SECURITY,
  XATTR_SYSTEM,
  XATTR_USER,
  XATTR_VERITY,
} from "./layout.ts";
import type { KeptCounter } from "./report.ts";
import type { Words } from "./words.ts";

/** One attribute where it stands. Offsets are bytes into the area's array. */
export interface Attribute {
  readonly at: number;
  readonly index: number;
  readonly nameLength: number;
  /** Where the value is, or -1 where an inode of its own holds it. */
  readonly valueAt: number;
  readonly size: number;
  /** Inode that holds the value, or 0. */
  readonly inode: number;
}

/** A place that holds attributes: a block, or the end of an inode. */
export interface AttributeArea {
  readonly entries: readonly Attribute[];
  /** One past the last entry. */
  readonly entriesEnd: number;
  readonly end: number;
  /** False where the list broke off; what follows cannot be read. */
  readonly whole: boolean;
}

/** Where an inode's attributes start (behind their magic), or -1 where it has none. */
function inodeAttributesStart(inode: Uint8Array): number {
  if (inode.length <= OLD_INODE_SIZE) return -1;
  const start = OLD_INODE_SIZE + u16le(inode, OLD_INODE_SIZE);
  if ((start & 3) !== 0 || start + 4 > inode.length || u32le(inode, start) !== XATTR_MAGIC) return -1;
  return start + 4;
}

/** Lists the attributes from `first` of `b`; values are found from `base`. */
function listAttributes(b: Uint8Array, first: number, base: number, end: number): AttributeArea {
  const entries: Attribute[] = [];
  let at = first;
  let whole = true;
  for (; at + 4 <= end && u32le(b, at) !== 0; ) {
    const nameLength = at < end ? b[at] : 0;
    if (at + XATTR_ENTRY + nameLength > end) {
      whole = false;
      break;
    }
    const inode = u32le(b, at + 4);
    const size = u32le(b, at + 8);
    const valueAt = inode !== 0 ? -1 : base + u16le(b, at + 2);
    if (inode === 0 && size > 0 && valueAt + size > end) {
      whole = false;
      break;
    }
    entries.push({ at, index: b[at + 1], nameLength, valueAt, size, inode });
    at += (XATTR_ENTRY + nameLength + 3) & ~3;
  }
  return { entries, entriesEnd: Math.min(at, end), end, whole };
}

/** The attribute area of an inode's bytes, or null. */
export function inodeAttributes(inode: Uint8Array): AttributeArea | null {
  const start = inodeAttributesStart(inode);
  return start < 0 ? null : listAttributes(inode, start, start, inode.length);
}

export function blockAttributes(block: Uint8Array): AttributeArea | null {
  if (u32le(block, 0) !== XATTR_MAGIC) return null;
  return listAttributes(block, XATTR_BLOCK_HEADER, 0, block.length);
}

function isInlineData(b: Uint8Array, a: Attribute): boolean {
  if (a.index !== XATTR_SYSTEM || a.nameLength !== 4) return false;
  return u32le(b, a.at + XATTR_ENTRY) === 0x61746164;
}

/** The attribute that goes on where i_block ends, for inline contents. */
export function inlineDataOf(b: Uint8Array, area: AttributeArea | null): Attribute | null {
  return area?.entries.find((a) => isInlineData(b, a) && a.inode === 0) ?? null;
}

/**
 * True for a POSIX ACL as ext stores it: version 1, then entries of tag, permissions and, for some, an id.
 */
function isAcl(value: Uint8Array): boolean {
  if (value.length < 4 || u32le(value, 0) !== 1) return false;
  let at = 4;
  while (at + 4 <= value.length) {
    const tag = u16le(value, at);
    if (![1, 2, 4, 8, 0x10, 0x20].includes(tag) || u16le(value, at + 2) > 7) return false;
    at += tag === 2 || tag === 8 ? 8 : 4;
  }
  return at === value.length;
}

/** True for file capabilities: sets of bits, and in revision 3 a user id. */
function isCapability(name: string, value: Uint8Array): boolean {
  if (name !== "capability") return false;
  const size = [0, 12, 20, 24][value[3] ?? 0];
  return value.length === size;
}

const decoder = new TextDecoder("latin1");

function nameOf(b: Uint8Array, a: Attribute): string {
  return decoder.decode(b.subarray(a.at + XATTR_ENTRY, a.at + XATTR_ENTRY + a.nameLength));
}

/** Why a value stays as it is; null where it is replaced. */
function keptBecause(b: Uint8Array, a: Attribute): { what: string; why: string } | null {
  if (a.index === XATTR_ENCRYPTION)
    return {
      what: "encryption contexts",
      why: "a policy, a key's identifier and a nonce; the kernel needs them",
    };
  if (a.index === XATTR_VERITY)
    return { what: "verity descriptors", why: "the place of a hash tree; the kernel needs it" };
  if (a.valueAt < 0 || a.size === 0) return null;
  const value = b.subarray(a.valueAt, a.valueAt + a.size);
  if ((a.index === XATTR_ACL_ACCESS || a.index === XATTR_ACL_DEFAULT) && isAcl(value))
    return { what: "POSIX ACLs", why: "they hold user and group numbers and permissions, no names" };
  if (a.index === XATTR_SECURITY && isCapability(nameOf(b, a), value))
    return { what: "file capabilities", why: "they hold bits, no names" };
  return null;
}

/** Step of an entry's hash over bytes of its name; `signed` is a variant that is about as well. */
function nameHash(b: Uint8Array, a: Attribute, signed: boolean): number {
  let h = 0;
  for (let i = 0; i < a.nameLength; i++) {
    const c = b[a.at + XATTR_ENTRY + i];
    h = (h << 5) ^ (h >>> 27) ^ (signed ? (c << 24) >> 24 : c);
  }
  return h;
}

function valueHash(h: number, word: number): number {
  return (h << 16) ^ (h >>> 16) ^ word;
}

function entryHash(b: Uint8Array, a: Attribute, inodeHash: number, signed: boolean): number {
  let h = nameHash(b, a, signed);
  if (a.inode !== 0) return valueHash(h, inodeHash) >>> 0;
  for (let i = 0; i < a.size; i += 4) {
    let word = 0;
    for (let k = 0; k < 4 && i + k < a.size; k++) word |= b[a.valueAt + i + k] << (8 * k);
    h = valueHash(h, word);
  }
  return h >>> 0;
}

/** Different names of user attributes, and what each becomes. */
export class AttributeNames {
  private readonly byLength = new Map<number, Map<string, Uint8Array | null>>();

  get count(): number {
    let n = 0;
    for (const names of this.byLength.values()) n += names.size;
    return n;
  }

  add(name: string): void {
    let names = this.byLength.get(name.length);
    if (names === undefined) {
      names = new Map();
      this.byLength.set(name.length, names);
    }
    names.set(name, null);
  }

  /** Gives every name another, in the same order: attribute blocks are kept sorted. */
  assign(keys: Keys): void {
    for (const [length, names] of this.byLength) {
      const fresh: string[] = [];
      for (let k = 0; fresh.length < names.size && k < names.size * 2 + 4096; k++) {
        const name = keys.name(DOMAIN.attributeName, length, length, k);
        if (name !== null) fresh.push(decoder.decode(name));
      }
      if (fresh.length < names.size) continue;
      fresh.sort(byBytes);
      [...names.keys()].sort(byBytes).forEach((name, i) => {
        names.set(
          name,
          Uint8Array.from(fresh[i], (c) => c.charCodeAt(0)),
        );
      });
    }
  }

  get(name: string): Uint8Array | null {
    return this.byLength.get(name.length)?.get(name) ?? null;
  }
}

function byBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Notes names and values of an area, for the search and the replacement of names. Returns the values
 * replaced.
 */
export function noteAttributes(
  b: Uint8Array,
  area: AttributeArea,
  names: AttributeNames,
  words: Words,
  kept: KeptCounter,
): number {
  let values = 0;
  for (const a of area.entries) {
    if (a.index === XATTR_USER && a.nameLength > 0) {
      const at = a.at + XATTR_ENTRY;
      names.add(nameOf(b, a));
      words.add(b.subarray(at, at + a.nameLength), "attribute name");
    } else if (a.nameLength > 0 && !isInlineData(b, a))
      kept.add("attribute names outside user.*", "they name a use, not a file");
    if (isInlineData(b, a)) continue;
    const why = keptBecause(b, a);
    if (why !== null) kept.add(why.what, why.why);
    else if (a.inode !== 0 || a.size > 0) values++;
    if (why === null && a.valueAt >= 0) words.add(b.subarray(a.valueAt, a.valueAt + a.size), "value");
  }
  return values;
}

/** What replacing attributes needs to know. */
export interface AttributeContext {
  readonly keys: Keys;
  readonly names: AttributeNames;
  /** Hash of the value an inode holds: before and after. */
  inodeHash(ino: number): { readonly before: number; readonly after: number } | null;
}

/**
 * Replaces names and values of an area in place, zeroes what lies between them, and brings the entries'
 * hashes up to date: a hash that was absent stays so, one that was wrong stays wrong. "system.data" is left
 * to the caller. `n` keys the text.
 */
export function replaceAttributes(
  b: Uint8Array,
  area: AttributeArea,
  context: AttributeContext,
  n: number,
): void {
  const old = b.slice(0, area.end);
  const hashes = area.entries.map((a) => {
    const stored = u32le(old, a.at + 12);
    if (stored === 0) return { stored, signed: false, right: false, before: 0 };
    const inodeHash = a.inode === 0 ? 0 : (context.inodeHash(a.inode)?.before ?? 0);
    const before = entryHash(old, a, inodeHash, false);
    const signed = before !== stored && entryHash(old, a, inodeHash, true) === stored;
    return { stored, signed, right: signed || before === stored, before };
  });
  b.fill(0, Math.min(area.entriesEnd + 4, area.end), area.end);
  if (area.entriesEnd + 4 > area.end) b.fill(0, area.entriesEnd, area.end);
  if (!area.whole) b.fill(0, area.entriesEnd, area.end);
  area.entries.forEach((a, i) => {
    const nameAt = a.at + XATTR_ENTRY;
    b.fill(0, nameAt + a.nameLength, Math.min((nameAt + a.nameLength + 3) & ~3, area.end));
    if (a.index === XATTR_USER) {
      const name = context.names.get(nameOf(old, a));
      if (name !== null) b.set(name, nameAt);
    }
    if (a.valueAt >= 0 && a.size > 0) {
      const value = b.subarray(a.valueAt, a.valueAt + a.size);
      if (isInlineData(old, a) || keptBecause(old, a) !== null)
        value.set(old.subarray(a.valueAt, a.valueAt + a.size));
      else context.keys.fill(value, DOMAIN.value, n * 4096 + i);
    }
  });
  area.entries.forEach((a, i) => {
    const h = hashes[i];
    if (h.stored === 0) return;
    const inodeHash = a.inode === 0 ? 0 : (context.inodeHash(a.inode)?.after ?? 0);
    const after = entryHash(b, a, inodeHash, h.signed);
    putU32le(b, a.at + 12, h.right ? after : (h.stored ^ h.before ^ after) >>> 0);
  });
}

/** Hash of an attribute block's header: over the entries' hashes, 0 where one has none. */
export function blockHash(b: Uint8Array, area: AttributeArea): number {
  let h = 0;
  for (const a of area.entries) {
    const e = u32le(b, a.at + 12);
    if (e === 0) return 0;
    h = (h << 16) ^ (h >>> 16) ^ e;
  }
  return h >>> 0;
}

/** Brings the header's hash up to date where it was right. */
export function moveBlockHash(b: Uint8Array, area: AttributeArea, before: number): void {
  if (u32le(b, XATTR_BLOCK_HASH) === before) putU32le(b, XATTR_BLOCK_HASH, blockHash(b, area));
}
