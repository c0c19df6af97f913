import test from "ava";
import { openNtfs } from "../../../../src/fs/ntfs/volume.ts";
import { MemorySource } from "../../../../src/io/memory.ts";
import { baseVolume } from "../../../support/ntfs-broken.ts";
import { DamagedVolume } from "../../../support/ntfs-damage.ts";

test("which files lie on a range: contents, streams, folders, records", async (t) => {
  const base = await baseVolume();
  const p = new DamagedVolume(Buffer.from(base));
  const volume = await openNtfs(new MemorySource(base));
  const on = async (from: number, to: number) =>
    (await volume.filesOn([[from, to]])).map((f) => `${f.paths.join(" ")}|${f.part}|${f.ranges.join(";")}`);
  const plain = p.named("plain");
  const [[lcn]] = p.runs(plain.bytes, plain.pairs(0x80));
  t.deepEqual(await on(lcn * 512, lcn * 512 + 1), ["/plain||0,512"]);
  t.deepEqual(await on(lcn * 512 + 1000, lcn * 512 + 1600), ["/plain||512,2048"]);
  const record = p.place(plain.number);
  t.deepEqual(await on(record + 600, record + 601), [
    `/$MFT||${plain.number * 1024 + 512},${plain.number * 1024 + 1024}`,
    `/plain|$MFT record|${plain.number * 1024},${plain.number * 1024 + 1024}`,
  ]);
  const small = p.named("a file of the directory 7");
  t.true(
    (await on(p.place(small.number), p.place(small.number) + 512)).some((l) =>
      l.startsWith("/dir/a file of the directory 7|$MFT record"),
    ),
  );
  const big = await volume.filesOn([[0, base.length]]);
  const pieces = big.filter((f) => f.paths[0] === "/big" && f.part === "");
  t.is(pieces.length, 1);
  t.is(pieces[0].ranges[0][0], 0);
  t.is(pieces[0].ranges.at(-1)![1], 600 * 512);
  t.true(big.some((f) => f.paths[0] === "/big" && f.part === ":stream"));
  t.true(big.some((f) => f.paths[0] === "/dir" && f.part === "$INDEX_ALLOCATION:$I30"));
  t.true(big.some((f) => f.paths[0] === "/" && f.record === 5));
  t.deepEqual(await on(base.length - 1, base.length), [], "nothing lies behind the last cluster");
});

test("folders that are gone, replaced or in a ring", async (t) => {
  const base = await baseVolume();
  const path = async (change: (p: DamagedVolume) => void) => {
    const p = new DamagedVolume(Buffer.from(base));
    const at = p.place(p.named("a file of the directory 3").number);
    change(p);
    const volume = await openNtfs(new MemorySource(p.bytes));
    const found = await volume.filesOn([[at, at + 1]]);
    return found.filter((f) => f.record >= 24).map((f) => f.paths[0]);
  };
  const dir =
    (change: (p: DamagedVolume, r: ReturnType<DamagedVolume["named"]>) => void) => (p: DamagedVolume) => {
      const r = p.named("dir");
      change(p, r);
      p.store(r);
    };
  const name = "a file of the directory 3";
  t.deepEqual(await path(() => {}), [`/dir/${name}`]);
  t.deepEqual(await path(dir((_p, r) => r.put(22, 2, 0))), [`<orphan>/${name}`]);
  t.deepEqual(await path(dir((_p, r) => r.put(16, 2, 99))), [`<orphan>/${name}`]);
  t.deepEqual(await path(dir((_p, r) => r.put(r.value(0x30), 6, r.number).put(r.value(0x30) + 6, 2, 0))), [
    `<orphan>/${name}`,
  ]);
  t.deepEqual(
    await path(
      dir((p, r) => {
        const file = p.named(name);
        r.put(r.value(0x30), 6, file.number).put(r.value(0x30) + 6, 2, 0);
      }),
    ),
    [`<orphan>/${name}`],
  );
});
