// Damage to the system files that native looks at when it opens a volume: refused with its words
// and exit codes, or taken.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import test from "ava";
import { inScratch } from "../support/native.ts";
import { both, OUT } from "../support/ntfsclone.ts";

const plain = gunzipSync(readFileSync("test/fixtures/demo-ntfs.img.gz"));
const view = new DataView(plain.buffer, plain.byteOffset, plain.length);
const clusterSize = plain[13] * view.getUint16(11, true);
const mft = Number(view.getBigInt64(48, true)) * clusterSize;
const record = (number: number): number => mft + number * 1024;

/** The first attribute of a type in a record. */
function attribute(number: number, type: number): number {
  let at = record(number) + view.getUint16(record(number) + 20, true);
  while (view.getUint32(at, true) !== type) at += view.getUint32(at + 4, true);
  return at;
}

const upcase = attribute(10, 0x80);
const attrDef = attribute(4, 0x80);
const table = plain.indexOf(Buffer.from(Uint16Array.from({ length: 64 }, (_, i) => i).buffer));

type Damage = readonly [name: string, at: number, value: number, bytes: 1 | 2 | 4];
const DAMAGES: readonly Damage[] = [
  ...[0x1f, 0x20, 0x61, 0x7e, 0x7f].map((c): Damage => [`capital of ${c}`, table + 2 * c, 7, 2]),
  ...[0, 1, 252, 254, 131_071, 131_074].map((n): Damage => [`$UpCase of ${n}`, upcase + 48, n, 4]),
  ["$UpCase of a negative size", upcase + 55, 0xff, 1],
  ["$UpCase never written", upcase + 56, 0, 4],
  ...[0, 5000, 0xffffff, 0x1000000].map((n): Damage => [`$AttrDef of ${n}`, attrDef + 48, n, 4]),
  ["$AttrDef of a negative size", attrDef + 55, 0xff, 1],
  ["$AttrDef without runs", attrDef + view.getUint16(attrDef + 32, true), 0, 1],
  ...[1, 3, 4, 5, 6, 9, 10].flatMap((n): Damage[] => [
    [`record ${n} in use beyond its end`, record(n) + 24, 5000, 4],
    [`record ${n} without its magic`, record(n), 77, 4],
    [`record ${n} not in use`, record(n) + 22, 0, 2],
  ]),
  ["short volume information", attribute(3, 0x70) + 16, 3, 4],
  ["short index root", attribute(5, 0x90) + 16, 3, 4],
  ["no index root", attribute(5, 0x90), 0x91, 4],
  ["attributes that do not ascend", attribute(9, 0x90), 0x30, 4],
];

test("damaged system files are refused or taken as by native", (t) =>
  inScratch("ntfs-system", async (dir) => {
    for (const [name, at, value, bytes] of DAMAGES) {
      const volume = join(dir, "volume");
      const damaged = Buffer.from(plain);
      damaged.writeUIntLE(value, at, bytes);
      writeFileSync(volume, damaged);
      const { native, ours } = await both(dir, ["-q", "-s", "-O", OUT, volume]);
      t.is(ours.code, native.code, name);
      t.is(ours.messages, native.messages, name);
      if (native.code === 0) t.true(readFileSync(ours.output).equals(readFileSync(native.output)), name);
    }
  }));
