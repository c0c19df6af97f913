import test from "ava";
import { ImprintError } from "../../../src/errors.ts";
import { nativeErrorText } from "../../../src/fs/ext/errors.ts";
import { openExt, probeExt } from "../../../src/fs/ext/volume.ts";
import { MemorySource } from "../../../src/io/memory.ts";
import { TinyVolume } from "./tiny-volume.ts";

const refusals: [string, (v: TinyVolume) => void, string][] = [
  ["a wrong magic", (v) => v.sb16(56, 0x1234), "EXT_BAD_MAGIC"],
  ["a revision of the future", (v) => v.sb32(76, 2), "EXT_REV_TOO_HIGH"],
  ["an unknown feature", (v) => v.sb32(96, 0x1000), "EXT_UNSUPP_FEATURE"],
  ["a journal device", (v) => v.sb32(96, 0x8), "EXT_UNSUPP_FEATURE"],
  ["blocks of 128 KiB", (v) => v.sb32(24, 7).sb32(28, 7), "EXT_CORRUPT_SB"],
  ["clusters smaller than blocks", (v) => v.sb32(24, 2).sb32(28, 1), "EXT_CORRUPT_SB"],
  ["clusters without bigalloc", (v) => v.sb32(28, 2), "EXT_CORRUPT_SB"],
  ["inodes of 127 bytes", (v) => v.sb16(88, 127), "EXT_CORRUPT_SB"],
  ["inodes larger than blocks", (v) => v.sb16(88, 2048), "EXT_CORRUPT_SB"],
  ["64bit descriptors of 32 bytes", (v) => v.sb32(96, 0xc2).sb16(254, 32), "EXT_BAD_DESC_SIZE"],
  ["no inodes in a group", (v) => v.sb32(40, 0).sb32(0, 0), "EXT_CORRUPT_SB"],
  ["no blocks in a group", (v) => v.sb32(32, 0).sb32(36, 0), "EXT_CORRUPT_SB"],
  ["an inode count that lies", (v) => v.sb32(0, 65), "EXT_CORRUPT_SB"],
  ["a first data block behind the end", (v) => v.sb32(20, 1024), "EXT_CORRUPT_SB"],
  ["2^48 blocks", (v) => v.sb32(96, 0xc2).sb16(254, 64).sb32(336, 0x10000), "EXT_CORRUPT_SB"],
  [
    "2^48 blocks whose inode count fits",
    (v) =>
      v
        .sb32(96, 0xc2)
        .sb16(254, 64)
        .sb32(336, 0x1000)
        .sb32(40, 1)
        .sb32(0, 1 << 31),
    "EXT_CORRUPT_SB",
  ],
  ["a meta group behind the last", (v) => v.sb32(96, 0x52).sb32(260, 2), "EXT_CORRUPT_SB"],
];

for (const [what, change, code] of refusals)
  test(`refuses ${what}`, async (t) => {
    const v = new TinyVolume();
    change(v);
    const e = await t.throwsAsync(openExt(v.source()), { instanceOf: ImprintError });
    t.is(e.code, code);
    t.truthy(nativeErrorText(e.code));
  });

test("opens the smallest volume and says what it is", async (t) => {
  const v = await openExt(new TinyVolume().source());
  t.is(v.kind, "ext4");
  t.is(v.blockSize, 1024);
  t.is(v.size, 1024 * 1024);
  const info = new Map(v.info().map((f) => [f.key, f.value]));
  t.deepEqual(info.get("features"), ["filetype", "extent"]);
  t.is(info.get("blocks"), 1024);
  t.is(info.get("state"), "clean");
});

test("a backup needs its block size, and the right one", async (t) => {
  const v = new TinyVolume();
  const code = async (options: Parameters<typeof openExt>[1]) =>
    (await t.throwsAsync(openExt(v.source(), options), { instanceOf: ImprintError })).code;
  t.is(await code({ superblock: 1 }), "EXT_INVALID_ARGUMENT");
  t.is(await code({ blockSize: 2048 }), "EXT_UNEXPECTED_BLOCK_SIZE");
  t.is(await code({ superblock: 5000, blockSize: 1024 }), "EXT_SHORT_READ");
  t.is(await code({ superblock: 9, blockSize: 1024 }), "EXT_BAD_MAGIC");
  t.is((await openExt(v.source(), { superblock: 1, blockSize: 1024 })).superblock.backupBlock, 1);
});

test("descriptors past the end of the source are refused before memory is taken for them", async (t) => {
  const v = new TinyVolume();
  // 2^27 groups of 8 blocks: 4 GiB of descriptors on a volume of 1 MiB.
  v.sb32(4, 0x3fffffff)
    .sb32(32, 8)
    .sb32(36, 8)
    .sb32(40, 8)
    .sb32(0, 0x3ffffff0 >>> 0);
  const groups = Math.ceil((0x3fffffff - 1) / 8);
  v.sb32(0, groups * 8);
  const e = await t.throwsAsync(openExt(v.source()), { instanceOf: ImprintError });
  t.is(e.code, "EXT_SHORT_READ");
});

test("probe wants a whole superblock's worth of sense", (t) => {
  const v = new TinyVolume();
  t.true(probeExt(v.bytes.subarray(0, 2048)));
  t.false(probeExt(v.bytes.subarray(0, 1024)));
  t.false(probeExt(new Uint8Array(4096)));
  v.sb32(24, 9);
  t.false(probeExt(v.bytes));
});

test("an empty source and one that ends in the superblock are refused", async (t) => {
  for (const n of [0, 1024, 1500]) {
    const e = await t.throwsAsync(openExt(new MemorySource(new TinyVolume().bytes.subarray(0, n))), {
      instanceOf: ImprintError,
    });
    t.is(e.code, "EXT_SHORT_READ");
  }
});
