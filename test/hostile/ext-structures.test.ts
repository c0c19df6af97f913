// Volumes broken by hand, one structure at a time.
import { readFileSync, truncateSync } from "node:fs";
import test from "ava";
import { Patch, type SuperblockField } from "../support/ext-patch.ts";
import { shapeImage, shapeNamed } from "../support/ext-shapes.ts";
import {
  type Expectation,
  facesCommands,
  facesHostile,
  forShape,
  turn,
  writeVolume,
} from "../support/hostile.ts";
import { inScratch } from "../support/native.ts";

type Mutation = (p: Patch) => Promise<unknown> | unknown;

function hostile(title: string, base: string, mutate: Mutation, expect: Expectation = {}): void {
  test(`${title} (${base})`, (t) =>
    turn(async () => {
      const shape = shapeNamed(base);
      const image = await shapeImage(shape);
      await inScratch("hostile", async (dir) => {
        const p = new Patch(image, readFileSync(image));
        const grown = await mutate(p);
        const volume = writeVolume(dir, p.bytes);
        if (typeof grown === "number") truncateSync(volume, grown);
        await facesCommands(t, dir, title, volume);
        for (const mode of ["-r", "-Qa"])
          await facesHostile(t, dir, title, volume, mode, { ...forShape(shape), ...expect });
      });
    }));
}

function superblock(
  title: string,
  base: string,
  fields: Partial<Record<SuperblockField, number>>,
  e?: Expectation,
): void {
  hostile(
    title,
    base,
    (p) => {
      for (const [name, value] of Object.entries(fields)) p.set(name as SuperblockField, value);
    },
    e,
  );
}

const refused = { refused: true } as const;

superblock("no magic number", "ext4-1k", { magic: 0 }, { refused: true, says: /magic/i });
superblock("another magic number", "ext4-1k", { magic: 0xef52 }, { refused: true, says: /magic/i });
hostile("nothing but zeros", "ext4-1k", (p) => p.bytes.fill(0), refused);
hostile("nothing but ones", "ext4-1k", (p) => p.bytes.fill(255), refused);
hostile("superblock alone", "ext4-1k", (p) => p.bytes.fill(0, 2048));

for (const n of [7, 31, 32, 64, 255, 0x7fffffff, 0xffffffff])
  superblock(`log block size ${n}`, "ext4-1k", { logBlockSize: n, logClusterSize: n }, refused);
superblock("every log block size from 0 to 6 on the wrong volume", "ext4-1k", {
  logBlockSize: 3,
  logClusterSize: 3,
});
superblock("cluster smaller than a block", "bigalloc-4k", { logClusterSize: 0 }, refused);
superblock("cluster of 2^63 bytes", "bigalloc-4k", { logClusterSize: 53 });
superblock("cluster of 2^35 bytes", "bigalloc-4k", { logClusterSize: 25 });
superblock("clusters without bigalloc", "ext4-4k", { logClusterSize: 4 }, refused);
superblock("clusters per group 0", "bigalloc-4k", { clustersPerGroup: 0 });
superblock("no inodes", "ext4-1k", { inodesCount: 0 });
superblock("2^32 - 1 inodes", "ext4-1k", { inodesCount: 0xffffffff });
superblock("no blocks", "ext4-1k", { blocksCount: 0, blocksCountHigh: 0 });
superblock("one block", "ext4-1k", { blocksCount: 1 });
superblock("2^32 - 1 blocks", "ext4-1k", { blocksCount: 0xffffffff });
superblock("2^48 - 1 blocks", "ext4-1k", { blocksCount: 0xffffffff, blocksCountHigh: 0xffff });
superblock("2^64 - 1 blocks", "ext4-1k", { blocksCount: 0xffffffff, blocksCountHigh: 0xffffffff });
superblock("2^43 blocks of 4 KiB: past 2^53 bytes", "ext4-4k", { blocksCount: 0, blocksCountHigh: 0x800 });
superblock("2^41 blocks of 4 KiB with all inodes in one group", "ext4-4k", {
  blocksCountHigh: 0x200,
  blocksPerGroup: 0xfffffff8,
  clustersPerGroup: 0xfffffff8,
});
superblock("blocks per group 0", "ext4-1k", { blocksPerGroup: 0, clustersPerGroup: 0 });
superblock("blocks per group 1", "ext4-1k", { blocksPerGroup: 1, clustersPerGroup: 1 });
superblock("blocks per group 8", "ext4-1k", { blocksPerGroup: 8, clustersPerGroup: 8 });
superblock("blocks per group past a bitmap block", "ext4-1k", {
  blocksPerGroup: 8200,
  clustersPerGroup: 8200,
});
superblock("inodes per group 0", "ext4-1k", { inodesPerGroup: 0 });
superblock("inodes per group past a bitmap block", "ext4-1k", { inodesPerGroup: 65536, inodesCount: 65536 });
superblock("inodes per group 2^32 - 1", "ext4-1k", { inodesPerGroup: 0xffffffff, inodesCount: 0xffffffff });
superblock("twice the groups", "many-groups", { blocksCount: 65536 });
superblock("half the groups", "many-groups", { blocksCount: 16384, inodesCount: 1024 });
superblock("first data block 0 on 1 KiB blocks", "ext4-1k", { firstDataBlock: 0 });
superblock("first data block 2", "ext4-1k", { firstDataBlock: 2 });
superblock("first data block past the end", "ext4-1k", { firstDataBlock: 9000 });
superblock("first data block 2^32 - 1", "ext4-4k", { firstDataBlock: 0xffffffff });
for (const n of [0, 1, 32, 48, 63, 65, 96, 2048, 32768, 65535])
  superblock(`descriptors of ${n} bytes`, "ext4-1k", { descSize: n });
