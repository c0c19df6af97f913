import test from "ava";
import { NtfsError } from "../../../../src/fs/ntfs/errors.ts";
import {
  allocatedClusters,
  checkRuns,
  decodeRuns,
  endOf,
  joinRuns,
  runOf,
} from "../../../../src/fs/ntfs/runlist.ts";
import { Random } from "../../../support/random.ts";

function decode(bytes: readonly number[], lowestVcn = 0, highestVcn = 0): number[] {
  const b = Uint8Array.from(bytes);
  return [...decodeRuns({ bytes: b, from: 0, to: b.length, lowestVcn, highestVcn, structure: "runs" })];
}

test("mapping pairs", (t) => {
  t.deepEqual(decode([0]), []);
  t.deepEqual(decode([0x11, 0x30, 0x60, 0]), [0, 0x60, 0x30]);
  t.deepEqual(decode([0x21, 0x18, 0x34, 0x56, 0]), [0, 0x5634, 0x18]);
  t.deepEqual(
    decode([0x31, 0x38, 0x73, 0x25, 0x34, 0x32, 0x14, 0x01, 0xe5, 0x11, 0x02, 0]),
    [0, 0x342573, 0x38, 0x38, 0x363758, 0x114],
  );
  t.deepEqual(
    decode([0x11, 4, 16, 0x01, 6, 0x11, 2, 0xfe, 0]),
    [0, 16, 4, 4, -1, 6, 10, 14, 2],
    "a hole, and back",
  );
  t.deepEqual(
    decode([0x11, 4, 16, 0x01, 0, 0x11, 2, 4, 0]),
    [0, 16, 4, 4, 20, 2],
    "an empty hole is left out",
  );
  t.deepEqual(decode([0x11, 4, 0xff, 0]), [0, -1, 4], "LCN -1 is a hole too");
  t.deepEqual(decode([0x11, 4, 16, 0], 100, 103), [100, 16, 4], "a later extent");
  t.deepEqual(decode([0x44, 0, 0, 0, 0x40, 0, 0, 0, 0x40, 0]), [0, 2 ** 30, 2 ** 30], "fields of four bytes");
  t.deepEqual(decode([0x28, 5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0]), [0, 9, 5], "fields longer than needed");
});

test("broken mapping pairs are refused with native's words and errno", (t) => {
  const cases: [string, number[], number?, number?, number?][] = [
    ["no end", [0x11, 4, 16]],
    ["a pair past the end", [0x42, 4, 16]],
    ["no length", [0x10, 4, 0]],
    ["a negative length", [0x11, 0x80, 4, 0]],
    ["a length of 0", [0x11, 0, 4, 0]],
    ["a place before the volume", [0x11, 1, 0xf0, 0]],
    ["the wrong end", [0x11, 4, 16, 0], 0, 7],
    ["a huge length", [0x17, 1, 1, 1, 1, 1, 1, 0x7f, 4, 0]],
    ["a huge place", [0x71, 1, 1, 1, 1, 1, 1, 1, 0x7f, 0]],
    ["fifteen bytes", [0xff, ...Array<number>(30).fill(0x7f), 0]],
    ["a negative start", [0x11, 4, 16, 0], -1, 0, 22],
    ["a start near 2^63", [0x11, 4, 16, 0], 2 ** 63],
  ];
  for (const [title, bytes, lowest, highest, errno] of cases) {
    const error = t.throws(() => decode(bytes, lowest, highest), { instanceOf: NtfsError }, title);
    t.is(error.code, "NTFS_BAD_RUNLIST", title);
    t.is(error.nativeText, "ntfs_decompress_mapping_pairs", title);
    t.is(error.errno, errno ?? 5, title);
  }
});

test("any bytes decode or are refused, within bounds", (t) => {
  const random = new Random(4);
  let fine = 0;
  for (let round = 0; round < 5000; round++) {
    const b = random.fill(new Uint8Array(random.below(24)));
    if (round % 2 === 0) for (let i = 0; i < b.length; i += 4) b[i] = [0, 1, 0x11, 0x21][random.below(4)];
    try {
      const runs = decodeRuns({
        bytes: b,
        from: 0,
        to: b.length,
        lowestVcn: 0,
        highestVcn: 0,
        structure: "",
      });
      let next = 0;
      for (let i = 0; i < runs.length; i += 3) {
        t.is(runs[i], next);
        t.true(runs[i + 1] >= -1 && runs[i + 2] > 0);
        next += runs[i + 2];
      }
      t.true(Number.isSafeInteger(next));
      fine++;
    } catch (error) {
      t.true(error instanceof NtfsError);
    }
  }
  t.true(fine > 50);
});

test("finding, counting, checking and joining runs", (t) => {
  const a = Float64Array.from([0, 10, 4, 4, -1, 6]);
  const b = Float64Array.from([10, 50, 5]);
  t.is(endOf(a), 10);
  t.is(endOf(new Float64Array(0)), 0);
  t.is(allocatedClusters(a), 4);
  t.deepEqual(
    [0, 3, 4, 9, 10].map((vcn) => runOf(a, vcn)),
    [0, 0, 3, 3, -1],
  );
  const all = joinRuns([a, b], "both");
  t.deepEqual([...all], [...a, ...b]);
  t.is(runOf(all, 12), 6);
  t.throws(() => joinRuns([b, a], "both"), { code: "NTFS_BAD_RUNLIST" });
  t.throws(() => joinRuns([a, a], "both"), { code: "NTFS_BAD_RUNLIST" });
  t.notThrows(() => checkRuns(all, 55, "all"));
  t.throws(() => checkRuns(all, 54, "all"), { message: /clusters 50 to 54 of 54/ });
});
