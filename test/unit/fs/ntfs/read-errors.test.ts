// Sectors that cannot be read: what they cost.
import test from "ava";
import { ReadError } from "../../../../src/errors.ts";
import { compareBitmap } from "../../../../src/fs/ntfs/consistency.ts";
import { inUse } from "../../../../src/fs/ntfs/in-use.ts";
import { openNtfs } from "../../../../src/fs/ntfs/volume.ts";
import { MemorySource } from "../../../../src/io/memory.ts";
import { baseVolume } from "../../../support/ntfs-broken.ts";
import { DamagedVolume } from "../../../support/ntfs-damage.ts";

/** A source with unreadable ranges; answers at once, or with promises. */
class Faulty extends MemorySource {
  private readonly bad: readonly (readonly [number, number])[];
  private readonly later: boolean;
  constructor(bytes: Uint8Array, bad: readonly (readonly [number, number])[], later: boolean) {
    super(bytes);
    this.bad = bad;
    this.later = later;
  }
  override read(into: Uint8Array, at: number): number {
    const fails = this.bad.some(([from, to]) => at < to && at + into.length > from);
    if (this.later)
      return Promise.resolve().then(() => {
        if (fails) throw new ReadError("EIO", "bad sector", at);
        return super.read(into, at);
      }) as unknown as number;
    if (fails) throw new ReadError("EIO", "bad sector", at);
    return super.read(into, at);
  }
}

for (const later of [false, true]) {
  const how = later ? "promised" : "at once";

  test(`a source that answers ${how} is read alike`, async (t) => {
    const base = await baseVolume();
    const used = await inUse(await openNtfs(new Faulty(base, [], later), { strict: true }));
    const want = await inUse(await openNtfs(new MemorySource(base)));
    t.is(used.clusters, want.clusters);
  });

  test(`an unreadable record costs its file alone (${how})`, async (t) => {
    const base = await baseVolume();
    const p = new DamagedVolume(Buffer.from(base));
    const at = p.place(p.named("plain").number);
    const volume = await openNtfs(new Faulty(base, [[at, at + 512]], later), { strict: true });
    const difference = await compareBitmap(volume, await inUse(volume));
    t.is(difference.total, 10);
    t.is(difference.extra.count, 10);
    const lost = await volume.filesOn([[at, at + 512]]);
    t.deepEqual(
      lost.map((f) => [f.paths.join(), f.part]),
      [
        ["/$MFT", ""],
        ["/plain", "$MFT record"],
      ],
    );
    const tree = await volume.tree();
    const names = await tree.list(await tree.node(5));
    t.true(names.some((n) => n.name === "plain"));
    await t.throwsAsync(tree.resolve("/plain"), { code: "NTFS_BAD_RECORD" });
    t.not(await tree.resolve("/dir/a file of the directory 5"), null);
  });

  test(`an unreadable attribute list costs its inode, an unreadable extension what it maps (${how})`, async (t) => {
    const base = await baseVolume();
    const p = new DamagedVolume(Buffer.from(base));
    const big = p.named("big");
    const [[lcn]] = p.runs(big.bytes, big.pairs(0x20));
    for (const [bad, message] of [
      [[lcn * 512, lcn * 512 + 512], /is skipped/],
      [[p.place(p.find((r) => r.bytes.readUInt32LE(32) === big.number).number), 0], /is read in part/],
    ] as const) {
      const range = [bad[0], bad[1] === 0 ? bad[0] + 1024 : bad[1]] as const;
      const volume = await openNtfs(new Faulty(base, [range], later), { strict: true });
      const used = await inUse(volume);
      t.regex(used.warnings.join("\n"), message);
      t.true((await compareBitmap(volume, used)).extra.count > 100);
    }
  });

  test(`system records: refused strictly, and with a warning where it can be done without (${how})`, async (t) => {
    const base = await baseVolume();
    const p = new DamagedVolume(Buffer.from(base));
    const mirror = new Faulty(base, [[p.mirror, p.mirror + 512]], later);
    await t.throwsAsync(openNtfs(mirror, { strict: true }), { code: "EIO" });
    t.is((await openNtfs(mirror)).warnings.length, 1);
    const first = new Faulty(base, [[p.mft, p.mft + 512]], later);
    await t.throwsAsync(openNtfs(first), { code: "EIO" });
  });

  test(`what an unreadable part of $Bitmap describes counts as used (${how})`, async (t) => {
    const base = await baseVolume();
    const p = new DamagedVolume(Buffer.from(base));
    const r = p.record(6);
    const [[lcn]] = p.runs(r.bytes, r.pairs(0x80));
    const at = lcn * p.clusterSize;
    const volume = await openNtfs(new Faulty(base, [[at, at + 1]], later));
    const healthy = await openNtfs(new MemorySource(base));
    const used = await volume.select({ scope: "used" });
    const want = await healthy.select({ scope: "used" });
    t.regex(used.warnings.join("\n"), /512 bytes of \$Bitmap cannot be read/);
    const end = Math.min(4096, p.clusters);
    t.is(used.blocks.firstMissing(0, end), end);
    for (let c = end; c < p.clusters; c++) if (used.blocks.has(c) !== want.blocks.has(c)) t.fail(`${c}`);
    await t.throwsAsync(compareBitmap(volume, await inUse(volume)), { code: "EIO" });
    const own = await inUse(volume);
    const difference = await compareBitmap(volume, own, { survive: true });
    t.is(difference.total, 0);
    t.is(difference.unknown, end - countBelow(own.blocks, end));
    t.is(difference.extra.count, difference.unknown);
  });
}

function countBelow(set: { has(block: number): boolean }, end: number): number {
  let n = 0;
  for (let c = 0; c < end; c++) if (set.has(c)) n++;
  return n;
}
