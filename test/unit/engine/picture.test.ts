import test from "ava";
import { BlockSet } from "../../../src/bytes/block-set.ts";
import { DATA, HOLE, MapRuns, ZERO } from "../../../src/bytes/runs.ts";
import {
  type AllocationPicture,
  allocationPicture,
  cellStart,
  dominantRole,
  type PictureRole,
} from "../../../src/engine/picture.ts";
import type { Role, Volume } from "../../../src/fs/volume.ts";
import type { Source } from "../../../src/io/source.ts";

function setOf(limit: number, ...runs: readonly (readonly [number, number])[]): BlockSet {
  const set = new BlockSet(limit);
  for (const [from, to] of runs) set.add(from, to);
  return set;
}

/** A volume of blocks of 4 KiB with the given roles; `used` holds more than the roles say. */
function volumeOf(blocks: number, used: BlockSet, roles: ReadonlyMap<Role, BlockSet>): Volume {
  return {
    kind: "test",
    size: blocks * 4096,
    blockSize: 4096,
    info: () => [],
    select: async () => ({ blockSize: 4096, blocks: used, marks: used.count, roles, warnings: [] }),
  };
}

const none: Source = {
  size: 0,
  label: "none",
  read: () => 0,
  map: (from) => new MapRuns(from),
  close() {},
};

function total(picture: AllocationPicture, role: PictureRole): number {
  return picture.totals[picture.roles.indexOf(role)];
}

test("cells cover every unit once, whatever the numbers", (t) => {
  for (const [units, cells] of [
    [1, 1],
    [10, 3],
    [4096, 4096],
    [100_003, 4096],
    [2 ** 52 + 12345, 4096],
  ]) {
    t.is(cellStart(units, cells, 0), 0);
    t.is(cellStart(units, cells, cells), units);
    for (let c = 1; c <= cells; c++)
      if (cellStart(units, cells, c) <= cellStart(units, cells, c - 1)) t.fail(`${units} in ${cells}`);
  }
});

test("counts add up to the volume, and blocks without a role are data", async (t) => {
  const blocks = 100_003;
  const used = setOf(blocks, [0, 5000], [70_000, 90_001], [100_002, 100_003]);
  const roles = new Map<Role, BlockSet>([
    ["superblock", setOf(blocks, [0, 1], [32768, 32768])],
    ["inode table", setOf(blocks, [10, 522])],
    ["journal", setOf(blocks, [70_000, 78_192])],
  ]);
  for (const cells of [1, 7, 1000, 4096]) {
    const picture = await allocationPicture({ source: none, volume: volumeOf(blocks, used, roles) }, cells);
    t.is(picture.cells, cells);
    t.is(total(picture, "superblock"), 1);
    t.is(total(picture, "inode table"), 512);
    t.is(total(picture, "journal"), 8192);
    t.is(total(picture, "data"), used.count - 1 - 512 - 8192);
    t.is(total(picture, "free"), blocks - used.count);
    const n = picture.roles.length;
    for (let c = 0; c < cells; c++) {
      let sum = 0;
      for (let r = 0; r < n; r++) sum += picture.counts[c * n + r];
      if (sum !== cellStart(blocks, cells, c + 1) - cellStart(blocks, cells, c)) t.fail(`cell ${c}: ${sum}`);
    }
  }
});

test("a small volume has one cell a block", async (t) => {
  const roles = new Map<Role, BlockSet>([["superblock", setOf(6, [0, 1])]]);
  const picture = await allocationPicture(
    { source: none, volume: volumeOf(6, setOf(6, [0, 1], [3, 5]), roles) },
    99,
  );
  t.is(picture.cells, 6);
  t.deepEqual(
    Array.from({ length: 6 }, (_, c) => dominantRole(picture, c).role),
    ["superblock", "free", "free", "data", "data", "free"],
  );
});

test("without a filesystem the container's map is painted", async (t) => {
  const source: Source = {
    ...none,
    size: 1000,
    map(from) {
      const runs = new MapRuns(from);
      if (from === 0) {
        runs.push(100, DATA);
        runs.push(400, HOLE);
      } else {
        runs.push(100, ZERO);
        runs.push(400, DATA);
      }
      return runs;
    },
  };
  const picture = await allocationPicture({ source, volume: null }, 10);
  t.is(picture.basis, "map");
  t.is(total(picture, "data"), 500);
  t.is(total(picture, "free"), 500);
  t.deepEqual(dominantRole(picture, 0), { role: "data", share: 1 });
  t.deepEqual(dominantRole(picture, 3), { role: "free", share: 1 });
});

test("an empty source has an empty picture", async (t) => {
  const picture = await allocationPicture({ source: none, volume: null }, 10);
  t.is(picture.units, 0);
  t.is(picture.cells, 1);
});
