import test from "ava";
import { putU16le, putU32le, putU64le } from "../../../src/bytes/endian.ts";
import { FormatError } from "../../../src/errors.ts";
import { crc32 } from "../../../src/fs/partition/crc32.ts";
import { readPartitionTable } from "../../../src/fs/partition/table.ts";
import { MemorySource } from "../../../src/io/memory.ts";

const SECTORS = 4096;

type Slot = readonly [type: number, start: number, sectors: number];

function bootSector(disk: Uint8Array, at: number, slots: readonly Slot[]): void {
  slots.forEach(([type, start, sectors], i) => {
    const e = at * 512 + 446 + 16 * i;
    disk[e + 4] = type;
    putU32le(disk, e + 8, start);
    putU32le(disk, e + 12, sectors);
  });
  putU16le(disk, at * 512 + 510, 0xaa55);
}

const GUID_LINUX = [
  0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
];

/** Writes one GPT copy: header at sector `own`, entries at sector `entries`. */
function gpt(disk: Uint8Array, sector: number, own: number, other: number, entries: number): void {
  const e = entries * sector;
  disk.set(GUID_LINUX, e + 128);
  putU64le(disk, e + 128 + 32, 40);
  putU64le(disk, e + 128 + 40, 99);
  [..."root"].forEach((c, i) => {
    putU16le(disk, e + 128 + 56 + 2 * i, c.charCodeAt(0));
  });
  const h = own * sector;
  disk.set(new TextEncoder().encode("EFI PART"), h);
  putU32le(disk, h + 8, 0x10000);
  putU32le(disk, h + 12, 92);
  putU64le(disk, h + 24, own);
  putU64le(disk, h + 32, other);
  putU64le(disk, h + 72, entries);
  putU32le(disk, h + 80, 8);
  putU32le(disk, h + 84, 128);
  putU32le(disk, h + 88, crc32(disk.subarray(e, e + 1024)));
  putU32le(disk, h + 16, 0);
  putU32le(disk, h + 16, crc32(disk.subarray(h, h + 92)));
}

function gptDisk(sector = 512): Uint8Array {
  const disk = new Uint8Array(SECTORS * 512);
  bootSector(disk, 0, [[0xee, 1, 0xffffffff]]);
  const last = disk.length / sector - 1;
  gpt(disk, sector, 1, last, 2);
  gpt(disk, sector, last, 1, last - 8);
  return disk;
}

test("crc32 is the IEEE one", (t) => {
  t.is(crc32(new TextEncoder().encode("123456789")), 0xcbf43926);
});

test("primary and logical partitions of an MBR", async (t) => {
  const disk = new Uint8Array(SECTORS * 512);
  bootSector(disk, 0, [
    [0x83, 8, 100],
    [0x82, 200, 50],
    [0x05, 1000, 2000],
  ]);
  bootSector(disk, 1000, [
    [0x83, 10, 90],
    [0x05, 500, 200],
  ]);
  bootSector(disk, 1500, [
    [0x07, 4, 40],
    [0x05, 0, 10],
  ]);
  const table = await readPartitionTable(new MemorySource(disk));
  t.is(table.kind, "mbr");
  t.deepEqual(
    table.partitions.map((p) => [p.number, p.start / 512, p.size / 512, p.type]),
    [
      [1, 8, 100, "Linux filesystem"],
      [2, 200, 50, "Linux swap"],
      [3, 1000, 2000, "Extended"],
      [5, 1010, 90, "Linux filesystem"],
      [6, 1504, 40, "NTFS or exFAT"],
    ],
  );
});