for (const n of [0, 1, 64, 127, 129, 192, 2048, 32768, 65535])
  superblock(`inodes of ${n} bytes`, "ext4-1k", { inodeSize: n });
superblock("revision 0 with large inodes", "ext4-1k", { revision: 0 });
superblock("revision 2^32 - 1", "ext4-1k", { revision: 0xffffffff });
superblock("an unknown incompatible feature", "ext4-1k", { incompat: 0x80000000 }, refused);
superblock("a journal device", "ext4-1k", { incompat: 8 }, refused);
superblock("first meta group past the descriptors", "meta-bg", { firstMetaBg: 0xffffffff }, refused);
superblock("first meta group 1", "meta-bg", { firstMetaBg: 1 });
superblock("reserved descriptor blocks 65535", "ext4-1k", { reservedGdt: 65535 });
superblock("groups of 2^255 in a flexible group", "ext4-1k", { logGroupsPerFlex: 255 }, refused);
superblock(
  "groups of 2^32 in a flexible group, and no such feature",
  "ext2-1k",
  { logGroupsPerFlex: 32 },
  refused,
);
superblock("groups of 2^31 in a flexible group", "ext4-1k", { logGroupsPerFlex: 31 });
superblock("backup group 2^32 - 1", "sparse-super2", { backupGroup0: 0xffffffff });
superblock("first inode 2^32 - 1", "ext4-1k", { firstInode: 0xffffffff });
for (const n of [0, 2, 9, 5000, 0xffffffff]) superblock(`journal inode ${n}`, "ext4-1k", { journalInode: n });
for (const n of [0, 1, 0xffffffff]) superblock(`MMP block ${n}`, "mmp", { mmpBlock: n, mmpBlockHigh: n });
for (const n of [0, 2, 0xffffffff])
  superblock(`orphan file inode ${n}`, "orphan-file", { orphanFileInode: n });
for (const n of [2, 0xffffffff])
  superblock(`project quota inode ${n}`, "quota-project", { projectQuotaInode: n });
for (const n of [12, 0xffffffff]) superblock(`last orphan ${n}`, "ext4-1k", { lastOrphan: n });

// Group descriptors.
for (const [what, field] of [
  ["block bitmap", 0],
  ["inode bitmap", 4],
  ["inode table", 8],
] as const)
  for (const value of [0, 1, 8191, 9000, 0xffffffff])
    hostile(`${what} at block ${value}`, "ext4-1k", (p) => p.u32(p.descriptor(0) + field, value));
hostile("inode table with high bits", "ext4-1k", (p) => p.u32(p.descriptor(0) + 40, 0xffffffff));
hostile("more unused inodes than there are", "ext4-1k", (p) => p.u16(p.descriptor(0) + 28, 0xffff));
hostile("every group uninitialised", "many-groups", (p) => {
  for (let g = 0; g < 128; g++) p.u16(p.descriptor(g) + 18, 7);
});
hostile("all descriptors zero", "many-groups", (p) => p.bytes.fill(0, p.descriptor(0), p.descriptor(128)));
hostile("all descriptors ones", "many-groups", (p) => p.bytes.fill(255, p.descriptor(0), p.descriptor(128)), {
  differs: "an inode table at block 2^64 - 1 passes the native check because the sum wraps around",
});
hostile("every inode table in the same place", "many-groups", (p) => {
  const first = p.bytes.readUInt32LE(p.descriptor(0) + 8);
  for (let g = 0; g < 128; g++) p.u32(p.descriptor(g) + 8, first);
});
hostile("the inode table on the superblock", "ext2-1k", (p) => p.u32(p.descriptor(0) + 8, 1));

