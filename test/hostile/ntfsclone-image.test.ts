// Special images of ntfsclone that lie: typed errors that name the place, bounded memory, never a wrong "ok".
import test from "ava";
import { DATA } from "../../src/bytes/runs.ts";
import { FormatError, ImprintError, UnsupportedError } from "../../src/errors.ts";
import { CommandError } from "../../src/image/ntfsclone/commands.ts";
import { encodeHeader, type ImageGeometry } from "../../src/image/ntfsclone/header.ts";
import { openNtfscloneImage } from "../../src/image/ntfsclone/reader.ts";
import { frontToBack, ImageStream } from "../../src/image/ntfsclone/restore.ts";
import { MemorySource, MemoryTarget } from "../../src/io/memory.ts";
import { Random } from "../support/random.ts";

const GEOMETRY: ImageGeometry = { clusterSize: 512, deviceSize: 512 * 41, clusters: 40, inUse: 3 };

const gap = (n: bigint | number): Buffer => {
  const b = Buffer.alloc(9);
  b.writeBigInt64LE(BigInt(n), 1);
  return b;
};
const next = (fill: number, bytes = 512): Buffer =>
  Buffer.concat([Buffer.from([1]), Buffer.alloc(bytes, fill)]);

function image(
  commands: readonly Buffer[],
  change: (header: Buffer) => void = () => {},
  geometry = GEOMETRY,
): Buffer {
  const header = Buffer.from(encodeHeader(geometry));
  change(header);
  return Buffer.concat([header, ...commands]);
}

/** All bytes of an image through its random access, and through a restore; they have to agree. */
async function bothWays(bytes: Buffer): Promise<Buffer> {
  const opened = await openNtfscloneImage(new MemorySource(bytes));
  const all = Buffer.alloc(opened.size);
  for (let at = 0; at < all.length; at += 777) {
    const n = await opened.read(all.subarray(at, Math.min(at + 777, all.length)), at);
    if (n === 0) break;
  }
  const map = await opened.map(0, opened.size);
  for (let i = 0; i < map.count; i++)
    if (map.state[i] !== DATA && all.subarray(map.at[i], map.at[i] + map.length[i]).some((b) => b !== 0))
      throw new Error("a hole that holds something");
  const stream = await ImageStream.open(frontToBack(new MemorySource(bytes)));
  const target = new MemoryTarget();
  const { size } = await stream.restore(target);
  target.commit(size);
  if (!all.subarray(0, size).equals(target.bytes)) throw new Error("reading and restoring differ");
  return all;
}

async function failure(bytes: Buffer): Promise<ImprintError> {
  const errors: unknown[] = [];
  for (const job of [
    async () => {
      const opened = await openNtfscloneImage(new MemorySource(bytes));
      await opened.map(0, Math.max(opened.size, 1));
    },
    async () => (await ImageStream.open(frontToBack(new MemorySource(bytes)))).restore(null),
  ])
    await job().then(
      () => errors.push(null),
      (e: unknown) => errors.push(e),
    );
  if (!(errors[0] instanceof ImprintError) || !(errors[1] instanceof ImprintError))
    throw new Error(`no typed error: ${errors.map(String)}`);
  if (errors[0].message !== errors[1].message) throw new Error(errors.map(String).join(" / "));
  return errors[0];
}

test("a sound image, in order and not: what comes later counts", async (t) => {
  const plain = await bothWays(image([next(1), next(2), gap(38), next(3)]));
  t.deepEqual([plain[0], plain[512], plain[1024], plain[512 * 40]], [1, 2, 0, 3]);
  const mixed = await bothWays(
    image([
      gap(4),
      next(9),
      next(8),
      next(7),
      gap(-7),
      next(1),
      gap(4),
      next(5),
      gap(-6),
      next(6),
      gap(39),
      next(3),
    ]),
  );
  t.deepEqual(
    [0, 4, 5, 6, 40].map((c) => mixed[c * 512]),
    [6, 9, 5, 7, 3],
  );
});

