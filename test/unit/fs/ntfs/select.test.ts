import test from "ava";
import { inUse } from "../../../../src/fs/ntfs/in-use.ts";
import { openNtfs } from "../../../../src/fs/ntfs/volume.ts";
import { MemorySource } from "../../../../src/io/memory.ts";
import { baseVolume, broken, brokenVolumes } from "../../../support/ntfs-broken.ts";
import { runsOf } from "../../../support/ntfs-used.ts";

const open = async (bytes: Buffer) => openNtfs(new MemorySource(bytes));

test("scopes hold each other, and roles hold what is selected", async (t) => {
  const volume = await open(await baseVolume());
  const used = await inUse(volume);
  let before = 0;
  for (const scope of ["metadata", "data", "used", "all"] as const) {
    const s = await volume.select({ scope, roles: true });
    t.is(s.blockSize, 512);
    t.true(s.blocks.count >= before, scope);
    before = s.blocks.count;
    let painted = 0;
    for (const set of s.roles!.values()) painted += set.count;
    if (scope !== "all") t.is(painted, s.blocks.count, scope);
    if (scope === "data" || scope === "used") t.deepEqual(runsOf(s.blocks), runsOf(used.blocks), scope);
    if (scope === "all") t.is(s.blocks.count, s.blocks.limit);
    if (scope === "metadata") t.regex(s.warnings.join(), /contents of small files/);
  }
  const { roles } = await volume.select({ scope: "data", roles: true });
  t.deepEqual([...roles!.keys()].sort(), [
    "bitmap",
    "data",
    "directory",
    "inode table",
    "journal",
    "superblock",
    "system",
  ]);
});

test("what $Bitmap marks besides is used; bad clusters are left out", async (t) => {
  const base = await baseVolume();
  const plain = await (await open(base)).select({ scope: "used" });
  const named = (title: string) => broken(base, brokenVolumes.find((b) => b.title === title)!);
  const marked = await open(named("$Bitmap: clusters that nobody owns"));
  const more = await marked.select({ scope: "used", roles: true });
  t.true(more.blocks.count > plain.blocks.count);
  t.is(
    [...more.roles!.values()].reduce((n, set) => n + set.count, 0),
    more.blocks.count,
  );
  t.is((await marked.select({ scope: "data" })).blocks.count, plain.blocks.count);
  const bad = await open(named("bad clusters that $Bitmap knows"));
  const without = await bad.select({ scope: "used" });
  t.deepEqual(runsOf(without.blocks), runsOf(plain.blocks));
  t.regex(without.warnings.join(), /^8 clusters are marked as bad/);
  const empty = await open(named("$Bitmap: zeros"));
  t.deepEqual(runsOf((await empty.select({ scope: "used" })).blocks), runsOf(plain.blocks));
});