// Extent trees.
const root = async (p: Patch, name: string): Promise<number> => (await p.inode(name)) + 40;
hostile("extent root without magic", "extents-depth-2", async (p) => p.u16(await root(p, "comb"), 0));
hostile("extent root with 400 entries", "extents-depth-2", async (p) =>
  p.u16((await root(p, "comb")) + 2, 400),
);
hostile("extent root with room for 65535", "extents-depth-2", async (p) =>
  p.u16((await root(p, "comb")) + 4, 65535),
);
for (const depth of [0, 1, 4, 5, 6, 100, 65535])
  hostile(`extent root of depth ${depth}`, "extents-depth-2", async (p) =>
    p.u16((await root(p, "comb")) + 6, depth),
  );
hostile("extent index past the end of the volume", "extents-depth-2", async (p) =>
  p.u32((await root(p, "comb")) + 16, 0xfffffff0),
);
hostile("extent index beyond 2^47", "extents-depth-2", async (p) =>
  p.u16((await root(p, "comb")) + 20, 0xffff),
);
hostile("extent index to block 0", "extents-depth-2", async (p) => p.u32((await root(p, "comb")) + 16, 0));
hostile("extent index to an inode table", "extents-depth-2", async (p) =>
  p.u32((await root(p, "comb")) + 16, p.bytes.readUInt32LE(p.descriptor(0) + 8)),
);
hostile("extent node that points to itself", "extents-depth-3", async (p) => {
  const at = await p.extentNode("deep");
  return p.u32(at + 12 + 4, at / p.blockSize);
});
hostile("extent node whose every entry points to itself", "extents-depth-3", async (p) => {
  const at = await p.extentNode("deep");
  for (let i = 0; i < 84; i++) p.u32(at + 12 + 12 * i + 4, at / p.blockSize);
  return p.u16(at + 2, 84);
});
hostile("extent tree nodes that point at each other", "extents-depth-3", async (p) => {
  const at = await p.extentNode("deep");
  const below = p.bytes.readUInt32LE(at + 12 + 4) * p.blockSize;
  return p.u32(below + 12 + 4, at / p.blockSize);
});
hostile("extent node zeroed", "extents-depth-3", async (p) => {
  const at = await p.extentNode("deep");
  return p.bytes.fill(0, at, at + p.blockSize);
});
hostile("extent node without entries", "extents-depth-3", async (p) =>
  p.u16((await p.extentNode("deep")) + 2, 0),
);
hostile("extent node with 340 entries", "extents-depth-3", async (p) =>
  p.u16((await p.extentNode("deep")) + 2, 340),
);
hostile("extent out of the volume", "ext4-1k", async (p) => p.u32((await root(p, "a")) + 20, 0x7fffffff));
hostile("extent of a file out of the volume", "ext4-1k", async (p) =>
  p.u32((await root(p, "big")) + 20, 0x7fffffff),
);
hostile("extent that runs over the end", "ext4-1k", async (p) =>
  p.u32((await root(p, "a")) + 20, 8191).u16((await root(p, "a")) + 16, 200),
);
hostile("extent of length 0", "ext4-1k", async (p) => p.u16((await root(p, "a")) + 16, 0));
hostile("extent of length 32768", "ext4-1k", async (p) => p.u16((await root(p, "a")) + 16, 32768));
hostile("extent of length 65535", "ext4-1k", async (p) => p.u16((await root(p, "a")) + 16, 65535));
hostile("extent at logical block 2^32 - 1", "ext4-1k", async (p) =>
  p.u32((await root(p, "a")) + 12, 0xffffffff),
);