test("older versions, odd offsets, no backup boot sector", async (t) => {
  const commands = [next(1), gap(38), next(2)];
  const old = Buffer.concat([image([]).subarray(0, 46), ...commands, gap(1).subarray(0, 0)]);
  old[16] = 3;
  t.is((await bothWays(old))[0], 1);
  const later = image([Buffer.alloc(44), ...commands], (h) => h.writeUInt32LE(100, 46));
  t.is((await bothWays(later))[0], 1);
  const early = image(commands, (h) => h.writeUInt32LE(7, 46));
  t.is((await failure(early)).name, "CommandError");
});

test("lies of the header", async (t) => {
  const commands = [next(1)];
  const cases: [(h: Buffer) => void, RegExp][] = [
    [(h) => h.writeUInt32LE(0, 18), /header at 0x12: cluster size 0/],
    [(h) => h.writeUInt32LE(0x80000000, 18), /cluster size 2147483648/],
    [(h) => h.writeUInt32LE(0xffffffff, 18), /cluster size 4294967295/],
    [(h) => h.writeBigInt64LE(-1n, 30), /header at 0x1e: -1 clusters/],
    [(h) => h.writeBigInt64LE(2n ** 62n, 30), /clusters/],
    [(h) => h.writeBigInt64LE(2n ** 45n, 30), /clusters|ends at byte/],
    [(h) => h.writeUInt32LE(0xffffffff, 46), /ends at byte/],
    [(h) => h.writeBigInt64LE(0n, 22), /invalid command code 1|behind the end|ends/],
    [(h) => (h[16] = 11), /version 11.1/],
    [(h) => (h[0] = 1), /no magic/],
  ];
  for (const [change, says] of cases) {
    const error = await failure(image(commands, change));
    t.regex(error.message, says);
    t.true(error instanceof FormatError || error instanceof UnsupportedError);
  }
  for (const length of [0, 15, 16, 40, 49])
    t.true((await failure(image([]).subarray(0, length))) instanceof FormatError);
});

test("streams that make no sense", async (t) => {
  const cases: [Buffer[], CommandError["fault"], number][] = [
    [[next(1), Buffer.from([7])], "command", 56 + 513],
    [[next(1), gap(0)], "zero gap", 56 + 513],
    [[next(1), gap(-2)], "gap", 56 + 513],
    [[next(1), gap(41)], "gap", 56 + 513],
    [[gap(2n ** 63n - 1n)], "gap", 56],
    [[gap(-(2n ** 63n))], "gap", 56],
    [[next(1)], "truncated", 56 + 513],
    [[next(1, 100)], "truncated", -1],
    [[next(1), gap(3).subarray(0, 4)], "truncated", 56 + 513],
    [[], "truncated", 56],
  ];
  for (const [commands, fault, offset] of cases) {
    const opened = await openNtfscloneImage(new MemorySource(image(commands)));
    const e = await t.throwsAsync(async () => void (await opened.map(0, 1)), { instanceOf: CommandError });
    t.is(e?.fault, fault);
    if (offset >= 0) t.is(e?.offset, offset, fault);
    const stream = await ImageStream.open(frontToBack(new MemorySource(image(commands))));
    const s = await t.throwsAsync(stream.restore(new MemoryTarget()), { instanceOf: CommandError });
    t.is(s?.fault, fault);
  }
});