test("an MBR counts in the disk's own sectors, or in those that are named", async (t) => {
  const disk = new Uint8Array(64 * 4096);
  bootSector(disk, 0, [
    [0x83, 1, 3],
    [0x05, 8, 50],
  ]);
  bootSector(disk, 8 * 8, [
    [0x83, 2, 5],
    [0x05, 10, 10],
  ]);
  bootSector(disk, 18 * 8, [[0x07, 1, 9]]);
  const expected = [
    [1, 1, 3],
    [2, 8, 50],
    [5, 10, 5],
    [6, 19, 9],
  ];
  const listed = async (source: MemorySource, sectorSize?: number) =>
    (await readPartitionTable(source, sectorSize)).partitions.map((p) => [
      p.number,
      p.start / 4096,
      p.size / 4096,
    ]);
  t.deepEqual(await listed(new MemorySource(disk), 4096), expected);
  const device = Object.assign(new MemorySource(disk), { sectorSize: 4096 });
  t.deepEqual(await listed(device), expected);
  t.is((await listed(device, 512))[0][2], (3 * 512) / 4096);
  t.is((await listed(new MemorySource(disk)))[0][2], (3 * 512) / 4096);
});

test("a GPT is looked for with the named sectors only", async (t) => {
  for (const [sector, other] of [
    [512, 4096],
    [4096, 512],
  ]) {
    const disk = gptDisk(sector);
    t.is((await readPartitionTable(new MemorySource(disk), sector)).kind, "gpt");
    t.not((await readPartitionTable(new MemorySource(disk), other)).kind, "gpt");
    const device = Object.assign(new MemorySource(disk), { sectorSize: other });
    t.is((await readPartitionTable(device)).kind, "gpt", "a disk of other sectors was copied onto a device");
  }
});

test("bytes that are no table are none: code, an empty table, entries off the disk", async (t) => {
  const disk = new Uint8Array(SECTORS * 512);
  t.is((await readPartitionTable(new MemorySource(disk))).kind, "none");
  bootSector(disk, 0, []);
  t.is((await readPartitionTable(new MemorySource(disk))).kind, "none");
  bootSector(disk, 0, [[0x83, 999999, 5]]);
  t.is((await readPartitionTable(new MemorySource(disk))).kind, "none");
  bootSector(disk, 0, [[0x83, 8, 100]]);
  disk[446 + 16] = 0x6f;
  t.is((await readPartitionTable(new MemorySource(disk))).kind, "none");
  t.is((await readPartitionTable(new MemorySource(new Uint8Array(100)))).kind, "none");
});

for (const sector of [512, 4096])
  test(`GPT with sectors of ${sector} bytes, and its backup`, async (t) => {
    const disk = gptDisk(sector);
    const expected = {
      kind: "gpt",
      partitions: [
        { number: 2, start: 40 * sector, size: 60 * sector, type: "Linux filesystem", name: "root" },
      ],
    };
    t.deepEqual(await readPartitionTable(new MemorySource(disk)), expected as never);
    disk[sector + 40] ^= 1;
    t.deepEqual(await readPartitionTable(new MemorySource(disk)), expected as never);
    disk.fill(0, sector, sector * 2);
    t.deepEqual(await readPartitionTable(new MemorySource(disk)), expected as never);
    disk[disk.length - sector * 9 + 130] ^= 1;
    const e = await t.throwsAsync(readPartitionTable(new MemorySource(disk)), { instanceOf: FormatError });
    t.regex(e.message, /GPT header.*checksum of the entries/);
  });

test("a GPT that claims a table of gigabytes is refused", async (t) => {
  const disk = gptDisk();
  for (const h of [512, disk.length - 512]) {
    putU32le(disk, h + 80, 0x7fffffff);
    putU32le(disk, h + 16, 0);
    putU32le(disk, h + 16, crc32(disk.subarray(h, h + 92)));
  }
  await t.throwsAsync(readPartitionTable(new MemorySource(disk)), { instanceOf: FormatError });
});

test("a protective MBR without a GPT is an MBR", async (t) => {
  const disk = new Uint8Array(SECTORS * 512);
  bootSector(disk, 0, [[0xee, 1, 4095]]);
  t.is((await readPartitionTable(new MemorySource(disk))).kind, "mbr");
});
