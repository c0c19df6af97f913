// Seeded changes to records of NTFS volumes: fields of record and attribute headers, mapping pairs, attribute lists, index
// entries and update sequences, with fixups put right again.
import { closeSync, mkdirSync, openSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { filler, makeVolume } from "./ntfs-broken.ts";
import { type DamagedRecord, DamagedVolume } from "./ntfs-damage.ts";
import type { Random } from "./random.ts";

/** A volume that is mutated. */
export interface MutationBase {
  readonly name: string;
  /** The bytes of the whole volume, to be copied. */
  make(): Promise<Buffer>;
}

function fill(root: string, cluster: number): void {
  // Two files that grow by turns lie in as many pieces as they have clusters.
  const pieces = cluster <= 1024 ? 500 : cluster <= 4096 ? 120 : 6;
  const files = [openSync(join(root, "big"), "w"), openSync(join(root, "other"), "w")];
  for (let i = 0; i < pieces * 2; i++) writeSync(files[i % 2], filler(cluster, i));
  for (const f of files) closeSync(f);
  writeFileSync(join(root, "big:stream"), filler(3000, 2));
  writeFileSync(join(root, "big:small"), "a resident stream");
  mkdirSync(join(root, "dir"));
  for (let i = 0; i < 45; i++) writeFileSync(join(root, "dir", `a file of the directory ${i}`), `text ${i}`);
  mkdirSync(join(root, "few"));
  for (let i = 0; i < 3; i++) writeFileSync(join(root, "few", `one of ${i}`), filler(2000 * i, i));
  writeFileSync(join(root, "plain"), filler(cluster * 3 + 5, 3));
  writeFileSync(join(root, "small"), "resident text of a user");
  writeFileSync(join(root, "empty"), "");
  writeFileSync(join(root, "sparse"), "x");
  truncateSync(join(root, "sparse"), cluster * 40);
}

function base(name: string, size: number, cluster: number, sector = 512): MutationBase {
  const options = ["-c", `${cluster}`, "-s", `${sector}`];
  let made: Promise<Buffer> | null = null;
  return {
    name,
    make: () => {
      made ??= makeVolume(size, options, (root) => fill(root, cluster));
      return made;
    },
  };
}

export const mutationBases: readonly MutationBase[] = [
  base("c512", 3 << 20, 512),
  base("c1k-s1k", 4 << 20, 1024, 1024),
  base("c4k", 6 << 20, 4096),
  base("c4k-s4k", 8 << 20, 4096, 4096),
  base("c64k", 12 << 20, 65536),
];

/** A field that can be changed: its place in `bytes` and its size, and what it is for. */
interface Field {
  readonly at: number;
  readonly size: number;
  readonly what: string;
}

const RECORD_FIELDS: readonly (readonly [at: number, size: number, what: string])[] = [
  [0, 4, "magic"],
  [4, 2, "usa offset"],
  [6, 2, "usa count"],
  [16, 2, "sequence"],
  [18, 2, "links"],
  [20, 2, "attributes offset"],
  [22, 2, "flags"],
  [24, 4, "in use"],
  [28, 4, "allocated"],
  [32, 4, "base reference"],
  [36, 4, "base sequence"],
  [40, 2, "next instance"],
  [44, 4, "number"],
];
const HEAD_FIELDS: readonly (readonly [at: number, size: number, what: string])[] = [
  [0, 4, "type"],
  [4, 4, "length"],
  [8, 1, "non-resident"],
  [9, 1, "name length"],
  [10, 2, "name offset"],
  [12, 2, "flags"],
  [14, 2, "instance"],
];
const RESIDENT_FIELDS: readonly (readonly [at: number, size: number, what: string])[] = [
  [16, 4, "value length"],
  [20, 2, "value offset"],
  [22, 1, "resident flags"],
];
const RUN_FIELDS: readonly (readonly [at: number, size: number, what: string])[] = [
  [16, 8, "lowest vcn"],
  [24, 8, "highest vcn"],
  [32, 2, "pairs offset"],
  [34, 1, "compression unit"],
  [40, 8, "allocated size"],
  [48, 8, "data size"],
  [56, 8, "initialized size"],
];
const LIST_FIELDS: readonly (readonly [at: number, size: number, what: string])[] = [
  [0, 4, "type"],
  [4, 2, "length"],
  [6, 1, "name length"],
  [7, 1, "name offset"],
  [8, 8, "lowest vcn"],
  [16, 4, "reference"],
  [22, 2, "sequence"],
  [24, 2, "instance"],
];
const INDEX_FIELDS: readonly (readonly [at: number, size: number, what: string])[] = [
  [0, 4, "entries offset"],
  [4, 4, "index length"],
  [8, 4, "allocated size"],
  [12, 1, "flags"],
];
const ENTRY_FIELDS: readonly (readonly [at: number, size: number, what: string])[] = [
  [0, 8, "reference"],
  [8, 2, "length"],
  [10, 2, "key length"],
  [12, 2, "flags"],
  [24, 8, "time"],
  [80, 1, "name length"],
];

type Fields = readonly (readonly [number, number, string])[];

/** Adds those fields that lie in `bytes`. */
function add(into: Field[], bytes: Buffer, at: number, fields: Fields, what: string): void {
  for (const [offset, size, name] of fields)
    if (at + offset + size <= bytes.length) into.push({ at: at + offset, size, what: `${what} ${name}` });
}

/** Attributes of a sound record. */
function attributes(b: Buffer): { at: number; type: number; length: number }[] {
  const found = [];
  for (let at = b.readUInt16LE(20); at + 24 <= b.length; ) {
    const type = b.readUInt32LE(at);
    const length = b.readUInt32LE(at + 4);
    if (type === 0xffffffff || length < 24) break;
    found.push({ at, type, length });
    at += length;
  }
  return found;
}

/** Fields of one attribute, by kind. */
function attributeFields(b: Buffer, a: { at: number; type: number; length: number }): Field[][] {
  const name = `0x${a.type.toString(16)}@${a.at}`;
  const head: Field[] = [];
  const inner: Field[] = [];
  add(head, b, a.at, HEAD_FIELDS, name);
  if (b[a.at + 8] !== 0) {
    add(head, b, a.at, RUN_FIELDS, name);
    const from = a.at + b.readUInt16LE(a.at + 32);
    for (let p = from; p < a.at + a.length; p++) {
      if (p > from + 40) break;
      inner.push({ at: p, size: 1, what: `${name} pairs+${p - from}` });
    }
    return [head, inner];
  }
  add(head, b, a.at, RESIDENT_FIELDS, name);
  const value = a.at + b.readUInt16LE(a.at + 20);
  const end = value + b.readUInt32LE(a.at + 16);
  if (a.type === 0x20)
    for (let p = value, i = 0; p + 26 <= end; p += Math.max(b.readUInt16LE(p + 4), 8), i++)
      add(inner, b, p, LIST_FIELDS, `list entry ${i}`);
  else if (a.type === 0x90) {
    add(
      inner,
      b,
      value,
      [
        [0, 4, "type"],
        [4, 4, "collation"],
        [8, 4, "block size"],
        [12, 1, "clusters"],
      ],
      "root",
    );
    add(inner, b, value + 16, INDEX_FIELDS, "root");
    entries(inner, b, value + 16, end, "root");
  } else
    for (let p = value; p < end && p < value + 100; p++)
      inner.push({ at: p, size: 1, what: `${name} value+${p - value}` });
  return [head, inner];
}

function entries(into: Field[], b: Buffer, header: number, end: number, what: string): void {
  for (let p = header + b.readUInt32LE(header), i = 0; p + 16 <= end && i < 8; i++) {
    add(into, b, p, ENTRY_FIELDS, `${what} entry ${i}`);
    if ((b.readUInt16LE(p + 12) & 2) !== 0) break;
    p += Math.max(b.readUInt16LE(p + 8), 16);
  }
}

/** Values worth trying in a field that holds `old`. */
function changed(random: Random, old: bigint, size: number): bigint {
  const bits = BigInt(size * 8);
  const max = (1n << bits) - 1n;
  const step = BigInt([1, 1, 2, 7, 8, 16, 24, 32, 64, 512, 4096][random.below(11)]);
  let v: bigint;
  switch (random.below(9)) {
    case 0:
      v = 0n;
      break;
    case 1:
      v = max;
      break;
    case 2:
      v = max >> 1n;
      break;
    case 3:
    case 4:
      v = old + step;
      break;
    case 5:
      v = old - step;
      break;
    case 6:
      v = old ^ (1n << BigInt(random.below(size * 8)));
      break;
    case 7:
      v = BigInt(random.below(256));
      break;
    default:
      v = BigInt(random.below(0x10000));
  }
  return BigInt.asUintN(size * 8, v);
}

function read(b: Buffer, at: number, size: number): bigint {
  let v = 0n;
  for (let i = size - 1; i >= 0; i--) v = (v << 8n) | BigInt(b[at + i]);
  return v;
}

function write(b: Buffer, at: number, size: number, value: bigint): void {
  for (let i = 0; i < size; i++) b[at + i] = Number((value >> BigInt(i * 8)) & 0xffn);
}

function change(random: Random, b: Buffer, fields: readonly Field[]): string {
  const f = fields[random.below(fields.length)];
  const old = read(b, f.at, f.size);
  const v = changed(random, old, f.size);
  write(b, f.at, f.size, v);
  return `${f.what}: ${old} -> ${v}`;
}

/** Record numbers worth changing: those in use, and sometimes one that is not. */
function pick(random: Random, p: DamagedVolume, used: readonly number[]): number {
  const kind = random.below(20);
  if (kind === 0) return random.below(Math.max(...used) + 1);
  const system = used.filter((n) => n < 24);
  const user = used.filter((n) => n >= 24);
  const large = user.filter((n) => {
    const r = p.record(n);
    return attributes(r.bytes).some((a) => r.bytes[a.at + 8] !== 0 || a.type === 0x20 || a.type === 0xa0);
  });
  const among = kind < 6 ? system : kind < 14 && large.length > 0 ? large : user;
  return among[random.below(among.length)];
}

/** Numbers of the records in use. */
function usedRecords(p: DamagedVolume): number[] {
  const total = p.mftRuns.reduce((n, [, length]) => n + length, 0) / p.recordSize;
  const used: number[] = [];
  for (let n = 0; n < total; n++) {
    const at = p.place(n);
    if (p.bytes.toString("latin1", at, at + 4) === "FILE" && (p.bytes[at + 22] & 1) !== 0) used.push(n);
  }
  return used;
}

/** What a mutation did. */
export interface Mutation {
  readonly bytes: Buffer;
  readonly record: number;
  readonly what: string;
  /** Where the record lies in $MFT and would lie in $MFTMirr, bytes. */
  readonly places: readonly number[];
  readonly recordSize: number;
}

/** Changes one to three fields of one record of a copy of `original`. */
export function mutate(original: Buffer, random: Random): Mutation {
  const p = new DamagedVolume(Buffer.from(original));
  const number = pick(random, p, usedRecords(p));
  const done: string[] = [];
  const place = p.place(number);
  const found = {
    bytes: p.bytes,
    record: number,
    places: [place, p.mirror + number * p.recordSize],
    recordSize: p.recordSize,
  };
  const array = p.bytes.readUInt16LE(place + 4);
  const inUse = p.bytes.toString("latin1", place, place + 4) === "FILE" && array >= 42 && array < 510;
  if (!inUse) {
    p.bytes[place + random.below(p.recordSize)] ^= 1 << random.below(8);
    return { ...found, what: "a bit of a record that is none" };
  }
  const r = p.record(number);
  const raw: (() => void)[] = [];
  const times = 1 + random.below(3);
  for (let i = 0; i < times; i++) {
    const list = attributes(r.bytes);
    const kind = random.below(20);
    const fields: Field[] = [];
    if (kind < 4 || list.length === 0) {
      add(fields, r.bytes, 0, RECORD_FIELDS, "record");
      done.push(change(random, r.bytes, fields));
    } else if (kind === 4) {
      // The update sequence as it is stored: a record written in part.
      const n = random.below(p.recordSize / 512 + 1);
      const at = random.below(2) === 0 ? array + n * 2 : Math.max(n, 1) * 512 - 2;
      raw.push(() => {
        p.bytes.writeUInt16LE(random.below(0x10000), place + at);
      });
      done.push(`update sequence at ${at}`);
    } else if (kind < 8 && outside(p, r) !== null) {
      done.push(outside(p, r)!(random));
    } else {
      const weight = list.filter((a) => r.bytes[a.at + 8] !== 0 || a.type === 0x20 || a.type === 0x90);
      const among = weight.length > 0 && random.below(3) > 0 ? weight : list;
      const groups = attributeFields(r.bytes, among[random.below(among.length)]).filter((g) => g.length > 0);
      done.push(change(random, r.bytes, groups[random.below(groups.length)]));
    }
  }
  p.store(r, array);
  for (const job of raw) job();
  return { ...found, what: done.join("; ") };
}

/** What a record holds outside of itself and can be changed there: its attribute list, or its index blocks. */
function outside(p: DamagedVolume, r: DamagedRecord): ((random: Random) => string) | null {
  for (const a of attributes(r.bytes)) {
    if (r.bytes[a.at + 8] === 0 || r.bytes.readBigInt64LE(a.at + 16) !== 0n) continue;
    if (a.type !== 0x20 && a.type !== 0xa0) continue;
    let runs: [number, number][];
    try {
      runs = p.runs(r.bytes, a.at + r.bytes.readUInt16LE(a.at + 32));
    } catch {
      continue;
    }
    if (runs.length === 0 || runs[0][0] < 0) continue;
    const at = runs[0][0] * p.clusterSize;
    if (at + 4096 > p.bytes.length) continue;
    if (a.type === 0x20) {
      const size = Math.min(Number(r.bytes.readBigInt64LE(a.at + 48)), runs[0][1] * p.clusterSize);
      return (random) => {
        const fields: Field[] = [];
        for (let e = at, i = 0; e + 26 <= at + size; e += Math.max(p.bytes.readUInt16LE(e + 4), 8), i++)
          add(fields, p.bytes, e, LIST_FIELDS, `stored list entry ${i}`);
        return fields.length === 0 ? "nothing" : change(random, p.bytes, fields);
      };
    }
    if (p.bytes.toString("latin1", at, at + 4) !== "INDX") continue;
    return (random) => {
      const array = p.bytes.readUInt16LE(at + 4);
      const b = p.unfix(at, 4096);
      const fields: Field[] = [];
      add(
        fields,
        b,
        0,
        [
          [0, 4, "magic"],
          [4, 2, "usa offset"],
          [6, 2, "usa count"],
          [16, 8, "vcn"],
        ],
        "block",
      );
      add(fields, b, 24, INDEX_FIELDS, "block");
      entries(fields, b, 24, 4096, "block");
      const what = change(random, b, fields);
      p.fix(b, at, array);
      return what;
    };
  }
  return null;
}