test("altered at random: sound, or a typed error", async (t) => {
  const r = new Random(5);
  const sound = image([next(1), next(2), gap(9), next(3), gap(20), next(4), gap(7), next(5)]);
  let refused = 0;
  for (let i = 0; i < 1500; i++) {
    const b = Buffer.from(sound);
    for (let k = 0; k <= r.below(3); k++) {
      // Mostly the header and the commands.
      const spot = [r.below(56), 56, 569, 1082 + r.below(9), r.below(b.length)][r.below(5)];
      b[spot] = r.below(2) === 0 ? r.below(256) : b[spot] ^ (1 << r.below(8));
    }
    const cut = r.below(4) === 0 ? b.subarray(0, r.below(b.length)) : b;
    const stream = await ImageStream.open(frontToBack(new MemorySource(cut))).catch((e: unknown) => e);
    const result =
      stream instanceof ImageStream ? await stream.restore(null).catch((e: unknown) => e) : stream;
    const opened = await openNtfscloneImage(new MemorySource(cut)).catch((e: unknown) => e);
    if (opened instanceof Error) {
      t.true(opened instanceof ImprintError, String(opened));
      refused++;
      continue;
    }
    const map = await (async () =>
      (opened as Awaited<ReturnType<typeof openNtfscloneImage>>).map(0, 1))().catch((e: unknown) => e);
    t.is(map instanceof Error, result instanceof Error, `${i}: ${map} / ${result}`);
    if (map instanceof Error) {
      t.true(map instanceof ImprintError, String(map));
      refused++;
    }
  }
  t.true(refused > 100 && refused < 1400, `${refused}`);
});

test("to a stream: only what is in order and begins with the first cluster", async (t) => {
  for (const commands of [
    [gap(1), next(1), gap(38), next(2)],
    [next(1), next(2), gap(-2), next(3), gap(39), next(4)],
  ]) {
    const stream = await ImageStream.open(frontToBack(new MemorySource(image(commands))));
    const target = new MemoryTarget();
    const pipe = new Proxy(target, {
      get: (o, k) => (k === "seekable" ? false : (Reflect.get(o, k).bind?.(o) ?? Reflect.get(o, k))),
    });
    await t.throwsAsync(stream.restore(pipe), { instanceOf: UnsupportedError, code: "EORDER" });
  }
});

test("more runs than are kept: the same bytes and the same map, in any order", async (t) => {
  const random = new Random(77);
  const below = (n: number): number => random.below(n);
  for (const ordered of [true, false])
    for (const [clusterSize, clusters, most] of [
      [16, 3000, 40],
      [512, 3000, 64],
      [16384, 300, 32],
    ]) {
      const parts: Buffer[] = [];
      for (let lcn = 0, position = 0; lcn < clusters; ) {
        const to = ordered || below(3) > 0 ? lcn : below(clusters);
        if (to !== position) parts.push(gap(to - position));
        const end = Math.min(clusters, to + (below(9) === 0 ? 20 : 1 + below(3)));
        for (position = to; position < end; position++) parts.push(next(1 + below(255), clusterSize));
        lcn = Math.max(lcn, position) + below(3);
        if (lcn < clusters) continue;
        if (position < clusters) parts.push(gap(clusters - position));
        parts.push(next(1, clusterSize));
      }
      const geometry = { clusterSize, clusters, deviceSize: clusterSize * (clusters + 1), inUse: 0 };
      const bytes = image(parts, () => {}, geometry);
      const source = new MemorySource(bytes);
      const all = await openNtfscloneImage(source);
      const few = await openNtfscloneImage(source, most);
      const want = new Uint8Array(all.size);
      await all.read(want, 0);
      const got = new Uint8Array(all.size);
      t.is(await few.read(got, 0), want.length);
      const name = `${clusterSize} ${ordered}`;
      t.true(Buffer.from(want).equals(got), name);
      for (let i = 0; i < (ordered ? 200 : 20); i++) {
        const at = below(all.size);
        const part = new Uint8Array(1 + below(3 * clusterSize));
        const n = await few.read(part, at);
        if (!Buffer.from(part.subarray(0, n)).equals(want.subarray(at, at + n))) t.fail(`${name} at ${at}`);
      }
      t.deepEqual(await wholeMap(few), await wholeMap(all), name);
    }
});

async function wholeMap(image: Awaited<ReturnType<typeof openNtfscloneImage>>): Promise<number[][]> {
  const rows: number[][] = [];
  for (let from = 0; from < image.size; ) {
    const runs = await image.map(from, image.size);
    for (let i = 0; i < runs.count; i++) {
      const last = rows[rows.length - 1];
      if (last !== undefined && last[2] === runs.state[i]) last[1] += runs.length[i];
      else rows.push([runs.at[i], runs.length[i], runs.state[i]]);
    }
    from = runs.end;
  }
  return rows;
}