// Indirect trees.
for (const slot of [12, 13, 14]) {
  hostile(`i_block[${slot}] past the end`, "triple-indirect", async (p) =>
    p.u32((await root(p, "far")) + 4 * slot, 0x7fffffff),
  );
  hostile(`i_block[${slot}] points to a block that points to itself`, "triple-indirect", async (p) => {
    const block = await p.pointer("far", slot);
    for (let i = 0; i < 256; i++) p.u32(block * p.blockSize + 4 * i, block);
  });
  hostile(`i_block[${slot}] points to noise`, "triple-indirect", async (p) => {
    const block = await p.pointer("far", slot);
    for (let i = 0; i < 256; i++) p.u32(block * p.blockSize + 4 * i, (i * 2654435761) >>> 0);
  });
}
hostile("a directory mapped by a block that points to itself", "indirect-directory", async (p) => {
  const block = await p.pointer("wide", 13);
  for (let i = 0; i < 256; i++) p.u32(block * p.blockSize + 4 * i, block);
});
hostile("direct block of a directory past the end", "ext2-1k", async (p) =>
  p.u32(await root(p, "a"), 0x7fffffff),
);
hostile("the double indirect block of the resize inode past the end", "ext4-1k", async (p) =>
  p.u32((await root(p, "<7>")) + 4 * 13, 0x7fffffff),
);
hostile("the resize inode's double indirect block points to itself", "ext4-1k", async (p) => {
  const block = await p.pointer("<7>", 13);
  for (let i = 0; i < 256; i++) p.u32(block * p.blockSize + 4 * i, block);
});

// Inodes.
hostile("xattr block past the end", "xattr-blocks", async (p) =>
  p.u32((await p.inode("big")) + 104, 0x7fffffff),
);
hostile("xattr block with high bits", "xattr-blocks", async (p) =>
  p.u16((await p.inode("big")) + 118, 0xffff),
);
hostile("file of 2^63 bytes", "ext4-1k", async (p) => p.u32((await p.inode("big")) + 108, 0x7fffffff));
hostile("directory of 2^53 bytes", "ext4-1k", async (p) => p.u32((await p.inode("a")) + 108, 1 << 21));
hostile("symlink of 2^32 bytes", "ext4-1k", async (p) => p.u32((await p.inode("link-200")) + 4, 0xffffffff));
hostile("symlink of 1 byte with blocks", "ext4-1k", async (p) => p.u32((await p.inode("link-200")) + 4, 1));
hostile("symlink that says its data is inline", "inline-data", async (p) =>
  p.u32((await p.inode("link-200")) + 32, 0x10000000),
);
hostile("inode that is of no type", "ext4-1k", async (p) => p.u16(await p.inode("a"), 0xf1ff));
hostile("root directory gone", "ext4-1k", async (p) =>
  p.bytes.fill(0, await p.inode("<2>"), (await p.inode("<2>")) + 128),
);
hostile("journal inode zeroed", "ext4-1k", async (p) =>
  p.bytes.fill(0, await p.inode("<8>"), (await p.inode("<8>")) + 128),
);
hostile("journal with a lying superblock", "ext4-1k", async (p) => {
  const at = p.bytes.readUInt32LE((await root(p, "<8>")) + 20) * p.blockSize;
  p.bytes.fill(255, at + 12, at + 1024);
});
hostile("bad blocks inode that lists blocks of the inode table", "bad-blocks", async (p) => {
  const table = p.bytes.readUInt32LE(p.descriptor(0) + 8);
  for (let i = 0; i < 4; i++) p.u32((await root(p, "<1>")) + 4 * i, table + i * 3);
});
hostile("bad blocks inode with pointers out of range", "bad-blocks", async (p) =>
  p.u32((await root(p, "<1>")) + 4, 0xfffffff0),
);
hostile(
  "bad blocks inode with a double indirect loop",
  "bad-blocks",
  async (p) => {
    await Promise.resolve(p.u32((await root(p, "<1>")) + 4 * 13, 9000));
    for (let i = 0; i < 256; i++) p.u32(9000 * p.blockSize + 4 * i, 9000);
  },
  { args: ["--native-selection"] },
);
for (const part of ["inode table", "block bitmap", "inode bitmap"] as const)
  hostile(`${part} of noise`, "ext4-1k", (p) => {
    const at = p.bytes.readUInt32LE(
      p.descriptor(0) + { "block bitmap": 0, "inode bitmap": 4, "inode table": 8 }[part],
    );
    const length = part === "inode table" ? 40 * p.blockSize : p.blockSize;
    for (let i = 0; i + 4 <= length; i += 4) p.u32(at * p.blockSize + i, Math.imul(i + 1, 2654435761));
  });
hostile("a volume that its file is larger than by a terabyte", "ext4-1k", () => 2 ** 40);
